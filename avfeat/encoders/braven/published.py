"""The published BRAVEn encoders: sizes, files, licence and card. Plain data: torch is not needed here."""

from __future__ import annotations

from avfeat.encoders.base import Card, Output, WeightFile
from avfeat.encoders.readers import MOUTHS, Sizes
from avfeat.timeline import RATE_HZ
from avfeat.views import SOUND, View

NAME = "braven-large"
SIZES = Sizes(width=1024, layers=24, ffn=4096, heads=16)

_DRIVE = "https://drive.google.com/file/d"
FILES = {
    "a": WeightFile(
        "asr_prelrs3vox2avs_large_ftlrs3vox2avs_selftrain_braven.pth",
        f"{_DRIVE}/1v_OPL9ZcEGeT8cSgLO5QX16esVFAuzbq",
        "",
        1_945_620_008,
    ),
    "v": WeightFile(
        "vsr_prelrs3vox2avs_large_ftlrs3vox2avs_selftrain_braven.pth",
        f"{_DRIVE}/1bU-bFxEiXNXNoOLKaAz6_9j7XuE7f_6r",
        "",
        1_974_956_840,
    ),
}
"""Stream to file. Fine-tuned and self-trained: of the lips it is the file that the deepfake paper names, of the sound
its sister."""


def card(mouth: View = MOUTHS["avhubert"]) -> Card:
    """Return the card of the encoder that cuts the mouth so."""
    return Card(
        name=NAME,
        summary="lips or sound: Large transformers, self-supervised, then fine-tuned to transcribe speech",
        outputs={"a": Output((SOUND,), SIZES.width), "v": Output((mouth,), SIZES.width)},
        rate_hz=RATE_HZ,
        first_seconds=0.5 / RATE_HZ,
        layers=SIZES.layers,
        licence="MIT",
        licence_note="The weights were trained on LRS3, VoxCeleb2 and AVSpeech, whose terms are non-commercial.",
        source="https://github.com/ahaliassos/raven",
        citation=(
            "Haliassos, Zinonos, Mira, Petridis, Pantic: BRAVEn: Improving Self-Supervised Pre-training for Visual and "
            "Auditory Speech Recognition, ICASSP 2024"
        ),
        weights=tuple(FILES.values()),
        self_supervised=False,
        gflop_per_second=35.0,  # v; a alone 24
    )


CARDS = {NAME: card()}

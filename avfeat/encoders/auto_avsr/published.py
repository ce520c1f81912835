"""The published Auto-AVSR encoders: sizes, files, licence and card. Plain data: torch is not needed here."""

from __future__ import annotations

from avfeat.encoders.base import Card, Output, WeightFile
from avfeat.encoders.readers import MOUTHS, Sizes
from avfeat.timeline import RATE_HZ
from avfeat.views import SOUND, View

NAME = "auto-avsr"
SIZES = Sizes(width=768, layers=12, ffn=3072, heads=12, kernel=31)
FUSION_WIDTH = 8192
"""Numbers between the two linear maps that join the streams."""

_DRIVE = "https://drive.google.com/file/d"
FILES = {
    "a": WeightFile("asr_trlrs3vox2_base.pth", f"{_DRIVE}/1YN9lwZN6iWn2qNQRpfpGpnf2r6ZTQqVT", "", 972_309_192),
    "v": WeightFile(
        "vsr_trlrs2lrs3vox2avsp_base.pth", f"{_DRIVE}/1r1kx7l9sWnDOCnaFHIGvOtzuhFyFA88_", "", 1_001_892_616
    ),
    "av": WeightFile(
        "avsr_trlrwlrs2lrs3vox2avsp_base.pth", "https://github.com/mpc001/auto_avsr/tree/v1.0.0", "", 1_776_198_864
    ),
}
"""Stream to file. There are other files of the same names in version 1.0.0's zoo, with other tensors: both are read."""


def card(mouth: View = MOUTHS["avhubert"]) -> Card:
    """Return the card of the encoder that cuts the mouth so."""
    return Card(
        name=NAME,
        summary="lips (VSR), sound (ASR) or both (AV): Conformers trained to transcribe speech",
        outputs={
            "a": Output((SOUND,), SIZES.width),
            "v": Output((mouth,), SIZES.width),
            "av": Output((SOUND, mouth), SIZES.width),
        },
        rate_hz=RATE_HZ,
        first_seconds=0.5 / RATE_HZ,
        layers=SIZES.layers,
        licence="code Apache-2.0; weights under the terms of their training data",
        licence_note=(
            "The weights carry the terms of LRS2, LRS3, VoxCeleb2 and AVSpeech: non-commercial research. Those of the "
            "Visual_Speech_Recognition_for_Multiple_Languages zoo are for non-commercial use by their own licence."
        ),
        source="https://github.com/mpc001/auto_avsr",
        citation=(
            "Ma, Haliassos, Fernandez-Lopez, Chen, Petridis, Pantic: Auto-AVSR: Audio-Visual Speech Recognition with "
            "Automatic Labels, ICASSP 2023"
        ),
        weights=tuple(FILES.values()),
        self_supervised=False,
        gflop_per_second=41.0,  # av; a alone 15, v alone 25
    )


CARDS = {NAME: card()}

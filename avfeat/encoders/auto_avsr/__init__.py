"""Auto-AVSR: lips and 16 kHz sound in, one vector for every 40 ms out.

Streams: ``a`` from the network trained on sound alone (ASR), ``v`` from the one for lips alone (VSR), ``av`` from the
third, which joins both (AV). ``@k`` is block k's own output, without the last norm, for ``a`` and ``v``.
"""

from __future__ import annotations

from avfeat.encoders.auto_avsr.published import CARDS, FILES, NAME, card
from avfeat.encoders.base import Encoder, Request
from avfeat.encoders.readers import CROP, MOUTHS, how_to_get
from avfeat.encoders.settings import Setting, chosen

__all__ = ["CARDS", "SETTINGS", "build", "missing"]

SETTINGS = {
    NAME: {
        "crop": CROP,
        "short_stream": Setting(
            "error",
            ("error", "fit"),
            "av, when sound and pictures differ by more than one step: fail, or cut or fill the sound",
        ),
    }
}


def missing(name: str) -> str:
    """Return what this machine lacks to run the encoder, one sentence, or ``""``."""
    return how_to_get(name, FILES)


def build(request: Request) -> Encoder:
    """Return the encoder, the weights of the streams asked for loaded.

    Raises:
        EncoderError: no such stream, layer or setting.
        WeightsError: the weights are not here, or not what they should be.
    """
    from avfeat.encoders.auto_avsr.encoder import AutoAvsrEncoder
    from avfeat.encoders.auto_avsr.loading import networks

    settings = chosen(NAME, request.settings, SETTINGS[NAME])
    streams = list(dict.fromkeys(name.stream for name in request.wanted))
    found, origin = networks(streams, request.weights, request.seed)
    mouth = MOUTHS[str(settings["crop"])]
    return AutoAvsrEncoder(card(mouth), request.wanted, found, settings, origin, request.device)

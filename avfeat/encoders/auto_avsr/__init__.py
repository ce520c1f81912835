"""Auto-AVSR: lips and 16 kHz sound in, one vector for every 40 ms out.

Streams: ``a`` from the network trained on sound alone (ASR), ``v`` from the one for lips alone (VSR), ``av`` from the
third, which joins both (AV). ``@k`` is block k's own output, without the last norm, for ``a`` and ``v``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avfeat.encoders.auto_avsr.published import CARDS, FILES, NAME, card
from avfeat.encoders.base import Card, Encoder, Request
from avfeat.encoders.readers import CROP, MOUTHS, how_to_get, published_folder
from avfeat.encoders.settings import Setting, chosen

__all__ = ["CARDS", "SETTINGS", "build", "card_of", "missing", "where"]

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


def card_of(name: str, settings: Mapping[str, Any]) -> Card:
    """Return the card of the encoder with these settings.

    Raises:
        EncoderError: no such setting.
    """
    return card(MOUTHS[str(chosen(name, settings, SETTINGS[name])["crop"])])


def where(name: str) -> Path:
    """Return the folder that the encoder's official files belong in."""
    return published_folder(name)


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
    own_card = card_of(request.encoder, request.settings)
    return AutoAvsrEncoder(own_card, request.wanted, found, settings, origin, request.device)

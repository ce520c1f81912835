"""BRAVEn: lips or 16 kHz sound in, one vector for every 40 ms out.

Streams: ``a`` from the network for sound, ``v`` from the one for lips. ``@k`` is block k's own output, without the last
norm. The sound is read as it is, between -1 and 1: nothing is normalised.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avfeat.encoders.base import Card, Encoder, Request
from avfeat.encoders.braven.published import CARDS, FILES, NAME, card
from avfeat.encoders.readers import CROP, MOUTHS, how_to_get, published_folder
from avfeat.encoders.settings import chosen

__all__ = ["CARDS", "SETTINGS", "build", "card_of", "missing", "where"]

SETTINGS = {NAME: {"crop": CROP}}


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
    from avfeat.encoders.branches import BranchEncoder
    from avfeat.encoders.braven.loading import networks

    settings = chosen(NAME, request.settings, SETTINGS[NAME])
    streams = list(dict.fromkeys(name.stream for name in request.wanted))
    found, origin = networks(streams, request.weights, request.seed)
    own_card = card_of(request.encoder, request.settings)
    return BranchEncoder(own_card, request.wanted, found, origin | {"settings": settings}, request.device)

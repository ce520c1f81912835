"""AV-HuBERT: lips and 16 kHz sound in, one vector for every 40 ms out.

Streams: ``a`` from the sound alone, ``v`` from the lips alone, ``av`` from both; a missing stream's half is zero after
its front-end, as in the reference. ``@k`` is block k's own output, without the last norm. A name that ends in
``-trimmed`` leaves out leading silence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from avfeat.encoders.avhubert.published import CARDS, PUBLISHED, Published, card
from avfeat.encoders.base import TRIMMED, Card, Encoder, Request
from avfeat.encoders.settings import Setting, chosen
from avfeat.views import MOUTH, MOUTH_COLOUR

__all__ = ["CARDS", "SETTINGS", "build", "card_of", "check", "fetch", "missing", "where"]

SETTINGS = {
    name: {
        "short_stream": Setting(
            "error",
            ("error", "trim"),
            "av, when sound and pictures differ by more than one step: fail, or cut the longer one",
        ),
        "common_length": Setting(
            "false",
            ("false", "true"),
            "true: a and v too are cut to the shorter of sound and pictures, as in the reference; each reads both then",
        ),
        "mouth_reencode": Setting(
            "false",
            ("false", "true"),
            "true: write the mouths, in colour, as lossy video and read them back first, as the reference does",
        ),
    }
    for name in CARDS
}


def _published(name: str) -> Published:
    """Return the published file behind an encoder of this family."""
    return PUBLISHED[name.removesuffix(TRIMMED)]


def card_of(name: str, settings: Mapping[str, Any]) -> Card:
    """Return the card of an encoder with these settings, which decide what its streams read.

    Raises:
        EncoderError: no such setting.
    """
    values = _settings(name, settings)
    mouth = MOUTH_COLOUR if values["mouth_reencode"] == "true" else MOUTH
    return card(name, mouth, values["common_length"] == "true")


def missing(name: str) -> str:
    """Return what this machine lacks to run the encoder, one sentence, or ``""``."""
    file = _published(name)
    return "" if file.converted.is_file() or file.official.is_file() else file.how_to_get


def where(name: str) -> Path:
    """Return where the encoder's weights are on this machine, or where the official file belongs."""
    file = _published(name)
    return file.converted if file.converted.is_file() else file.official


def fetch(name: str) -> Path:
    """Return the encoder's tensors on this machine, fetched and converted first where need be.

    Raises:
        WeightsError: they cannot be fetched; says which file to put where.
    """
    from avfeat.encoders.avhubert.files import get

    return get(_published(name))


def check(name: str) -> list[str]:
    """Return a sentence for each of the encoder's files here, hashed anew.

    Raises:
        WeightsError: one is not what it should be.
    """
    from avfeat.encoders.avhubert import files

    return files.check(_published(name))


def _settings(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    words = {key: str(value).lower() if isinstance(value, bool) else value for key, value in given.items()}
    return chosen(name, words, SETTINGS[name])


def build(request: Request) -> Encoder:
    """Return the encoder, its weights loaded.

    Raises:
        EncoderError: no such stream, layer or setting.
        WeightsError: the weights are not here, or not what they should be.
    """
    from avfeat.encoders.avhubert.encoder import AvHubertEncoder
    from avfeat.encoders.avhubert.loading import find_weights
    from avfeat.encoders.avhubert.state import model_of

    settings = _settings(request.encoder, request.settings)
    weights = find_weights(_published(request.encoder), request.weights, request.seed)
    return AvHubertEncoder(
        card_of(request.encoder, settings),
        request.wanted,
        model_of(weights.tensors, weights.architecture),
        settings,
        weights.provenance,
        trimmed=request.encoder.endswith(TRIMMED),
        device=request.device,
    )

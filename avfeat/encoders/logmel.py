"""Log-mel: 16 kHz sound in, 104 normalised log filterbank energies for every 40 ms out. No weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from avfeat.encoders import filterbank
from avfeat.encoders.base import Card, ClipEncoder, Encoder, FeatureName, Output, Request, Rows
from avfeat.encoders.settings import chosen
from avfeat.errors import TooShortError
from avfeat.timeline import RATE_HZ, SOUND_RATE_HZ
from avfeat.views import SOUND, Views

_ROW_SAMPLES = filterbank.WINDOW + (filterbank.JOINED - 1) * filterbank.HOP

CARD = Card(
    name="logmel",
    summary="26 log mel bands of four 10 ms steps joined, normalised row by row: what AV-HuBERT reads of the sound",
    outputs={"": Output((SOUND,), filterbank.WIDTH)},
    rate_hz=RATE_HZ,
    first_seconds=_ROW_SAMPLES / 2 / SOUND_RATE_HZ,
    layers=0,
    licence="Apache-2.0",
    source="computed here; no weights",
    citation="Shi et al., Learning Audio-Visual Speech Representation by Masked Multimodal Cluster Prediction, 2022",
)
CARDS = {CARD.name: CARD}


class LogMel(ClipEncoder):
    """See ``filterbank.stacked_filterbank``."""

    card = CARD

    def __init__(self, request: Request):
        chosen(CARD.name, request.settings, {})
        self.wanted = request.wanted
        self.provenance: dict[str, Any] = {"versions": {"numpy": np.__version__}}

    def encode(self, views: Views, wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows]:
        """Return float32 [rows, 104].

        Raises:
            TooShortError: there is not one sample.
        """
        assert views.sound is not None
        if not len(views.sound):
            raise TooShortError("the sound track holds no sample.")
        rows = filterbank.stacked_filterbank(views.sound)
        return {name: rows for name in wanted}


def build(request: Request) -> Encoder:
    """Return the encoder; there is nothing to choose."""
    return LogMel(request)

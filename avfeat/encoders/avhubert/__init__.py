"""AV-HuBERT: lips and 16 kHz sound in, one vector for every 40 ms out.

Streams: ``a`` from the sound alone, ``v`` from the lips alone, ``av`` from both; a missing stream's half is zero after
its front-end, as in the reference. ``@k`` is block k's own output, without the last norm. A name that ends in
``-trimmed`` leaves out leading silence.
"""

from __future__ import annotations

from avfeat.encoders.avhubert.published import CARDS, PUBLISHED, TRIMMED, Published
from avfeat.encoders.base import Encoder, Request
from avfeat.encoders.settings import Setting, chosen

__all__ = ["CARDS", "SETTINGS", "build", "missing", "published"]

SETTINGS = {
    name: {
        "short_stream": Setting(
            "error",
            ("error", "trim"),
            "av, when sound and pictures differ by more than one step: fail, or cut the longer one",
        ),
    }
    for name in CARDS
}


def published(name: str) -> Published:
    """Return the published file behind an encoder of this family."""
    return PUBLISHED[name.removesuffix(TRIMMED)]


def missing(name: str) -> str:
    """Return what this machine lacks to run the encoder, one sentence, or ``""``."""
    file = published(name)
    return "" if file.converted.is_file() or file.official.is_file() else file.how_to_get


def build(request: Request) -> Encoder:
    """Return the encoder, its weights loaded.

    Raises:
        EncoderError: no such stream, layer or setting.
        WeightsError: the weights are not here, or not what they should be.
    """
    from avfeat.encoders.avhubert.encoder import AvHubertEncoder
    from avfeat.encoders.avhubert.loading import find_weights
    from avfeat.encoders.avhubert.state import model_of

    settings = chosen(request.encoder, request.settings, SETTINGS[request.encoder])
    weights = find_weights(published(request.encoder), request.weights, request.seed)
    return AvHubertEncoder(
        CARDS[request.encoder],
        request.wanted,
        model_of(weights.tensors, weights.architecture),
        settings,
        weights.origin,
        trimmed=request.encoder.endswith(TRIMMED),
        device=request.device,
    )

"""The table of encoders: names anyone can read; a module is loaded only when its encoder is asked for.

A module of the table is light to import (no torch, no transformers) and defines ``CARDS``, name to Card, and
``build(request)``. It may define ``missing(name)``, what this machine lacks in one sentence or ``""``; ``SETTINGS``,
name to the settings of that encoder; ``card_of(name, settings)``, where settings change what the card says. Other
distributions add encoders through entry points of the group ``avfeat.encoders``, e.g. ``my-encoder =
"my_package.my_module"``; a name of the table here cannot be taken over.
"""

from __future__ import annotations

import difflib
import importlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from avfeat.encoders import hf
from avfeat.encoders.base import RANDOM, TRIMMED, Card, Encoder, FeatureName, Request
from avfeat.errors import AvfeatError, EncoderError

ENCODERS = {
    "logmel": "avfeat.encoders.logmel",
    "landmarks": "avfeat.encoders.landmarks",
    "xlsr-2b": "avfeat.encoders.hf",
    "auto-avsr": "avfeat.encoders.auto_avsr",
    "braven-large": "avfeat.encoders.braven",
    "avhubert-base": "avfeat.encoders.avhubert",
    "avhubert-base-trimmed": "avfeat.encoders.avhubert",
    "avhubert-large": "avfeat.encoders.avhubert",
    "avhubert-large-trimmed": "avfeat.encoders.avhubert",
    "avhubert-large-iter5": "avfeat.encoders.avhubert",
    "avhubert-large-iter5-trimmed": "avfeat.encoders.avhubert",
    "clip-vit-l14": "avfeat.encoders.hf",
    "clip-vit-l14-face": "avfeat.encoders.hf",
    "fsfm-vit-b16": "avfeat.encoders.fsfm",
    "videomae-large": "avfeat.encoders.hf",
    "videomae-large-face": "avfeat.encoders.hf",
    "xlsr-300m": "avfeat.encoders.hf",
    "hubert-large": "avfeat.encoders.hf",
    "wavlm-large": "avfeat.encoders.hf",
    "whisper-large-v3": "avfeat.encoders.hf",
    "dinov2-large": "avfeat.encoders.hf",
    "siglip2-large": "avfeat.encoders.hf",
    "vjepa2-vitl": "avfeat.encoders.hf",
}

SEED = 0
"""Of the random weights of a name that ends in ``-random``, unless another is given."""

GROUP = "avfeat.encoders"
"""Entry points of this group are encoders of other distributions."""


def known_encoders() -> dict[str, str]:
    """Return name to module for every encoder: ours first, then those of other distributions, by name."""
    others = {point.name: point.value for point in entry_points(group=GROUP)}
    return ENCODERS | {name: others[name] for name in sorted(others) if name not in ENCODERS}


def card_of(name: str, settings: Mapping[str, Any] | None = None) -> Card:
    """Return the card of the encoder called ``name`` in the table, or of the checkpoint ``hf:PLACE[:view]``.

    Args:
        name: as in ``Request.encoder``.
        settings: as in ``Request.settings``; what an encoder reads may depend on them.

    Raises:
        EncoderError: there is no such encoder or setting, or its module cannot be loaded.
        WeightsError: the checkpoint's description is not there and cannot be fetched.
    """
    module = hf if hf.is_adapted(name) else _module(name)
    card: Card = module.card_of(name, settings or {}) if hasattr(module, "card_of") else module.CARDS[name]
    return card


def build_encoder(request: Request) -> Encoder:
    """Return the encoder, its weights loaded, ready to run.

    Raises:
        EncoderError: no such encoder, stream, layer or setting.
        WeightsError: its weights are missing, or are not what it needs.
        SetupError: this machine lacks something.
    """
    encoder: Encoder = (hf if hf.is_adapted(request.encoder) else _module(request.encoder)).build(request)
    for feature in request.wanted:
        encoder.card.output(feature)
    if not encoder.card.weights:
        return encoder  # no network: there is nothing to compute otherwise
    if request.compile:
        from avfeat.encoders.computing import compile_blocks

        compile_blocks(encoder, request.device)
    if request.dtype_compute != "fp32":
        from avfeat.encoders.computing import HalfEncoder

        encoder = HalfEncoder(encoder, request.device, request.dtype_compute)
    return encoder


def resolve(
    texts: Sequence[str],
    *,
    weights: Path | None = None,
    seed: int | None = None,
    device: str = "cpu",
    settings: Mapping[str, Any] | None = None,
) -> list[Request]:
    """Read feature names as users type them; features of one encoder share a request, and so one load and one pass.

    Args:
        texts: ``<encoder>[.<stream>][@<layer>]``, or ``hf:OWNER/NAME[:frame|face][@<layer>]`` and
            ``hf:/path/to/folder[:frame|face][@<layer>]`` for a checkpoint that transformers can load; names given
            twice count once.
        weights: a file or folder in place of the card's own weights; only with a single encoder.
        seed: random weights for every encoder that has weights; ``-random`` is added to its name. A name that
            already ends in ``-random`` has seed 0 unless another is given.
        device: a torch device for all.
        settings: named choices; only with a single encoder.

    Returns:
        One request for each encoder, in the order of ``texts``.

    Raises:
        EncoderError: an unknown name (the message lists near ones and all there are), stream or layer.
    """
    requests: dict[tuple[str, int | None], Request] = {}
    for text in texts:
        request = _read(text, seed)
        key = request.encoder, request.seed
        if key in requests:
            both = dict.fromkeys((*requests[key].wanted, *request.wanted))
            requests[key] = replace(requests[key], wanted=tuple(both))
        else:
            requests[key] = request
    for one, other in itertools.combinations(requests.values(), 2):
        name = one.wanted[0].encoder
        if name == other.wanted[0].encoder:
            raise EncoderError(f"{one.encoder} and {other.encoder} would both be called {name}: leave one out.")
    if (weights is not None or settings) and len(requests) > 1:
        names = ", ".join(request.encoder for request in requests.values())
        what = "weights" if weights is not None else "settings"
        raise EncoderError(
            f"the {what} belong to one encoder and {len(requests)} were named ({names}): run them apart."
        )
    return [
        replace(request, weights=weights, device=device, settings=dict(settings or {})) for request in requests.values()
    ]


def trimmed(texts: Sequence[str]) -> list[str]:
    """Return the names of the same features without leading silence, e.g. ``avhubert-base-trimmed-random.a``.

    Raises:
        EncoderError: an encoder has no such form; lists those that have.
    """
    return [_trimmed(text) for text in texts]


def _trimmed(text: str) -> str:
    known = known_encoders()
    feature = None if hf.is_adapted(text) else FeatureName.parse(text)
    base = feature.encoder.removesuffix(RANDOM).removesuffix(TRIMMED) if feature else ""
    if feature is None or base + TRIMMED not in known:
        able = ", ".join(name.removesuffix(TRIMMED) for name in known if name.endswith(TRIMMED))
        raise EncoderError(f"{text}: leading silence can be trimmed for {able} alone; extract the others apart.")
    return str(replace(feature, encoder=base + TRIMMED + (RANDOM if feature.is_random else "")))


def catalogue() -> list[dict[str, object]]:
    """Return a row of plain data for each encoder: its card in short, and what this machine lacks to run it."""
    rows = []
    for name in known_encoders():
        try:
            rows.append(describe(name))
        except AvfeatError as error:
            rows.append({"name": name, "available": False, "missing": str(error)})
    return rows


def describe(name: str) -> dict[str, object]:
    """Return the whole card of one encoder of the table as plain data, its settings, what this machine lacks for it.

    Args:
        name: with ``-random`` behind it, the encoder with random numbers for weights, which needs no file.

    Raises:
        EncoderError: there is no such encoder, or its module cannot be loaded.
    """
    trained = name.removesuffix(RANDOM)
    card, module = card_of(trained), _module(trained)
    if trained != name and not card.weights:
        raise EncoderError(f"{name}: {trained} has no weights that could be random.")
    card = card if trained == name else card.untrained()
    missing = module.missing(name) if hasattr(module, "missing") and trained == name else ""
    settings = module.SETTINGS[trained] if hasattr(module, "SETTINGS") else {}
    return {
        "name": name,
        "summary": card.summary,
        "streams": [stream for stream in card.outputs if stream],
        "reads": {stream: [view.kind for view in output.reads] for stream, output in card.outputs.items()},
        "input": {stream: [view.words() for view in output.reads] for stream, output in card.outputs.items()},
        "width": {stream: output.width for stream, output in card.outputs.items()},
        "output": {stream: f"float32 [rows, {output.width}]" for stream, output in card.outputs.items()},
        "rate_hz": card.rate_hz,
        "first_seconds": card.first_seconds,
        "layers": card.layers,
        "gflop_per_second": card.gflop_per_second,
        "self_supervised": card.self_supervised,
        "licence": card.licence,
        "licence_note": card.licence_note,
        "source": card.source,
        "citation": card.citation,
        "weights": [file.name for file in card.weights] if trained == name else [f"random numbers, seed {SEED}"],
        "settings": {key: asdict(setting) | {"choices": list(setting.choices)} for key, setting in settings.items()},
        "available": not missing,
        "missing": missing,
    }


def lacking(text: str) -> str:
    """Return what this machine lacks to extract a feature, e.g. "its weights … are not here: …"; empty when nothing.

    Nothing can be known of a name that is not in the table, as imported features may have, nor of ``hf:`` ones.
    """
    if hf.is_adapted(text):
        return ""
    try:
        feature = FeatureName.parse(text)
        encoder = feature.encoder.removesuffix(RANDOM)
        return "" if feature.is_random else str(describe(encoder)["missing"])
    except EncoderError:
        return ""


def _read(text: str, seed: int | None) -> Request:
    if hf.is_adapted(text):
        encoder, feature = hf.parse(text)
        asked_random = False
    else:
        feature = FeatureName.parse(text)
        encoder, asked_random = feature.encoder.removesuffix(RANDOM), feature.is_random
        feature = replace(feature, encoder=encoder)
    card = card_of(encoder)
    if asked_random and not card.weights:
        raise EncoderError(f"{text}: {encoder} has no weights that could be random; name it {encoder}.")
    if not card.weights:
        seed = None
    elif asked_random and seed is None:
        seed = SEED
    card.output(feature)
    wanted = feature if seed is None else replace(feature, encoder=feature.encoder + RANDOM)
    return Request(encoder, (wanted,), seed=seed)


def _module(name: str) -> ModuleType:
    known = ENCODERS if name in ENCODERS else known_encoders()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f" Did you mean {' or '.join(near)}?" if near else ""
        raise EncoderError(f"there is no encoder {name!r}.{hint} There are: {', '.join(known)}.")
    try:
        module = importlib.import_module(known[name])
    except Exception as error:  # whatever another distribution's module does at import is its own fault, not ours
        raise EncoderError(
            f"the encoder {name} cannot be loaded: importing {known[name]} failed ({type(error).__name__}: {error})."
        ) from error
    if name not in getattr(module, "CARDS", {}) or not hasattr(module, "build"):
        raise EncoderError(f"the encoder {name} cannot be loaded: {known[name]} has no card of that name or no build.")
    return module

"""New files through the very encoders that made a stored feature: what a probe needs to score a video."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from avfeat.device import resolve_device
from avfeat.encoders import build_encoder
from avfeat.encoders.base import Encoder, FeatureName, Request, Rows
from avfeat.errors import ClipError, EncoderError
from avfeat.extract import ClipResult, encode_clips
from avfeat.options import Options, Spent
from avfeat.pool import Pool
from avfeat.produce import FOLLOWS_FACE, Job
from avfeat.provenance import feature_attributes
from avfeat.session import landmarker_model, worker_count
from avfeat.views import ViewSettings


@dataclass(frozen=True)
class FileRows:
    """One feature of one file: rows float32 [T, D], row k at ``first_seconds + k / rate_hz``."""

    rows: Rows
    first_seconds: float


def encode_files(
    paths: Sequence[Path],
    features: Sequence[str],
    *,
    like: Mapping[str, Mapping[str, Any]],
    weights: Path | None = None,
    options: Options | None = None,
) -> Iterator[tuple[Path, dict[str, FileRows] | ClipError]]:
    """Yield for each file, in the order given, its rows of all ``features``, or why it has none.

    Args:
        paths: media files.
        features: names of stored features.
        like: the attributes of each, as ``Feature.attributes`` has them: encoder, weights, seed, settings and views are
            taken from there, so that a new file gets what the stored clips got.
        weights: where the weights are now, if not where they were; needs a single encoder.
        options: device, workers, landmarker and time limit.

    Raises:
        EncoderError: what can be built here is not what made the stored feature; names what differs.
        AvfeatError: weights are missing, or this machine lacks something.
    """
    options = options or Options()
    encoders, views = encoders_like(features, like, weights, options.device)
    reads = frozenset(view for encoder in encoders for view in encoder.reads())
    names = [name for encoder in encoders for name in encoder.wanted]
    jobs = [Job(str(path), path, reads, views) for path in paths]
    follows = any(view.kind in FOLLOWS_FACE for view in reads)
    model = landmarker_model(replace(options, views=views)) if follows else None
    results: dict[int, ClipResult] = {}

    def finished(index: int, result: ClipResult) -> None:
        results[index] = result

    with Pool(worker_count(options.workers, len(jobs)), model, options.silent_seconds) as pool:
        encode_clips(jobs, {job.clip_id: names for job in jobs}, encoders, pool, Spent(), finished)
    for index, path in enumerate(paths):
        yield path, _whole(results[index], features, like)


def encoders_like(
    features: Sequence[str], like: Mapping[str, Mapping[str, Any]], weights: Path | None, device: str
) -> tuple[list[Encoder], ViewSettings]:
    """Return the very encoders that made stored features, and how their views were cut.

    Args:
        features, like, weights: as in ``encode_files``.
        device: ``auto``, ``cpu`` or ``cuda:N``.

    Raises:
        EncoderError, AvfeatError: as ``encode_files``.
    """
    encoders = [build_encoder(request) for request in _requests(features, like, weights, resolve_device(device))]
    views = _view_settings(features, like)
    for encoder in encoders:
        for name in encoder.wanted:
            _compare(str(name), feature_attributes(encoder, name, views)["identity"], like[str(name)]["identity"])
    return encoders, views


def _requests(
    features: Sequence[str], like: Mapping[str, Mapping[str, Any]], weights: Path | None, device: str
) -> list[Request]:
    """Return the requests that made the stored features, one for each encoder as it was asked for."""
    grouped: dict[str, tuple[Mapping[str, Any], list[FeatureName]]] = {}
    for text in features:
        asked = like[text].get("asked")
        if asked is None:
            raise EncoderError(f"{text} was imported: no encoder here makes it, so it cannot be had of new files.")
        grouped.setdefault(repr(asked), (asked, []))[1].append(FeatureName.parse(text))
    if weights is not None and len(grouped) > 1:
        raise EncoderError("the weights belong to one encoder and this probe reads several: leave them out.")
    requests = []
    for asked, names in grouped.values():
        place = weights or (Path(asked["weights"]) if asked["weights"] else None)
        settings = dict(asked["settings"])
        dtype_compute = asked.get("dtype_compute", "fp32")
        requests.append(Request(asked["encoder"], tuple(names), place, asked["seed"], device, settings, dtype_compute))
    return requests


def _view_settings(features: Sequence[str], like: Mapping[str, Mapping[str, Any]]) -> ViewSettings:
    stored = [like[text]["identity"]["views"] for text in features if "views" in like[text]["identity"]]
    if any(each != stored[0] for each in stored):
        raise EncoderError(f"{', '.join(features)} were made with different view settings; score them apart.")
    return ViewSettings(**stored[0]) if stored else ViewSettings()


def _compare(name: str, here: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
    differing = sorted(key for key in here.keys() | stored.keys() if here.get(key) != stored.get(key))
    if differing:
        raise EncoderError(
            f"{name} here is not what made the stored feature; these differ: "
            + "; ".join(f"{key} ({stored.get(key)} there, {here.get(key)} here)" for key in differing)
        )


def _whole(
    result: ClipResult, features: Sequence[str], like: Mapping[str, Mapping[str, Any]]
) -> dict[str, FileRows] | ClipError:
    rows: dict[str, FileRows] = {}
    for name in features:
        value = result.rows[name]
        if isinstance(value, ClipError):
            return value
        rows[name] = FileRows(value, result.first_seconds.get(name, float(like[name]["first_seconds"])))
    return rows

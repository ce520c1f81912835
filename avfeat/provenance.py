"""What the store is told of a feature: all that decides its numbers, licence, source, and the versions that made it."""

from __future__ import annotations

import platform
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from avfeat.clip import library_versions
from avfeat.encoders.base import Encoder, FeatureName
from avfeat.landmarks import MODEL_SHA256
from avfeat.landmarks_dlib import PREDICTOR_LICENCE, PREDICTOR_SHA256, dlib_version
from avfeat.media import ffmpeg_version
from avfeat.produce import FOLLOWS_FACE
from avfeat.timeline import RATE_HZ
from avfeat.views import SOUND, ViewSettings, view_versions

PICTURE_RULE = "25 Hz from presentation time 0; frame k is the last source frame with floor(25 pts + 0.5) <= k"
SOUND_RULE = "16 kHz mono through 16-bit integers, from presentation time 0"


def feature_attributes(encoder: Encoder, name: FeatureName, views: ViewSettings) -> dict[str, Any]:
    """Return what a feature says of itself in the store: its card, all that decides its numbers, and the versions."""
    card = encoder.card.untrained() if name.is_random else encoder.card
    reads = card.output(name).reads
    provenance = {key: value for key, value in encoder.provenance.items() if key != "versions"}
    identity: dict[str, Any] = {
        "encoder": card.name,
        "stream": name.stream,
        "layer": name.layer,
        "reads": [asdict(view) for view in sorted(reads)],
        "provenance": provenance,
    }
    if SOUND in reads:
        identity["sound"] = SOUND_RULE
    if any(view.kind != "sound" for view in reads):
        identity["pictures"] = PICTURE_RULE
    if any(view.kind in FOLLOWS_FACE for view in reads):
        identity["views"] = asdict(views)
        identity["landmarker_sha256"] = landmarker_sha256(views)
    return {
        "rate_hz": card.rate_hz,
        "first_seconds": card.first_seconds,
        "identity": identity,
        "summary": card.summary,
        "licence": card.licence,
        "licence_note": card.licence_note,
        "source": card.source,
        "citation": card.citation,
        "self_supervised": card.self_supervised,
        "dtype_compute": provenance.get("dtype_compute", "fp32"),
        "made_with": versions() | encoder.provenance.get("versions", {}),
    }


def track_attributes(views: ViewSettings) -> dict[str, Any]:
    """Return what the feature ``track`` says of itself in the store."""
    by_dlib = views.landmarks == "dlib"
    return {
        "rate_hz": float(RATE_HZ),
        "first_seconds": 0.5 / RATE_HZ,
        "identity": {"landmarker_sha256": landmarker_sha256(views), "pictures": PICTURE_RULE},
        "summary": "the followed face: 68 points in pixels, 52 blendshapes, whether it was seen, how many faces were",
        "licence": PREDICTOR_LICENCE if by_dlib else "Apache-2.0",
        "made_with": versions() | ({"dlib": dlib_version()} if by_dlib else {}),
    }


def landmarker_sha256(views: ViewSettings) -> str:
    """Return the hash of the model that finds the landmarks."""
    return PREDICTOR_SHA256 if views.landmarks == "dlib" else MODEL_SHA256


def versions() -> dict[str, str]:
    """Return the versions of all that decides what an encoder sees."""
    ours = {"python": platform.python_version()}
    ours |= {package: version(package) for package in ("avfeat", "mediapipe", "zarr")}
    return ours | library_versions() | view_versions() | {"ffmpeg": ffmpeg_version()}

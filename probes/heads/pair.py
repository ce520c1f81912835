"""What the heads that compare picture and sound share: exactly two features, the video's first, then the audio's."""

from __future__ import annotations

from typing import Any

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.heads.base import Clips
from probes.heads.training import real_clips

NAMES = ("video", "audio")
"""What the two halves of arrays are called."""

_STREAMS = {"v": "video", "video": "video", "visual": "video", "a": "audio", "audio": "audio"}
"""Streams whose name says what they show: ``avhubert-large.a`` is audio, ``avhubert-large.v@9`` is video."""


def as_pair(clips: Clips, labels: Any, what: str) -> tuple[FeatureSet, list[int]]:
    """Return a set of a video and an audio feature, in this order, and the numbers of its real clips.

    Arrays hold both side by side, of equal width; for features of unequal width a FeatureSet knows the widths.

    Raises:
        ProbeError: not two features, their streams' names say that they are the other way round, arrays of an odd
            width, or no clip labelled 0.
    """
    data, real = real_clips(clips, labels, what)
    if not isinstance(clips, FeatureSet):
        half, odd = divmod(data.width, 2)
        if odd:
            raise ProbeError(f"{what}: arrays hold video and audio side by side, but these are {data.width} wide.")
        data = FeatureSet.from_frames(
            data.frames, data.offsets, data.labels.numpy(), features=NAMES, widths=(half, half)
        )
    check_pair(data.features)
    return data, real


def check_pair(features: tuple[str, ...]) -> None:
    """Refuse features that are not one of video and one of audio, in this order.

    Raises:
        ProbeError: not two, or their streams' names say that they are the other way round.
    """
    if len(features) != 2:
        raise ProbeError(
            f"This head compares a video feature with an audio feature, in this order; "
            f"it was given {len(features)}: {', '.join(features)}."
        )
    shows = [_STREAMS.get(name.partition("@")[0].rpartition(".")[2]) for name in features]
    if shows[0] == "audio" or shows[1] == "video":
        raise ProbeError(f"The video feature comes first, then the audio: name {features[1]} before {features[0]}.")

"""When in a clip the score comes from: the scores of its frames over time, beside its fake segments.

A linear probe scores each frame, z_t = w·x_t/|x_t| + b; sigmoid(2 z_t) is what that frame alone would make the
probability of fake, and 0 and 0.5 are where real ends and fake begins. A clip's own score pools its frames: by
log-sum-exp, many frames a little below 0 can still make a clip fake.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfeat.errors import ProbeError
from probes.frame_measures import stretches_column
from probes.heads import Head
from probes.loading import Loaded
from probes.localization import Segment, Track

KINDS = {"audio_segments": "sound", "video_segments": "picture", "segments": "fake"}
"""Columns of a manifest with fake stretches, the finer first, and the word for what is fake there."""


@dataclass(frozen=True)
class Trace:
    """One clip through one probe.

    label: 0 real, 1 fake, -1 unknown.
    score: of the whole clip.
    scores: z, float32 [frames], at ``first_seconds + k * step_seconds``.
    segments: fake stretches in seconds, of what was asked for; None unknown.
    kinds: all fake stretches by what is fake there: sound, picture, or ``fake`` where nobody says what.
    """

    clip_id: str
    label: int
    score: float
    scores: NDArray[np.float32]
    first_seconds: float
    step_seconds: float
    segments: Sequence[Segment] | None = None
    kinds: Mapping[str, Sequence[Segment]] = field(default_factory=dict)

    @property
    def times_seconds(self) -> NDArray[np.float64]:
        """The middle of each frame, float64 [frames]."""
        times: NDArray[np.float64] = self.first_seconds + self.step_seconds * np.arange(
            len(self.scores), dtype=np.float64
        )
        return times

    @property
    def probabilities(self) -> NDArray[np.float64]:
        """sigmoid(2 z) of each frame, float64 [frames]."""
        found: NDArray[np.float64] = 0.5 * (1 + np.tanh(self.scores.astype(np.float64)))
        return found

    @property
    def top_seconds(self) -> float:
        """The middle of the frame with the highest score, the first of several."""
        return self.first_seconds + self.step_seconds * int(np.argmax(self.scores))

    def track(self) -> Track:
        """Return what measures of localization read.

        Raises:
            ProbeError: nobody says where the clip is fake.
        """
        if self.segments is None:
            raise ProbeError(f"{self.clip_id}: its manifest does not say where it is fake.")
        return Track(self.scores, self.segments, self.first_seconds, self.step_seconds)


def traces(probe: Head, loaded: Loaded, column: str = "segments") -> list[Trace]:
    """Return the frame scores of all clips of a loaded set, in its order.

    Args:
        column: of the manifest, where ``Trace.segments`` are from; ``stretches_for`` knows what a probe can find.

    Raises:
        ProbeError: the frames are not those that the probe reads.
    """
    data = loaded.data
    found = []
    clips = zip(
        data.clip_ids, data.labels.tolist(), probe.decision_function(data), probe.frame_scores(data), strict=True
    )
    for row, (clip_id, label, score, scores) in enumerate(clips):
        segments = _pairs(loaded.rows[column][row])
        told = fake_stretches({each: loaded.rows[each][row] for each in KINDS})
        start, step = float(loaded.starts[row]), loaded.times[1]
        found.append(Trace(clip_id, label, float(score), scores, start, step, segments, told))
    return found


def fake_stretches(row: Mapping[str, Any]) -> dict[str, Sequence[Segment]]:
    """Return a manifest row's fake stretches in seconds by kind; ``segments`` only where no finer column has any."""
    told = {kind: stretches for column, kind in KINDS.items() if (stretches := _pairs(row[column]))}
    if len(told) > 1:
        told.pop("fake", None)
    return told


def stretches_for(loaded: Loaded, attributes: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the column of fake stretches that fits what the features read; all stretches where none is known.

    Args:
        attributes: of each feature as the store has them.
    """
    try:
        return stretches_column(loaded, attributes)[0]
    except ProbeError:
        return "segments"


def _pairs(stretches: Sequence[Mapping[str, float]] | None) -> Sequence[Segment] | None:
    if stretches is None:
        return None
    return [(each["start_seconds"], each["end_seconds"]) for each in stretches]

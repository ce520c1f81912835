"""The silence before speech, a known shortcut: how often a probe's highest frame lies there, and what it is worth.

Speech starts at the first sample above 5e-4 in magnitude. Trimming leaves out the frames that AVH-Align's rule drops:
the first int(25 s) + 1 for speech that starts at s > 0 seconds. Here they are dropped from features that were made of
the whole clip; features that are extracted without the silence (``avfeat extract --trim-silence``) may differ, since a
network with attention over time has then never heard it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfeat.audit_measure import leading_silence_seconds
from avfeat.clip import Clip
from avfeat.errors import ClipError, ProbeError
from avfeat.timeline import RATE_HZ, SOUND_RATE_HZ
from probes.explain.temporal import traces
from probes.featureset import FeatureSet
from probes.heads import Head
from probes.intervals import Measure, measure
from probes.loading import Loaded


@dataclass(frozen=True)
class Silence:
    """What the leading silence of a test set is worth to a probe.

    clips: those whose speech starts somewhere and that have a frame after it; all numbers are over these.
    left_out: clip_id to a sentence.
    silent_seconds: the median silence of real and of fake clips.
    tops: share of all, of real and of fake clips whose highest frame is before speech starts; NaN without such clips.
    auc, auc_trimmed: with and without the frames before speech; None when the clips are of one class.
    """

    clips: int
    left_out: Mapping[str, str]
    silent_seconds: tuple[float, float]
    tops: tuple[float, float, float]
    auc: Measure | None
    auc_trimmed: Measure | None

    def facts(self) -> dict[str, Any]:
        """Plain data; what is not known is None."""
        return {
            "clips": self.clips,
            "left_out": dict(self.left_out),
            "median_silence_seconds": dict(zip(("real", "fake"), map(_or_none, self.silent_seconds), strict=True)),
            "tops_in_silence": dict(zip(("all", "real", "fake"), map(_or_none, self.tops), strict=True)),
            "auc": None if self.auc is None else asdict(self.auc),
            "auc_trimmed": None if self.auc_trimmed is None else asdict(self.auc_trimmed),
        }


def speech_start(path: Path, clip_id: str) -> float | None:
    """Return when speech starts, in seconds; None when no sample of the sound is above the threshold.

    Raises:
        ClipError: the file cannot be read or has no sound.
    """
    with Clip(path, clip_id, pictures=False) as clip:
        sound = clip.sound()
    seconds = leading_silence_seconds(sound)
    return None if seconds >= len(sound) / SOUND_RATE_HZ else seconds


def leading_silence(probe: Head, loaded: Loaded, paths: Mapping[str, Path]) -> Silence:
    """Measure one probe on one test set.

    Args:
        paths: clip_id to the media file.

    Raises:
        ProbeError: of no clip the start of speech can be told.
    """
    left_out: dict[str, str] = {}
    starts: dict[str, float] = {}
    for clip_id in loaded.data.clip_ids:
        try:
            start = speech_start(paths[clip_id], clip_id)
        except ClipError as error:
            left_out[clip_id] = str(error)
            continue
        if start is None:
            left_out[clip_id] = f"{clip_id}: no sample of its sound is above the threshold."
        else:
            starts[clip_id] = start
    return compare(probe, loaded, starts, left_out)


def compare(probe: Head, loaded: Loaded, starts: Mapping[str, float], left_out: Mapping[str, str]) -> Silence:
    """As ``leading_silence``, with the start of speech of each clip, in seconds, known already."""
    left_out = dict(left_out)
    used, shown = [], traces(probe, loaded)
    for row, trace in enumerate(shown):
        if trace.clip_id in left_out:
            continue
        if trace.times_seconds[-1] < dropped_until(starts[trace.clip_id]):
            left_out[trace.clip_id] = f"{trace.clip_id}: no frame is left after its leading silence."
        else:
            used.append(row)
    if not used:
        reason = next(iter(left_out.values()))
        raise ProbeError(f"{loaded.choice}: of no clip it can be told where speech starts, e.g. {reason}")
    labels = loaded.data.labels.numpy()[used]
    silent = np.array([starts[shown[row].clip_id] for row in used])
    before = np.array([shown[row].top_seconds for row in used]) < silent
    whole, trimmed = _scores(probe, loaded, used, [dropped_until(each) for each in silent])
    both = set(labels.tolist()) >= {0, 1}
    known = labels >= 0
    aucs = [measure(own[known], labels[known], ["auc"])["auc"] if both else None for own in (whole, trimmed)]
    return Silence(
        len(used),
        left_out,
        (_median(silent[labels == 0]), _median(silent[labels == 1])),
        (_share(before), _share(before[labels == 0]), _share(before[labels == 1])),
        *aucs,
    )


def dropped_until(start_seconds: float) -> float:
    """Return the time before which AVH-Align's trimming drops all frames, for speech that starts then."""
    return (int(start_seconds * RATE_HZ) + 1) / RATE_HZ if start_seconds > 0 else 0.0


def without_silence(loaded: Loaded, clips: Sequence[int], until_seconds: Sequence[float]) -> FeatureSet:
    """Return these clips without their frames before ``until_seconds``; each must keep one."""
    starts, step = loaded.starts[list(clips)], loaded.times[1]
    lengths = loaded.data.offsets.diff()[list(clips)].tolist()
    skipped = [
        int((start + step * np.arange(length) < until).sum())
        for start, length, until in zip(starts, lengths, until_seconds, strict=True)
    ]
    return loaded.data.select(clips, skipped)


def _scores(
    probe: Head, loaded: Loaded, used: Sequence[int], until: Sequence[float]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    whole = probe.decision_function(loaded.data.select(used))
    return whole, probe.decision_function(without_silence(loaded, used, until))


def _median(values: NDArray[np.float64]) -> float:
    return float(np.median(values)) if len(values) else float("nan")


def _share(flags: NDArray[np.bool_]) -> float:
    return float(flags.mean()) if len(flags) else float("nan")


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value

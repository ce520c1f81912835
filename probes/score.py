"""Score new files with a probe: the encoders that made its features, then the probe."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import avfeat
from avfeat.errors import ClipError, LengthError, ProbeError
from avfeat.files import FileRows
from avfeat.options import Options
from probes.align import Rows, join
from probes.probe_file import load_probe


@dataclass(frozen=True)
class Scored:
    """One file: its score and probability of being fake, or one sentence why it has none.

    frames: score of each frame, at ``first_seconds + k * step_seconds``.
    line: the score from which on a clip is called fake.
    calibrated: whether the probability was fitted to how often such clips are fake.
    """

    path: Path
    score: float | None = None
    probability: float | None = None
    frames: NDArray[np.float32] | None = None
    first_seconds: float = 0.0
    step_seconds: float = 0.0
    error: str = ""
    detail: str = ""
    line: float = 0.0
    calibrated: bool = False

    def facts(self, with_frames: bool) -> dict[str, Any]:
        """Plain data."""
        if self.score is None:
            return {"path": str(self.path), "error": self.error, "detail": self.detail}
        found: dict[str, Any] = {"path": str(self.path), "score": self.score, "probability": self.probability}
        found |= {"line": self.line, "calibrated": self.calibrated}
        if with_frames and self.frames is not None:
            times = {"first_seconds": self.first_seconds, "step_seconds": self.step_seconds}
            found["frames"] = {**times, "scores": [round(float(each), 6) for each in self.frames]}
        return found


def score_files(
    probe_path: Path, paths: Sequence[Path], *, weights: Path | None = None, options: Options | None = None
) -> Iterator[Scored]:
    """Yield the score of each file, in the order given.

    Args:
        probe_path: a probe that ``probes fit`` wrote: it knows how its features were made.
        paths: media files.
        weights: where the encoder's weights are now, if not where they were.
        options: device, workers and time limit of the encoders.

    Raises:
        ProbeError: the file is no probe, or does not say how its features were made.
        AvfeatError: the encoders cannot be made here as they were.
    """
    probe = load_probe(probe_path)
    attributes = probe.facts_.get("attributes")
    if not attributes:
        raise ProbeError(f"{probe_path} does not say how its features were made, so it can score stored features only.")
    for path, rows in avfeat.encode_files(paths, probe.features_, like=attributes, weights=weights, options=options):
        if isinstance(rows, ClipError):
            yield Scored(path, error=rows.kind, detail=str(rows))
            continue
        try:
            yield _score(probe, path, rows, attributes)
        except LengthError as error:
            yield Scored(path, error=error.kind, detail=str(error))


def _score(probe: Any, path: Path, rows: dict[str, FileRows], attributes: dict[str, Any]) -> Scored:
    streams = [
        Rows(name, len(each.rows), float(attributes[name]["rate_hz"]), each.first_seconds)
        for name, each in rows.items()
    ]
    numbers = join(streams)
    clip = [np.concatenate([each.rows[own] for each, own in zip(rows.values(), numbers, strict=True)], axis=1)]
    leader, own = max(zip(streams, numbers, strict=True), key=lambda each: each[0].rate_hz)
    return Scored(
        path,
        float(probe.decision_function(clip)[0]),
        float(probe.predict_proba(clip)[0, 1]),
        probe.frame_scores(clip)[0],
        leader.first_seconds + int(own[0]) / leader.rate_hz,
        1 / leader.rate_hz,
        line=float(probe.line_),
        calibrated="calibration" in probe.facts_,
    )

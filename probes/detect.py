"""An answer for who brings a video and no dataset: scores of chosen probes, where in time, and what that means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import avfeat
from avfeat.errors import ClipError, MediaError, ProbeError
from avfeat.options import Options
from probes.probe_file import load_probe
from probes.report.content import Line, Page, ShownClip
from probes.score import Scored, score_files

WARNING = (
    "A score says how much a clip resembles the forgeries that a probe was trained on. It does not say whether what "
    "the clip shows is true. The study behind these probes found no feature that generalizes reliably to forgeries of "
    "another making, and harmless traces (a silent start, cutting, compression) can move a score. Do not rest a "
    "decision on it alone."
)

LONGEST_LIST = 5
"""So many stretches are named; a page shows them all."""


@dataclass(frozen=True)
class Verdict:
    """What all probes say of one file, by the probes' names in the order given."""

    path: Path
    found: Mapping[str, Scored]

    @property
    def scored(self) -> bool:
        """Whether any probe could score the file."""
        return any(each.score is not None for each in self.found.values())

    def facts(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "path": str(self.path),
            "probes": {
                name: {
                    **{key: value for key, value in scored.facts(with_frames=False).items() if key != "path"},
                    **({} if scored.score is None else {"stretches": [list(each) for each in stretches(scored)]}),
                }
                for name, scored in self.found.items()
            },
        }

    def sentences(self) -> list[str]:
        """Return one sentence for each probe."""
        return [f"{name}: {_sentence(scored)}" for name, scored in self.found.items()]


def detect(
    probes: Sequence[Path], videos: Sequence[Path], *, weights: Path | None = None, options: Options | None = None
) -> list[Verdict]:
    """Score files with every probe; what a probe cannot read (no face, no sound) leaves the others alone.

    Args:
        probes: files that ``probes fit`` wrote.
        videos: media files.
        weights: where the encoder's weights are now, if not where they were; needs probes of a single encoder.
        options: device, workers and time limit of the encoders.

    Raises:
        ProbeError: a file is no probe, two probes have one name, or one does not say how its features were made.
        AvfeatError: the encoders cannot be made here as they were.
    """
    names = [path.stem for path in probes]
    if len(set(names)) < len(names):
        raise ProbeError(f"Probes are told apart by their files' names, and two are the same: {', '.join(names)}.")
    scored = {
        name: list(score_files(path, videos, weights=weights, options=options))
        for name, path in zip(names, probes, strict=True)
    }
    return [Verdict(path, {name: scored[name][k] for name in names}) for k, path in enumerate(videos)]


def stretches(scored: Scored) -> list[tuple[float, float]]:
    """Return where frames are at or above the clip's line, in seconds from the first's start to the last's end.

    With log-sum-exp or max pooling each such frame would by itself have the clip called fake.
    """
    if scored.frames is None:
        return []
    above = np.pad((scored.frames >= scored.line).astype(np.int8), 1)
    edges = np.diff(above)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    first, step = scored.first_seconds - scored.step_seconds / 2, scored.step_seconds
    return [
        (round(max(0.0, first + step * int(start)), 3), round(first + step * int(end), 3))
        for start, end in zip(starts, ends, strict=True)
    ]


def page(probes: Sequence[Path], verdicts: Sequence[Verdict]) -> Page:
    """Return a page with every file's player, frame scores and sentences; files that cannot be played say why."""
    trained = [f"{path.stem} {_training(load_probe(path).facts_)}" for path in probes]
    return Page(
        title="What the probes say",
        summary=trained,
        warning=WARNING,
        clips=[_shown(verdict) for verdict in verdicts],
    )


def _sentence(scored: Scored) -> str:
    if scored.score is None or scored.probability is None or scored.frames is None:
        return f"no score. {scored.detail}"
    side = "fake" if scored.score >= scored.line else "real"
    chance = f" with calibrated probability of fake {scored.probability:.2f}" if scored.calibrated else ""
    top = scored.first_seconds + scored.step_seconds * int(np.argmax(scored.frames))
    found = stretches(scored)
    where = ", ".join(f"{start:.2f}-{end:.2f} s" for start, end in found[:LONGEST_LIST])
    more = f" and {len(found) - LONGEST_LIST} more" if len(found) > LONGEST_LIST else ""
    said = f"frames at {where}{more} reach {scored.line:g}" if found else f"no frame by itself reaches {scored.line:g}"
    return f"score {scored.score:.2f}, leans {side}{chance}; {said}; highest at {top:.2f} s"


def _training(facts: Mapping[str, Any]) -> str:
    train, tests = facts.get("train"), facts.get("tests") or {}
    if not train:
        return "does not say what it was trained on."
    known = [
        f"{tested['metrics']['auc']['value']:.3f} on {name}"
        for name, tested in tests.items()
        if "auc" in tested["metrics"]
    ]
    tested = f" AUC {', '.join(known)}." if known else ""
    return f"was trained on {train['choice']}, {train['used']} clips.{tested}"


def _shown(verdict: Verdict) -> ShownClip:
    lines = [
        Line(name, scored.frames, scored.first_seconds, scored.step_seconds, scored.line)
        for name, scored in verdict.found.items()
        if scored.frames is not None
    ]
    try:
        return ShownClip(str(verdict.path), verdict.sentences(), lines, preview=avfeat.preview(verdict.path))
    except (ClipError, MediaError) as error:
        return ShownClip(str(verdict.path), verdict.sentences(), lines, missing=str(error))

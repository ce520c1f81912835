"""Give a probe's file the line and unit that make its probabilities mean what they say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.calibration import Numbers, Reliability, best_line, best_temperature, probabilities, reliability
from probes.evaluation import Asked, load_test
from probes.loading import Choice, Source
from probes.probe_file import load_probe, read_probe, write_probe


@dataclass(frozen=True)
class Stated:
    """How well probabilities of one line and unit agree with the labels; loss is the cross-entropy in nats."""

    line: float
    unit: float
    loss: float
    reliability: Reliability


@dataclass(frozen=True)
class Calibrated:
    """What was fitted on which clips, and the probabilities before and after."""

    chosen_on: str
    manifest: str
    digest: str
    clips: int
    before: Stated
    after: Stated

    def facts(self) -> dict[str, Any]:
        """Plain data, as in the probe's file."""
        sides = {
            name: {"line": each.line, "unit": each.unit, "loss": each.loss, "error": each.reliability.error}
            for name, each in (("before", self.before), ("after", self.after))
        }
        return {**{name: value for name, value in asdict(self).items() if name not in sides}, **sides}


def calibrate(
    path: Path,
    stores: Sequence[Path],
    chosen_on: str,
    shift: bool = False,
    out: Path | None = None,
    memory: str | None = None,
) -> Calibrated:
    """Fit line and unit of a probe's file and write them into it, or into a copy; weights and scores stay as they are.

    Args:
        chosen_on: ``MANIFEST[:SPLIT]`` of clips that the probe has not learned from.
        shift: fit the line too; without, it stays, and with it the clips that are called fake. A probe that has learned
            from real clips only is always shifted, for its scores have no zero.
        out: the copy; None writes to ``path``.
        memory: what frames may take of it, like ``1GB``; None: no limit.

    Raises:
        ProbeError: the clips are of one class, or the scores separate them entirely or rank them no better than chance.
        StoreError, ManifestError: a store, manifest, split or feature is not there.
    """
    probe = load_probe(path)
    loaded = load_test(Source(stores, probe.features_, memory), Choice.parse(chosen_on), Asked())
    scores, labels = probe.decision_function(loaded.data), loaded.data.labels.numpy()
    head, tensors, facts = read_probe(path)
    line, unit = facts.get("line", (0.0, 1.0))
    before = _stated(scores, labels, line, unit)
    if shift or probe.learns_from == "real":
        after = _stated(scores, labels, *best_line(scores, labels))
    else:
        after = _stated(scores, labels, line, best_temperature(scores - line, labels))
    done = Calibrated(str(loaded.choice), loaded.key, loaded.digest, len(labels), before, after)
    new = {"line": [after.line, after.unit], "calibration": done.facts()}
    write_probe(path if out is None else out, head, tensors, {**facts, **new})
    return done


def _stated(scores: NDArray[np.float32], labels: NDArray[np.int64], line: float, unit: float) -> Stated:
    above: Numbers = scores.astype(np.float64) - line
    stated = probabilities(above, unit)
    right = np.where(labels == 1, stated, 1 - stated)
    loss = -float(np.mean(np.log(np.maximum(right, np.finfo(np.float64).tiny))))
    return Stated(line, unit, loss, reliability(above, labels, temperature=unit))

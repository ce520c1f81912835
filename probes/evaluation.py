"""Test probes on stored features: metrics with intervals, drawn by clip or by speaker."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.frame_measures import FrameTest, measure_probe
from probes.heads import Head
from probes.intervals import REPLICATES, Measure, measure
from probes.loading import Choice, ClipCount, Loaded, Source
from probes.metrics import METRICS, Ranking, area, metrics_named
from probes.objective import clip_scores
from probes.pooling import Pooling


@dataclass(frozen=True)
class Tested:
    """The chosen probe on one test set.

    spread: the AUC of every probe that was fitted, in their order.
    frames: how well its frame scores do, where that was asked for.
    """

    name: str
    key: str
    count: ClipCount
    measures: Mapping[str, Measure]
    spread: tuple[float, ...]
    frames: FrameTest | None = None

    def facts(self) -> dict[str, Any]:
        """Plain data."""
        found = {
            "manifest": self.key,
            "clips": asdict(self.count),
            "metrics": {name: asdict(each) for name, each in self.measures.items()},
            "auc_of_all": list(self.spread),
        }
        return found if self.frames is None else {**found, "frames": self.frames.facts()}


@dataclass(frozen=True)
class Asked:
    """Which metrics, and how sure they are to be: replicates that draw whole clips or whole speakers.

    Raises:
        ProbeError: no such metric; intervals by something else.
    """

    metrics: tuple[str, ...] = tuple(METRICS)
    intervals_by: str = "clip"
    replicates: int = REPLICATES

    def __post_init__(self) -> None:
        metrics_named(self.metrics)
        if self.intervals_by not in ("clip", "speaker"):
            raise ProbeError(f"Intervals are by clip or by speaker, not by {self.intervals_by!r}.")


def evaluate(
    probe: Head,
    stores: Sequence[Path],
    tests: Sequence[str],
    metrics: Sequence[str] = tuple(METRICS),
    intervals_by: str = "clip",
    replicates: int = REPLICATES,
    device: str = "cpu",
    frames: bool = False,
    memory: str | None = None,
) -> tuple[Tested, ...]:
    """Test a finished probe on stored features, with ``frames`` also against the fake stretches of the manifest.

    memory: what frames may take of it, like ``1GB``; None: no limit.

    Raises:
        ProbeError: a test set has one class only or no clip left, frames that the probe cannot read, or no stretches.
        StoreError, ManifestError: a store, manifest, split or feature is not there.
    """
    asked = Asked(tuple(metrics), intervals_by, replicates)
    source = Source(stores, probe.features_, memory)
    found = []
    for choice in map(Choice.parse, tests):
        loaded = load_test(source, choice, asked)
        loaded = replace(loaded, data=loaded.data.to(device))
        done = tested(loaded, probe.decision_function(loaded.data)[:, None], 0, asked)
        if frames:
            attributes, groups = source.attributes(choice.manifest), speaker_groups(loaded, intervals_by)
            done = replace(done, frames=measure_probe(probe, loaded, attributes, groups, replicates))
        found.append(done)
    return tuple(found)


def load_test(source: Source, choice: Choice, asked: Asked) -> Loaded:
    """Return the clips of a test set on which all that is asked can be measured.

    Raises:
        ProbeError: one class only, no clip left, or no speakers where intervals are by speaker.
        StoreError, ManifestError: a store, manifest, split or feature is not there.
    """
    loaded = source.load(choice)
    loaded.data.check_labels(f"Test set {choice}")
    speaker_groups(loaded, asked.intervals_by)
    return loaded


def tested(loaded: Loaded, scores: NDArray[np.float32], best: int, asked: Asked) -> Tested:
    """Measure the scores [clips, probes] of the probe ``best``, and the AUC of all."""
    labels, groups = loaded.data.labels.cpu().numpy(), speaker_groups(loaded, asked.intervals_by)
    measures = measure(scores[:, best], labels, asked.metrics, groups=groups, replicates=asked.replicates)
    spread = tuple(float(area(Ranking(column, labels).curve())[0]) for column in scores.T)
    return Tested(str(loaded.choice), loaded.key, loaded.count, measures, spread)


def speaker_groups(loaded: Loaded, intervals_by: str) -> list[str | None] | None:
    """Return what the bootstrap draws whole: nothing, or the speakers.

    Raises:
        ProbeError: by speaker, and no clip has one.
    """
    if intervals_by == "clip":
        return None
    speakers = loaded.rows["speaker"]
    if not any(speakers):
        raise ProbeError(f"{loaded.choice}: no clip has a speaker, so intervals by speaker cannot be made.")
    return speakers


def all_scores(data: FeatureSet, theta: torch.Tensor, pools: Sequence[Pooling], device: str) -> NDArray[np.float32]:
    """Return the clip scores of many linear probes, float32 [clips, probes]."""
    with torch.inference_mode():
        placed = data.to(device)
        scores: NDArray[np.float32] = clip_scores(placed, theta.to(placed.device), pools).cpu().numpy()
    return scores

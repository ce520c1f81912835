"""One fit from stores to a probe file: load, fit, choose, test, save."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avfeat.errors import ProbeError
from probes.fit import PAPER_SEED, Fitted, fit, settings_for
from probes.heads import Head
from probes.heads.linear import LinearProbe
from probes.intervals import REPLICATES, Measure, measure
from probes.loading import Choice, ClipCount, Loaded, Source
from probes.metrics import METRICS, Ranking, area, metrics_named
from probes.objective import clip_scores
from probes.pooling import Pooling
from probes.solving import Progress


@dataclass(frozen=True)
class Plan:
    """What to fit and on what.

    train, val: split names of ``manifest``; val None fits without validation.
    tests: further choices; None: the manifest's own test split, if it has one.
    pools, weight_decays, seeds: fitted together, each combination; the lowest loss is kept.
    steps, patience: None is the solver's default.
    intervals_by: ``clip`` or ``speaker``, what the bootstrap draws.
    """

    manifest: str
    features: tuple[str, ...]
    train: str = "train"
    val: str | None = "val"
    tests: tuple[str, ...] | None = None
    pools: tuple[str, ...] = ("lse",)
    weight_decays: tuple[float, ...] = (0.0,)
    seeds: tuple[int, ...] = (PAPER_SEED,)
    solver: str = "lbfgs"
    class_weight: str = "none"
    steps: int | None = None
    patience: int | None = None
    metrics: tuple[str, ...] = tuple(METRICS)
    intervals_by: str = "clip"
    replicates: int = REPLICATES
    device: str = "cpu"


@dataclass(frozen=True)
class Tested:
    """The chosen probe on one test set.

    spread: the AUC of every probe that was fitted, in their order.
    """

    name: str
    key: str
    count: ClipCount
    measures: Mapping[str, Measure]
    spread: tuple[float, ...]

    def facts(self) -> dict[str, Any]:
        """Plain data."""
        return {
            "manifest": self.key,
            "clips": asdict(self.count),
            "metrics": {name: asdict(each) for name, each in self.measures.items()},
            "auc_of_all": list(self.spread),
        }


@dataclass(frozen=True)
class Result:
    """A finished fit; ``facts`` is plain data, as in the probe's file."""

    probe: LinearProbe
    fitted: Fitted
    train: Loaded
    val: Loaded | None
    tests: tuple[Tested, ...]

    def facts(self) -> dict[str, Any]:
        """What the probe's file says besides the probe: sets, metrics, versions, and all probes that were fitted."""
        return {
            "train": _set_facts(self.train),
            "val": _set_facts(self.val) if self.val else None,
            "tests": {tested.name: tested.facts() for tested in self.tests},
            "fitted": [self.fitted.facts(k) for k in range(len(self.fitted.columns))],
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
        }


def run(stores: Sequence[Path], plan: Plan, tell: Callable[[Progress], None] = lambda progress: None) -> Result:
    """Load, fit and test; Ctrl-C during the fit keeps the best so far (``fitted.interrupted``).

    Raises:
        ProbeError: the plan names something that is not there, a set has one class only or no clip left.
        StoreError, ManifestError: a store, manifest, split or feature is not there.
    """
    metrics_named(plan.metrics)
    pools = [Pooling.parse(text) for text in plan.pools]
    settings = settings_for(plan.solver, plan.steps, plan.patience)
    if plan.intervals_by not in ("clip", "speaker"):
        raise ProbeError(f"Intervals are by clip or by speaker, not by {plan.intervals_by!r}.")
    source = Source(stores, plan.features)
    choices = _tests(source, plan)
    train = source.load(Choice(plan.manifest, plan.train))
    val = source.load(Choice(plan.manifest, plan.val)) if plan.val is not None else None
    tests = [source.load(choice) for choice in choices]
    for one in tests:
        one.data.check_labels(f"Test set {one.choice}")
    fitted = fit(
        train.data.to(plan.device),
        val.data.to(plan.device) if val else None,
        pools=pools,
        weight_decays=plan.weight_decays,
        seeds=plan.seeds,
        settings=settings,
        class_weight=plan.class_weight,
        tell=tell,
    )
    probe = LinearProbe.from_fitted(train.data, fitted, fitted.best)
    tested = tuple(_test(one, fitted, plan) for one in tests)
    return Result(probe, fitted, train, val, tested)


def save(path: Path, stores: Sequence[Path], plan: Plan, result: Result) -> None:
    """Write the chosen probe with everything needed to make it again and to score new files with it.

    Raises:
        ProbeError: the file cannot be written.
    """
    attributes = Source(stores, plan.features).attributes(plan.manifest)
    result.probe.save(path, {"plan": asdict(plan), "attributes": attributes, **result.facts()})


def evaluate(
    probe: Head,
    stores: Sequence[Path],
    tests: Sequence[str],
    metrics: Sequence[str] = tuple(METRICS),
    intervals_by: str = "clip",
    replicates: int = REPLICATES,
) -> tuple[Tested, ...]:
    """Test a finished probe on stored features.

    Raises:
        ProbeError: a test set has one class only or no clip left, or frames that the probe cannot read.
        StoreError, ManifestError: a store, manifest, split or feature is not there.
    """
    source = Source(stores, probe.features_)
    tested = []
    for choice in map(Choice.parse, tests):
        loaded = source.load(choice)
        loaded.data.check_labels(f"Test set {choice}")
        scores, groups = probe.decision_function(loaded.data), speaker_groups(loaded, intervals_by)
        measures = measure(scores, loaded.data.labels.numpy(), metrics, groups=groups, replicates=replicates)
        own = float(area(Ranking(scores, loaded.data.labels.numpy()).curve())[0])
        tested.append(Tested(str(choice), loaded.key, loaded.count, measures, (own,)))
    return tuple(tested)


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


def all_scores(loaded: Loaded, theta: torch.Tensor, pools: Sequence[Pooling], device: str) -> NDArray[np.float32]:
    """Return the clip scores of many probes, float32 [clips, probes]."""
    with torch.inference_mode():
        data = loaded.data.to(device)
        scores: NDArray[np.float32] = clip_scores(data, theta.to(data.device), pools).cpu().numpy()
    return scores


def _test(loaded: Loaded, fitted: Fitted, plan: Plan) -> Tested:
    pools = [column.pool for column in fitted.columns]
    scores, labels = all_scores(loaded, fitted.theta, pools, plan.device), loaded.data.labels.numpy()
    groups = speaker_groups(loaded, plan.intervals_by)
    measures = measure(scores[:, fitted.best], labels, plan.metrics, groups=groups, replicates=plan.replicates)
    spread = tuple(float(area(Ranking(column, labels).curve())[0]) for column in scores.T)
    return Tested(str(loaded.choice), loaded.key, loaded.count, measures, spread)


def _tests(source: Source, plan: Plan) -> list[Choice]:
    if plan.tests is not None:
        return [Choice.parse(text) for text in plan.tests]
    splits = set(source.manifest(plan.manifest).table["split"].to_pylist())
    return [Choice(plan.manifest, "test")] if "test" in splits else []


def _set_facts(loaded: Loaded) -> dict[str, Any]:
    return {"choice": str(loaded.choice), "manifest": loaded.key, "digest": loaded.digest, **asdict(loaded.count)}

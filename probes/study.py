"""One fit from stores to a probe file: load, fit, choose, test, save."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from avfeat.errors import ProbeError
from probes.evaluation import Asked, Tested, all_scores, load_test, tested
from probes.featureset import FeatureSet
from probes.fit import PAPER_SEED, fit, settings_for
from probes.head_settings import check_reads, make_head
from probes.heads import Head
from probes.heads.linear import LinearProbe
from probes.intervals import REPLICATES
from probes.loading import Choice, Loaded, Source
from probes.metrics import METRICS
from probes.pooling import Pooling
from probes.solving import Progress

Tell = Callable[[Progress], None]


@dataclass(frozen=True)
class Plan:
    """What to fit and on what.

    train, val: split names of ``manifest``; val None fits without validation.
    tests: further choices; None: the manifest's own test split, if it has one.
    pools, weight_decays, seeds, solver, class_weight, steps, patience: of linear probes. Each combination of the first
    three is fitted, all together, and the lowest loss is kept; steps or patience None is the solver's default.
    head, settings: another head than the linear probe, and those of its settings that are not to be its defaults.
    intervals_by: ``clip`` or ``speaker``, what the bootstrap draws.
    memory: what all frames may take, like ``1GB``; None: no limit.
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
    memory: str | None = None
    head: str = "linear"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> Asked:
        """What the tests are to say.

        Raises:
            ProbeError: no such metric; intervals by something else.
        """
        return Asked(self.metrics, self.intervals_by, self.replicates)


@dataclass(frozen=True)
class Result:
    """A finished fit; ``facts`` is plain data, as in the probe's file.

    fits: how the fit of each probe that was tried went, plain data; ``probe`` is one of them.
    interrupted: whether Ctrl-C ended the fit.
    """

    probe: Head
    fits: tuple[Mapping[str, Any], ...]
    interrupted: bool
    train: Loaded
    val: Loaded | None
    tests: tuple[Tested, ...]

    def facts(self) -> dict[str, Any]:
        """What the probe's file says besides the probe: sets, metrics, versions, and all probes that were fitted."""
        return {
            "train": _set_facts(self.train),
            "val": _set_facts(self.val) if self.val else None,
            "tests": {tested.name: tested.facts() for tested in self.tests},
            "fitted": list(self.fits),
            "versions": {"torch": torch.__version__, "numpy": np.__version__},
        }


@dataclass(frozen=True)
class Fit:
    """The chosen probe, its place among those that were tried, and the scores [clips, probes] of all on a set.

    fits: plain data on each; linear probes in the order of pools × weight_decays × seeds.
    """

    probe: Head
    best: int
    fits: tuple[Mapping[str, Any], ...]
    scores: Callable[[FeatureSet], NDArray[np.float32]]

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended the fit."""
        return any(each.get("stopped") == "interrupted" for each in self.fits)


Fitter = Callable[[FeatureSet, FeatureSet | None, Tell], Fit]
"""Fits what a plan asks for on training and validation clips."""


def with_head(plan: Plan, head: str, settings: Mapping[str, Any], flags: Mapping[str, Sequence[Any] | None]) -> Plan:
    """Return the plan with this head and what is asked of it.

    Args:
        settings: the head's own, see ``head_settings.make_head``.
        flags: values of settings that many heads have (pool, weight_decay, seed, solver, …), None where not given.
            Linear probes without ``settings`` try each pool, weight_decay and seed; all others take one value each.

    Raises:
        ProbeError: several values for a head that takes one, or a setting given both ways.
    """
    given = {name: tuple(values) for name, values in flags.items() if values is not None}
    if head == "linear" and not settings:
        many = {"pool": "pools", "weight_decay": "weight_decays", "seed": "seeds"}
        fields: dict[str, Any] = {many.get(name, name): v if name in many else v[0] for name, v in given.items()}
        return replace(plan, **fields)
    for name, values in given.items():
        if len(values) > 1:
            raise ProbeError(
                f"Several values of {name} can be tried together by linear probes without --set only; give one."
            )
        if name in settings:
            raise ProbeError(f"{name} is given twice: as --{name.replace('_', '-')} and as --set {name}=….")
    return replace(plan, head=head, settings={**{name: values[0] for name, values in given.items()}, **settings})


def run(stores: Sequence[Path], plan: Plan, tell: Tell = lambda progress: None) -> Result:
    """Load, fit and test; Ctrl-C during the fit keeps the best so far (``interrupted``).

    Raises:
        ProbeError: the plan names something that is not there, a set has one class only or no clip left.
        StoreError, ManifestError: a store, manifest, split or feature is not there.
    """
    asked, work = plan.asked, fitter(plan)
    source = Source(stores, plan.features, plan.memory)
    choices = test_choices(source, plan.manifest, plan.tests)
    train = source.load(Choice(plan.manifest, plan.train))
    val = source.load(Choice(plan.manifest, plan.val)) if plan.val is not None else None
    tests = [load_test(source, choice, asked) for choice in choices]
    done = work(train.data, val.data if val else None, tell)
    measured = tuple(tested(one, done.scores(one.data), done.best, asked) for one in tests)
    return Result(done.probe, done.fits, done.interrupted, train, val, measured)


def save(path: Path, stores: Sequence[Path], plan: Plan, result: Result) -> None:
    """Write the chosen probe with everything needed to make it again and to score new files with it.

    Raises:
        ProbeError: the file cannot be written.
    """
    attributes = Source(stores, plan.features).attributes(plan.manifest)
    result.probe.save(path, {"plan": asdict(plan), "attributes": attributes, **result.facts()})


def test_choices(source: Source, manifest: str, tests: Sequence[str] | None) -> list[Choice]:
    """Return what to test on: ``tests``, or when that is None the manifest's own split test, if it has one."""
    if tests is not None:
        return [Choice.parse(text) for text in tests]
    splits = set(source.manifest(manifest).table["split"].to_pylist())
    return [Choice(manifest, "test")] if "test" in splits else []


def fitter(plan: Plan) -> Fitter:
    """Return what fits a plan, whose settings are checked before anything is loaded.

    Raises:
        ProbeError: a head, setting, pooling or solver that is not there, or features that the head does not read.
    """
    if plan.head == "linear" and not plan.settings:
        return _linear(plan)
    head = make_head(plan.head, plan.settings)
    check_reads(head, plan.head, plan.features)

    def work(train: FeatureSet, val: FeatureSet | None, tell: Tell) -> Fit:
        placed = None if val is None else val.to(plan.device)
        head.fit(train.to(plan.device), validation=placed, tell=tell)
        return Fit(head, 0, (head.facts_,), lambda data: head.decision_function(data.to(plan.device))[:, None])

    return work


def _linear(plan: Plan) -> Fitter:
    """Return what fits all linear probes of a plan together and chooses the one with the lowest loss."""
    pools = [Pooling.parse(text) for text in plan.pools]
    settings = settings_for(plan.solver, plan.steps, plan.patience)

    def work(train: FeatureSet, val: FeatureSet | None, tell: Tell) -> Fit:
        fitted = fit(
            train.to(plan.device),
            None if val is None else val.to(plan.device),
            pools=pools,
            weight_decays=plan.weight_decays,
            seeds=plan.seeds,
            settings=settings,
            class_weight=plan.class_weight,
            tell=tell,
        )
        own = [column.pool for column in fitted.columns]
        return Fit(
            LinearProbe.from_fitted(train, fitted, fitted.best),
            fitted.best,
            tuple(fitted.facts(k) for k in range(len(fitted.columns))),
            lambda data: all_scores(data, fitted.theta, own, plan.device),
        )

    return work


def _set_facts(loaded: Loaded) -> dict[str, Any]:
    return {"choice": str(loaded.choice), "manifest": loaded.key, "digest": loaded.digest, **asdict(loaded.count)}

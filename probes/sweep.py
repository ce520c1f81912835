"""Every combination of features, poolings, weight decays and shares of the training clips, over several seeds.

Each feature is loaded once. Linear probes of all poolings, weight decays and seeds are fitted in one pass over the
frames; of a share below 1 each seed draws its own clips, so that the spread over seeds is also that of the clips.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from probes.evaluation import load_test, speaker_groups
from probes.featureset import FeatureSet
from probes.head_settings import make_head
from probes.intervals import Spread, spread
from probes.loading import Choice, Loaded, Source
from probes.study import Plan, Tell, fitter, test_choices
from probes.subsets import check_share, fraction

Value = str | int | float | None


@dataclass(frozen=True)
class Row:
    """What one combination came to.

    clips: it learned from (of the first seed, when seeds draw their own).
    loss: mean over seeds of the best loss, on validation when there is one: what to choose a combination by.
    measures: test set → metric → its mean over seeds.
    """

    feature: str
    head: str
    pool: str | None
    weight_decay: float | None
    share: float
    seeds: int
    clips: int
    loss: float | None
    measures: Mapping[str, Mapping[str, Spread]]

    def flat(self) -> dict[str, Value]:
        """Return one value for each column of a table: ``far:test auc``, and behind it `` sd``, `` low``, `` high``."""
        row: dict[str, Value] = {name: getattr(self, name) for name in SETTINGS}
        for test, measures in self.measures.items():
            for metric, each in measures.items():
                name = f"{test} {metric}"
                row |= {name: each.mean, f"{name} sd": each.sd, f"{name} low": each.low, f"{name} high": each.high}
        return row


SETTINGS = ("feature", "head", "pool", "weight_decay", "share", "seeds", "clips", "loss")


@dataclass(frozen=True)
class _Sets:
    """The clips of one feature."""

    train: FeatureSet
    val: FeatureSet | None
    tests: Sequence[Loaded]


@dataclass(frozen=True)
class _Trial:
    """One probe: what sets it apart, how many clips it learned from, its loss, its scores on each test set."""

    pool: str | None
    weight_decay: float | None
    clips: int
    loss: float | None
    scores: Sequence[NDArray[np.float32]]


def sweep(
    stores: Sequence[Path],
    plan: Plan,
    features: Sequence[tuple[str, ...]],
    shares: Sequence[float] = (1.0,),
    tell: Tell = lambda progress: None,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[Row]:
    """Yield the rows of each feature and share as soon as they are finished.

    Args:
        plan: poolings, weight decays, seeds or another head's settings, and the sets; its ``features`` are not read.
        features: each one feature, or several that are joined by time into one.
        shares: of the training clips, see ``subsets.fraction``.
        say: takes a line after each feature and share.

    Raises:
        ProbeError, StoreError, ManifestError: as ``study.run``; all that is named is looked for before the first fit.
        KeyboardInterrupt: Ctrl-C; what was being fitted gives no row.
    """
    for share in shares:
        check_share(share)
    plans = [replace(plan, features=names) for names in features]
    for one in plans:
        fitter(one)
        source = Source(stores, one.features)
        for manifest in {plan.manifest, *(choice.manifest for choice in test_choices(source, one.manifest, one.tests))}:
            source.attributes(manifest)
    for number, one in enumerate(plans, 1):
        yield from _feature(stores, one, shares, tell, say, f"{number} of {len(plans)}")


def _feature(
    stores: Sequence[Path],
    plan: Plan,
    shares: Sequence[float],
    tell: Tell,
    say: Callable[[str], None],
    place: str,
) -> Iterator[Row]:
    source, name = Source(stores, plan.features, plan.memory), "+".join(plan.features)
    train = source.load(Choice(plan.manifest, plan.train))
    val = source.load(Choice(plan.manifest, plan.val)) if plan.val is not None else None
    tests = [load_test(source, choice, plan.asked) for choice in test_choices(source, plan.manifest, plan.tests)]
    sets = _Sets(train.data, val.data if val else None, tests)
    for share in shares:
        began = time.monotonic()
        trials = list(_trials(sets, plan, share, tell))
        yield from _rows(sets, plan, share, trials)
        losses = [trial.loss for trial in trials if trial.loss is not None]
        best = f", best loss {min(losses):.5f}" if losses else ""
        probes = "1 probe" if len(trials) == 1 else f"{len(trials)} probes"
        say(f"{place}  {name}  {trials[0].clips} clips  {probes} in {time.monotonic() - began:.1f} s{best}")


def _trials(sets: _Sets, plan: Plan, share: float, tell: Tell) -> Iterator[_Trial]:
    """Fit and score every probe of one share of the clips."""
    for part in _apart(plan, share):
        taken = fraction(sets.train, share, part.seeds[0])
        done = fitter(part)(taken, sets.val, tell)
        if done.interrupted:
            raise KeyboardInterrupt
        scores = [done.scores(loaded.data) for loaded in sets.tests]
        for k, fact in enumerate(done.fits):
            known = {**done.probe.get_params(), **fact}
            own = [each[:, k] for each in scores]
            yield _Trial(known.get("pool"), known.get("weight_decay"), len(taken), known.get("loss"), own)


def _apart(plan: Plan, share: float) -> list[Plan]:
    """Return the plan in parts that must be fitted one by one, each with its own seeds."""
    if plan.head == "linear" and not plan.settings:
        return [plan] if share == 1 else [replace(plan, seeds=(seed,)) for seed in plan.seeds]
    if "seed" not in make_head(plan.head, plan.settings).get_params():
        return [replace(plan, seeds=plan.seeds[:1])]
    return [replace(plan, seeds=(seed,), settings={**plan.settings, "seed": seed}) for seed in plan.seeds]


def _rows(sets: _Sets, plan: Plan, share: float, trials: Sequence[_Trial]) -> Iterator[Row]:
    """Yield a row for the trials that differ in nothing but their seed."""
    name = "+".join(plan.features)
    for pool, decay in dict.fromkeys((trial.pool, trial.weight_decay) for trial in trials):
        own = [trial for trial in trials if (trial.pool, trial.weight_decay) == (pool, decay)]
        losses = [trial.loss for trial in own if trial.loss is not None]
        loss = sum(losses) / len(losses) if losses else None
        measures = {
            str(loaded.choice): _measure(loaded, np.stack([trial.scores[k] for trial in own], axis=1), plan)
            for k, loaded in enumerate(sets.tests)
        }
        yield Row(name, plan.head, pool, decay, share, len(own), own[0].clips, loss, measures)


def _measure(loaded: Loaded, scores: NDArray[np.float32], plan: Plan) -> dict[str, Spread]:
    groups = speaker_groups(loaded, plan.intervals_by)
    labels = loaded.data.labels.cpu().numpy()
    return spread(scores, labels, plan.metrics, groups=groups, replicates=plan.replicates)

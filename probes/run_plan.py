"""From protocols to fits and tests: what each cell needs, which cells share it, and what is not there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from probes.heads import HEADS, head_class
from probes.loading import Choice
from probes.protocol import Column, Dataset, Protocol, Recipe, Row
from probes.results import probe_path, scores_path
from probes.run_inputs import ClipSet, Inputs, code_digest, digest_of


@dataclass(frozen=True)
class Fit:
    """Probes of one head on one training set, one for each seed; ``digest`` stands for all that decides them."""

    features: tuple[str, ...]
    recipe: Recipe
    train: ClipSet
    val: ClipSet | None
    digest: str

    @property
    def sets(self) -> tuple[ClipSet, ...]:
        """The sets that are read to fit."""
        return (self.train,) if self.val is None else (self.train, self.val)

    def is_done(self, out: Path) -> bool:
        """Whether all its probes are written."""
        return all(probe_path(out, self.digest, seed).is_file() for seed in self.recipe.seeds)


@dataclass(frozen=True)
class Trial:
    """A fit's probes on one test set; ``digest`` stands for the fit and the set."""

    fit: Fit
    test: ClipSet
    digest: str

    def is_done(self, out: Path) -> bool:
        """Whether its scores are written."""
        return scores_path(out, self.digest).is_file()


@dataclass(frozen=True)
class Wanted:
    """One cell of a grid: the tests whose mean score it measures, or the cells whose mean it is.

    applies: False where the head does not read as many features as the row has.
    missing: one sentence for each thing that is not there; no tests then.
    inputs: digest of all that the number depends on; empty when something is missing.
    """

    protocol: Protocol
    row: Row
    column: Column
    tests: tuple[Trial, ...] = ()
    parts: tuple[Wanted, ...] = ()
    applies: bool = True
    missing: tuple[str, ...] = ()
    inputs: str = ""

    @property
    def place(self) -> tuple[str, str, str]:
        """Protocol, row and column."""
        return self.protocol.name, self.row.name, self.column.name


@dataclass(frozen=True)
class Task:
    """Everything to be done with one row's features, in one process: each set is read once.

    fits, tests: those that are not written yet.
    """

    stores: tuple[Path, ...]
    out: Path
    device: str
    features: tuple[str, ...]
    fits: tuple[Fit, ...] = field(repr=False)
    tests: tuple[Trial, ...] = field(repr=False)

    @property
    def load_bytes(self) -> int:
        """Estimate of the memory for the frames that it holds at once."""
        fits = [sum(each.load_bytes for each in fit.sets) for fit in self.fits]
        return max([0, *fits, *(test.test.load_bytes for test in self.tests)])

    def fits_by_set(self) -> Iterator[tuple[Fit, ...]]:
        """Yield the fits that learn from the same clips, together."""
        ordered = sorted(self.fits, key=_sets_of)
        for _, group in groupby(ordered, _sets_of):
            yield tuple(group)

    def tests_by_set(self) -> Iterator[tuple[Trial, ...]]:
        """Yield the tests on the same clips, together."""
        ordered = sorted(self.tests, key=lambda test: _name(test.test))
        for _, group in groupby(ordered, lambda test: _name(test.test)):
            yield tuple(group)


def plan(protocol: Protocol, inputs: Inputs, device: str = "cpu") -> list[Wanted]:
    """Return the cells of a protocol, row by row.

    Raises:
        StoreError: a folder is no store.
    """
    cells = []
    for row in protocol.rows:
        own = {
            column.name: _cell(protocol, row, column, inputs, device)
            for column in protocol.columns
            if not column.mean_of
        }
        cells += [own.get(column.name) or _mean(protocol, row, column, own) for column in protocol.columns]
    return cells


def tasks(wanted: Sequence[Wanted], stores: Sequence[Path], out: Path, device: str) -> list[Task]:
    """Return what is left to do for these cells, by features; the largest first, so that the last ones are short."""
    by_features: dict[tuple[str, ...], dict[str, Trial]] = {}
    for cell in wanted:
        for test in cell.tests:
            if not (test.is_done(out) and test.fit.is_done(out)):
                by_features.setdefault(test.fit.features, {})[test.digest] = test
    found = []
    for features, tests in by_features.items():
        fits = {test.fit.digest: test.fit for test in tests.values() if not test.fit.is_done(out)}
        left = tuple(test for test in tests.values() if not test.is_done(out))
        found.append(Task(tuple(stores), out, device, features, tuple(fits.values()), left))
    return sorted(found, key=lambda task: (-task.load_bytes, task.features))


def _cell(protocol: Protocol, row: Row, column: Column, inputs: Inputs, device: str) -> Wanted:
    recipe = protocol.recipe(column)
    late = recipe.join == "late"
    reads = head_class(recipe.head).reads
    if not row.features or (reads is not None and reads != (1 if late else len(row.features))):
        return Wanted(protocol, row, column, applies=False)
    train, test = (protocol.datasets[str(key)] for key in (column.train, column.test))
    tests: list[Trial] = []
    missing: list[str] = []
    for features in [(feature,) for feature in row.features] if late else [row.features]:
        fit = _fit(features, recipe, train, inputs, device)
        tested = inputs.clip_set(features, Choice(test.manifest, test.test), test.shuffle)
        missing += [sentence for each in (*fit.sets, tested) for sentence in each.missing]
        tests.append(Trial(fit, tested, digest_of([fit.digest, tested.digest])))
    if missing:
        return Wanted(protocol, row, column, missing=tuple(dict.fromkeys(missing)))
    digest = digest_of([code_digest("probes.run_measure"), [each.digest for each in tests]])
    return Wanted(protocol, row, column, tuple(tests), inputs=digest)


def _fit(features: tuple[str, ...], recipe: Recipe, train: Dataset, inputs: Inputs, device: str) -> Fit:
    real_only = head_class(recipe.head).learns_from == "real"
    learned, val = (
        None
        if split is None
        else inputs.clip_set(features, Choice(train.manifest, split), train.shuffle, real_only=real_only)
        for split in (train.train, train.val)
    )
    assert learned is not None
    facts = {
        "code": code_digest("probes.loading", "probes.run_fit", HEADS[recipe.head].partition(":")[0]),
        "head": recipe.head,
        "settings": dict(recipe.settings),
        "seeds": recipe.seeds,
        "share": recipe.share,
        "device": device.partition(":")[0],
        "train": learned.digest,
        "val": val and val.digest,
    }
    return Fit(features, recipe, learned, val, digest_of(facts))


def _mean(protocol: Protocol, row: Row, column: Column, own: dict[str, Wanted]) -> Wanted:
    parts = tuple(own[name] for name in column.mean_of)
    if not all(part.applies for part in parts):
        return Wanted(protocol, row, column, applies=False)
    missing = tuple(dict.fromkeys(sentence for part in parts for sentence in part.missing))
    digest = "" if missing else digest_of([code_digest("probes.run_measure"), [part.inputs for part in parts]])
    return Wanted(protocol, row, column, parts=parts, missing=missing, inputs=digest)


def _sets_of(fit: Fit) -> list[tuple[str, int]]:
    return [_name(each) for each in fit.sets]


def _name(clips: ClipSet) -> tuple[str, int]:
    """What tells sets of the same features apart, in an order."""
    return str(clips.choice), -1 if clips.shuffle is None else clips.shuffle

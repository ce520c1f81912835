"""The book of a run: which cells are wanted, what has come of their fits and tests, what was there before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from avfeat.errors import AvfeatError
from probes.loading import Choice
from probes.results import Cell, Scores, mean_scores, read_results, read_score_notes, read_scores, write_results
from probes.run_measure import Replicated, mean_of, replicate
from probes.run_plan import Task, Trial, Wanted
from probes.run_pool import Ended
from probes.run_work import Outcome


@dataclass(frozen=True)
class Report:
    """What a run did.

    cells: of the protocols that were run.
    fits, tests: made in this run; failed of both: those that could not be made.
    measured: cells that were measured in this run; the other cells that are done were there before.
    """

    cells: tuple[Cell, ...]
    fits: int
    tests: int
    failed: int
    measured: int

    @property
    def gaps(self) -> list[Cell]:
        """The cells that could not be filled."""
        return [cell for cell in self.cells if cell.status == "gap"]

    @property
    def filled(self) -> int:
        """How many cells are done."""
        return sum(cell.status == "done" for cell in self.cells)


class Book:
    """The cells that are wanted, what has come of their fits and tests, and the results that were there before."""

    def __init__(self, out: Path, wanted: Sequence[Wanted]):
        self._out = out
        self._wanted = wanted
        before = read_results(out).cells
        names = {cell.protocol.name for cell in wanted}
        self._others = [cell for cell in before if cell.protocol not in names]
        self._known = {cell.inputs: cell for cell in before if cell.status == "done"}
        self._errors: dict[str, str] = {}
        self._made: set[str] = set()
        self._fits = self._tests = self._measured = 0
        self._replicated: dict[str, dict[str, Replicated]] = {}

    def note(self, task: Task, outcome: Outcome) -> None:
        """Take down that a fit or a test was made, or why it was not."""
        if outcome.error:
            self._errors[outcome.digest] = outcome.error
            return
        self._made.add(outcome.digest)
        if any(fit.digest == outcome.digest for fit in task.fits):
            self._fits += 1
        else:
            self._tests += 1

    def ended(self, task: Task, end: Ended) -> int:
        """Take down that a task's process is gone; return how many fits and tests it left undone."""
        due = [*(fit.digest for fit in task.fits), *(test.digest for test in task.tests)]
        lost = [digest for digest in due if digest not in self._made and digest not in self._errors]
        how = f"signal {-end.code}, perhaps for lack of memory" if end.code < 0 else f"exit code {end.code}"
        for digest in lost:
            name = " + ".join(task.features)
            self._errors[digest] = f"The process that worked on {name} died ({how}); run again, with fewer --jobs."
        return len(lost)

    def write(self) -> list[Cell]:
        """Write what is known now, and return the cells of this run's protocols."""
        done: dict[tuple[str, str, str], Cell] = {}
        for wanted in sorted(self._wanted, key=lambda each: bool(each.parts)):
            done[wanted.place] = self._cell(wanted, done)
        cells = [done[wanted.place] for wanted in self._wanted]
        write_results(self._out, sorted([*self._others, *cells], key=lambda cell: cell.protocol))
        return cells

    def close(self) -> Report:
        """Write the results for the last time."""
        return Report(tuple(self.write()), self._fits, self._tests, len(self._errors), self._measured)

    def _cell(self, wanted: Wanted, done: Mapping[tuple[str, str, str], Cell]) -> Cell:
        empty = _described(wanted)
        if not wanted.applies:
            return replace(empty, status="none")
        reasons = list(wanted.missing)
        for test in wanted.tests:
            reasons += [self._errors[key] for key in (test.fit.digest, test.digest) if key in self._errors][:1]
        for part in wanted.parts:
            reasons += done[part.place].reasons
        if reasons:
            return replace(empty, reasons=tuple(dict.fromkeys(reasons)))
        if not all(test.is_done(self._out) for test in _all_tests(wanted)):
            return replace(empty, reasons=("The run was stopped before this was done: the same command goes on.",))
        known = self._known.get(wanted.inputs)
        if known is None:
            try:
                known = self._known[wanted.inputs] = self._measure(wanted, empty)
            except AvfeatError as error:
                return replace(empty, reasons=(str(error),))
        return replace(
            empty,
            status="done",
            inputs=wanted.inputs,
            tests=tuple(each.digest for each in wanted.tests),
            fits=tuple(each.fit.digest for each in wanted.tests),
            measures=known.measures,
            auc_of_seeds=known.auc_of_seeds,
            clips=known.clips,
            fakes=known.fakes,
            left_out=known.left_out,
        )

    def _measure(self, wanted: Wanted, empty: Cell) -> Cell:
        self._measured += 1
        found = self._replicates(wanted)
        measures = {name: each.measure for name, each in found.items()}
        if wanted.parts:
            return replace(empty, measures=measures)
        scores = self._scores(wanted)
        notes = [read_score_notes(self._out, test.digest)["left_out"] for test in wanted.tests]
        return replace(
            empty,
            measures=measures,
            auc_of_seeds=found["auc"].of_seeds,
            clips=len(scores.labels),
            fakes=int(scores.labels.sum()),
            left_out="; ".join(dict.fromkeys(note for note in notes if note)),
        )

    def _replicates(self, wanted: Wanted) -> dict[str, Replicated]:
        """Return the metrics of a cell; those of its parts are kept, since a mean needs them again."""
        if wanted.inputs not in self._replicated:
            if wanted.parts:
                self._replicated[wanted.inputs] = mean_of([self._replicates(part) for part in wanted.parts])
            else:
                scores = self._scores(wanted)
                self._replicated[wanted.inputs] = replicate(scores.clip_ids, scores.labels, scores.by_seed)
        return self._replicated[wanted.inputs]

    def _scores(self, wanted: Wanted) -> Scores:
        return mean_scores([read_scores(self._out, test.digest) for test in wanted.tests])


def _all_tests(wanted: Wanted) -> list[Trial]:
    return [test for each in (wanted, *wanted.parts) for test in each.tests]


def _described(wanted: Wanted) -> Cell:
    """Return the cell without its number."""
    protocol, column = wanted.protocol, wanted.column
    if column.mean_of:
        return Cell(*wanted.place, status="gap", features=wanted.row.features)
    recipe = protocol.recipe(column)
    train, test = (protocol.datasets[str(key)] for key in (column.train, column.test))
    first = wanted.tests[0] if wanted.tests else None
    return Cell(
        *wanted.place,
        status="gap",
        features=wanted.row.features,
        head=recipe.head,
        settings=recipe.settings,
        join=recipe.join,
        seeds=recipe.seeds,
        share=recipe.share,
        train=str(Choice(train.manifest, train.train)),
        test=str(Choice(test.manifest, test.test)),
        train_key=first.fit.train.key if first else "",
        test_key=first.test.key if first else "",
    )

"""A protocol's grid, filled: ours with its interval, published, difference; what is best, grey, or missing and why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

from probes.intervals import Measure
from probes.protocol import Column, Protocol, Recipe, Row
from probes.results import Cell, Results
from probes.tables.published import published

LOWER_IS_BETTER = ("eer",)


@dataclass(frozen=True)
class Entry:
    """One cell; numbers in percent, rounded to tenths as they are printed, halves up.

    ours: the number with its interval, None when it could not be made.
    published: the paper's number, None when it gives none.
    grey: it does not count, as in the paper. best: no other of its column is better.
    applies: False where the protocol asks for no number.
    notes: numbers of the grid's notes that say what is missing, from 1.
    """

    ours: Measure | None = None
    published: float | None = None
    grey: bool = False
    best: bool = False
    applies: bool = True
    notes: tuple[int, ...] = ()

    @property
    def difference(self) -> float | None:
        """Ours less the published, so that what is printed adds up."""
        if self.ours is None or self.published is None:
            return None
        return tenths(self.ours.value - self.published)


@dataclass(frozen=True)
class Grid:
    """A table ready to be written in any form.

    lines: for each row its entries in the order of ``columns``.
    notes: what is missing, each once.
    about: sentences on how the numbers were made.
    left_out: for each test set and features of which not all clips could be tested, how many and why.
    """

    name: str
    title: str
    metric: str
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    lines: tuple[tuple[Entry, ...], ...]
    notes: tuple[str, ...]
    about: tuple[str, ...]
    left_out: tuple[str, ...] = ()


def grid(protocol: Protocol, results: Results) -> Grid:
    """Return the protocol's grid with what results and publications have for it.

    A cell that results do not know is empty, with a note that it was not run.

    Raises:
        ProtocolError: the published numbers are not numbers.
    """
    paper = published(protocol)
    notes: dict[str, int] = {}
    lines = []
    for row in protocol.rows:
        line = []
        for column in protocol.columns:
            known = paper.get((row.name, column.name))
            cell = results.cell(protocol.name, row.name, column.name)
            entry = _entry(protocol, row, cell, notes)
            line.append(replace(entry, published=known, grey=protocol.is_grey(row, column)))
        lines.append(line)
    cells = [cell for cell in results.cells if cell.protocol == protocol.name]
    return Grid(
        protocol.name,
        protocol.title,
        protocol.metric,
        protocol.columns,
        protocol.rows,
        tuple(map(tuple, _with_best(lines, protocol.metric))),
        tuple(notes),
        (*_about(protocol, cells), *protocol.notes),
        tuple(dict.fromkeys(_left_out(cell) for cell in cells if cell.left_out)),
    )


def tenths(value: float) -> float:
    """Round to one decimal, halves up: 54.65 is 54.7, also where its nearest binary number lies a little below."""
    return math.floor(round(10 * value, 6) + 0.5) / 10


def _entry(protocol: Protocol, row: Row, cell: Cell | None, notes: dict[str, int]) -> Entry:
    if not row.features or (cell is not None and cell.status == "none"):
        return Entry(applies=False)
    if cell is not None and cell.status == "done":
        measure = cell.measures[protocol.metric]
        return Entry(Measure(*(tenths(100 * value) for value in (measure.value, measure.low, measure.high))))
    reasons = cell.reasons if cell is not None else (f"Not run yet: probes run {protocol.name}.",)
    return Entry(notes=tuple(sorted(notes.setdefault(reason, len(notes) + 1) for reason in reasons)))


def _with_best(lines: Sequence[Sequence[Entry]], metric: str) -> list[list[Entry]]:
    """Mark the best of each column, as it is printed, among those that count."""
    sign = -1 if metric in LOWER_IS_BETTER else 1
    columns = []
    for column in zip(*lines, strict=True):
        values = [sign * entry.ours.value for entry in column if entry.ours and not entry.grey]
        best = max(values, default=None)
        columns.append(
            [
                replace(
                    entry,
                    best=entry.ours is not None and not entry.grey and sign * entry.ours.value == best,
                )
                for entry in column
            ]
        )
    return [list(line) for line in zip(*columns, strict=True)]


def _about(protocol: Protocol, cells: Sequence[Cell]) -> list[str]:
    """Say how the numbers that are there were made, or else how they would be."""
    made = [_recipe(cell) for cell in cells if cell.status == "done" and cell.head]
    recipes = dict.fromkeys(map(describe, made or protocol.probes.values()))
    paper = "; then the published number and our difference to it" if protocol.published else ""
    sentences = [
        f"{protocol.metric.upper()} in percent, the mean over seeds, in brackets the middle 95 % of bootstrap "
        f"replicates over clips and seeds{paper}."
    ]
    return [*sentences, *(f"Probe: {recipe}." for recipe in recipes)]


def _left_out(cell: Cell) -> str:
    return f"{cell.test}, {' + '.join(cell.features)}: {cell.left_out}"


def describe(recipe: Recipe) -> str:
    """Say in a few words how a probe is made: ``linear, solver adam (the paper's), pool lse, seed 43``."""
    words = [recipe.head]
    for name, value in recipe.settings.items():
        whose = {("solver", "adam"): " (the paper's)", ("solver", "lbfgs"): " (ours)"}.get((name, str(value)), "")
        words.append(f"{name.replace('_', ' ')} {value}{whose}")
    if recipe.share < 1:
        words.append(f"{100 * recipe.share:g} % of the training clips")
    if recipe.join == "late":
        words.append("the mean score of one probe for each feature")
    many = "seeds" if len(recipe.seeds) > 1 else "seed"
    return ", ".join([*words, f"{many} {', '.join(map(str, recipe.seeds))}"])


def _recipe(cell: Cell) -> Recipe:
    facts: Mapping[str, object] = asdict(cell)
    return Recipe(**{name: facts[name] for name in ("head", "settings", "seeds", "share", "join")})  # type: ignore[arg-type]

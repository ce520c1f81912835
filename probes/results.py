"""What ``probes run`` found, on disk and in memory; tables, figures and reports read it from here.

OUT/results.parquet     one row for each cell of each protocol that was run: a ``Cell``
OUT/scores/D.parquet    the clip scores of one test, one column for each seed; D is a digest of all it depends on
OUT/probes/D-SEED.safetensors    the probes, for ``probes.probe_file.load_probe``

>>> results = read_results(out)
>>> cell = results.cell("table2", "Wav2Vec2", "av1m_favc")
>>> results.scores(cell).mean  # [clips], with .clip_ids and .labels beside
>>> results.probes(cell)[0].frame_scores(data)

Each file is written whole or not at all, so reading is safe while a run goes on.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import IO, Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from avfeat.errors import ProbeError
from probes.intervals import Measure
from probes.metrics import METRICS
from probes.probe_file import load_probe

RESULTS_FILE = "results.parquet"
SEED_COLUMN = "seed_"


@dataclass(frozen=True)
class Cell:
    """One number of a protocol's grid, and where it comes from.

    status: ``done``; ``gap``, it could not be made, ``reasons`` says why; ``none``, the protocol asks for none here.
    inputs: digest of all that the number depends on; empty unless done.
    measures: auc, ap and eer as fractions: the mean over seeds, with the interval of a bootstrap of clips and seeds.
    auc_of_seeds: each seed's own AUC.
    features, head, settings, join, seeds, share: how the probes were made; empty for the mean of other columns.
    train, test: manifest and split, and ``train_key``, ``test_key`` the manifests' keys in the store.
    clips, fakes: how many were tested; left_out: a sentence when some could not be.
    tests: digests of the score files, one for each probe whose scores are averaged (late fusion has several); none
        unless done. fits: digests of the probes' files, in the same order.
    """

    protocol: str
    row: str
    column: str
    status: Literal["done", "gap", "none"]
    reasons: tuple[str, ...] = ()
    inputs: str = ""
    measures: Mapping[str, Measure] = field(default_factory=dict)
    auc_of_seeds: tuple[float, ...] = ()
    features: tuple[str, ...] = ()
    head: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    join: str = ""
    seeds: tuple[int, ...] = ()
    share: float = 1.0
    train: str = ""
    test: str = ""
    train_key: str = ""
    test_key: str = ""
    clips: int = 0
    fakes: int = 0
    left_out: str = ""
    tests: tuple[str, ...] = ()
    fits: tuple[str, ...] = ()

    @property
    def place(self) -> tuple[str, str, str]:
        """Protocol, row and column."""
        return self.protocol, self.row, self.column


@dataclass(frozen=True)
class Scores:
    """Clip scores of one cell, higher = more likely fake.

    labels: int64 [clips], 0 real, 1 fake; by_seed: float64 [clips, seeds].
    """

    clip_ids: tuple[str, ...]
    labels: NDArray[np.int64]
    by_seed: NDArray[np.float64]

    @property
    def mean(self) -> NDArray[np.float64]:
        """The mean over seeds, float64 [clips]."""
        means: NDArray[np.float64] = self.by_seed.mean(1)
        return means

    def of(self, clip_ids: Sequence[str]) -> Scores:
        """Return the scores of these clips, in this order."""
        position = {clip_id: k for k, clip_id in enumerate(self.clip_ids)}
        rows = [position[clip_id] for clip_id in clip_ids]
        return Scores(tuple(clip_ids), self.labels[rows], self.by_seed[rows])


@dataclass(frozen=True)
class Results:
    """All cells in one folder; ``cells`` in the order of their protocols' rows and columns."""

    out: Path
    cells: tuple[Cell, ...]

    @cached_property
    def _by_place(self) -> dict[tuple[str, str, str], Cell]:
        return {cell.place: cell for cell in self.cells}

    @property
    def protocols(self) -> list[str]:
        """The names of the protocols that were run."""
        return list(dict.fromkeys(cell.protocol for cell in self.cells))

    def of(self, protocol: str) -> list[Cell]:
        """Return the cells of one protocol.

        Raises:
            ProbeError: it was not run; the message lists those that were.
        """
        cells = [cell for cell in self.cells if cell.protocol == protocol]
        if not cells:
            known = ", ".join(self.protocols) or "none"
            raise ProbeError(f"{self.out} has no results of {protocol} (of {known}): probes run {protocol} makes them.")
        return cells

    def cell(self, protocol: str, row: str, column: str) -> Cell | None:
        """Return one cell, None when its protocol was not run or has no such cell."""
        return self._by_place.get((protocol, row, column))

    def scores(self, cell: Cell) -> Scores:
        """Return the clip scores of a cell that is done; of several probes the mean over the clips that all scored.

        Raises:
            ProbeError: the cell has no scores of its own, or their file is missing.
        """
        if not cell.tests:
            raise ProbeError(f"{' / '.join(cell.place)} has no scores of its own: it is {cell.status}, or a mean.")
        return mean_scores([read_scores(self.out, test) for test in cell.tests])

    def probe_paths(self, cell: Cell) -> list[Path]:
        """Return the files of a cell's probes: for each fit one for each seed."""
        return [probe_path(self.out, fit, seed) for fit in cell.fits for seed in cell.seeds]

    def probes(self, cell: Cell) -> list[Any]:
        """Return a cell's probes ready to score, in the order of ``probe_paths``; see ``probes.heads.Head``.

        Raises:
            ProbeError: a file is missing.
        """
        return [load_probe(path) for path in self.probe_paths(cell)]


def read_results(out: Path) -> Results:
    """Read all cells of a folder that ``probes run`` wrote to; a folder without results has no cells.

    Raises:
        ProbeError: the results cannot be read.
    """
    path = Path(out) / RESULTS_FILE
    if not path.is_file():
        return Results(Path(out), ())
    try:
        lines = pq.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ProbeError(f"{path} cannot be read: {error}; remove it, and probes run makes it anew.") from error
    return Results(Path(out), tuple(_cell(line) for line in lines))


def write_results(out: Path, cells: Iterable[Cell]) -> None:
    """Replace the results of a folder, whole or not at all."""
    lines = [_line(cell) for cell in cells]
    write_whole(Path(out) / RESULTS_FILE, pa.Table.from_pylist(lines, schema=_SCHEMA))


def probe_path(out: Path, fit: str, seed: int) -> Path:
    """Return where the probe of one seed of a fit is."""
    return Path(out) / "probes" / f"{fit}-{seed}.safetensors"


def scores_path(out: Path, test: str) -> Path:
    """Return where the scores of a test are."""
    return Path(out) / "scores" / f"{test}.parquet"


def write_scores(out: Path, test: str, seeds: Sequence[int], scores: Scores, notes: Mapping[str, str]) -> None:
    """Write the scores of one test, whole or not at all; ``notes`` go into the file's metadata."""
    columns: dict[str, Any] = {"clip_id": list(scores.clip_ids), "label": pa.array(scores.labels, pa.int8())}
    columns |= {f"{SEED_COLUMN}{seed}": scores.by_seed[:, k] for k, seed in enumerate(seeds)}
    write_whole(scores_path(out, test), pa.table(columns).replace_schema_metadata(dict(notes)))


def read_scores(out: Path, test: str) -> Scores:
    """Read the scores of one test.

    Raises:
        ProbeError: there are none.
    """
    table = _score_table(out, test)
    seeds = [name for name in table.column_names if name.startswith(SEED_COLUMN)]
    by_seed = np.stack([table[name].to_numpy() for name in seeds], axis=1)
    return Scores(tuple(table["clip_id"].to_pylist()), table["label"].to_numpy().astype(np.int64), by_seed)


def read_score_notes(out: Path, test: str) -> dict[str, str]:
    """Return the notes that were written beside the scores.

    Raises:
        ProbeError: there are none.
    """
    notes = _score_table(out, test).schema.metadata or {}
    return {key.decode(): value.decode() for key, value in notes.items()}


def mean_scores(several: Sequence[Scores]) -> Scores:
    """Return the mean of several probes' scores over the clips that all have, in the first one's order."""
    first, *others = several
    common = set(first.clip_ids).intersection(*(each.clip_ids for each in others))
    clip_ids = [clip_id for clip_id in first.clip_ids if clip_id in common]
    if not clip_ids:
        raise ProbeError("The probes have no clip in common, so their scores have no mean.")
    chosen = [each.of(clip_ids) for each in several]
    return Scores(chosen[0].clip_ids, chosen[0].labels, np.mean([each.by_seed for each in chosen], axis=0))


def write_whole(path: Path, table: pa.Table) -> None:
    """Write a table, whole or not at all."""
    _write(path, lambda file: pq.write_table(table, file))


def write_text(path: Path, text: str) -> None:
    """Write a text, whole or not at all."""
    _write(path, lambda file: file.write(text.encode()))


def _write(path: Path, fill: Callable[[IO[bytes]], object]) -> None:
    """Write beside the place, to disk, and rename, so that whoever reads sees all of it or nothing."""
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("xb") as file:
                fill(file)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ProbeError(f"{path} cannot be written: {error.strerror}.") from error


def _score_table(out: Path, test: str) -> pa.Table:
    path = scores_path(out, test)
    try:
        return pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise ProbeError(f"{path} cannot be read: {error}; remove it, and probes run makes it anew.") from error


_TEXTS = pa.list_(pa.string())
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("protocol", "row", "column", "status")),
        ("reasons", _TEXTS),
        ("inputs", pa.string()),
        *((f"{metric}{end}", pa.float64()) for metric in METRICS for end in ("", "_low", "_high")),
        ("auc_of_seeds", pa.list_(pa.float64())),
        ("features", _TEXTS),
        *((name, pa.string()) for name in ("head", "settings", "join")),
        ("seeds", pa.list_(pa.int64())),
        ("share", pa.float64()),
        *((name, pa.string()) for name in ("train", "test", "train_key", "test_key")),
        *((name, pa.int64()) for name in ("clips", "fakes")),
        ("left_out", pa.string()),
        ("tests", _TEXTS),
        ("fits", _TEXTS),
    ]
)
"""The columns of results.parquet; measures are null unless a cell is done."""


def _line(cell: Cell) -> dict[str, Any]:
    line = asdict(cell)
    for metric, measure in cell.measures.items():
        line |= {metric: measure.value, f"{metric}_low": measure.low, f"{metric}_high": measure.high}
    line["settings"] = json.dumps(cell.settings, sort_keys=True)
    del line["measures"]
    return line


def _cell(line: dict[str, Any]) -> Cell:
    measures = {}
    for metric in METRICS:
        value, low, high = (line.pop(f"{metric}{end}") for end in ("", "_low", "_high"))
        if value is not None:
            measures[metric] = Measure(value, low, high)
    line = {name: tuple(value) if isinstance(value, list) else value for name, value in line.items()}
    return Cell(**{**line, "settings": json.loads(line["settings"])}, measures=measures)

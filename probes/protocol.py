"""Protocols: which probes to fit on what and to test on what, read from YAML; a table or figure is made of one.

A protocol is a grid. A row says which features are read, a column which probe, trained on what, tested on what; each
cell of the grid is then one number. docs/protocols.md describes the file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from avfeat.errors import ProbeError, ProtocolError
from probes.fit import PAPER_SEED, settings_for
from probes.heads import HEADS, head_class
from probes.pooling import Pooling
from probes.protocol_yaml import Document

FOLDER = Path(__file__).parent / "manifests"
"""What is known beforehand: protocols/*.yaml, and published/*.csv with the numbers of the paper."""


@dataclass(frozen=True)
class Dataset:
    """A manifest by its key or name in the stores, or by its file, and the splits to learn from and to test on.

    val: chooses the best epoch; None fits without.
    shuffle: a seed; the labels of each split then fall to its clips by lot. What a probe learns from such labels shows
        what the pipeline lets through besides them: its AUC must lie at one half, within its interval.
    """

    manifest: str
    train: str = "train"
    val: str | None = "val"
    test: str = "test"
    shuffle: int | None = None


@dataclass(frozen=True)
class Recipe:
    """How a probe is made of one row's features.

    head: its name, e.g. linear.
    settings: what the head's class takes, e.g. solver and pool of linear; seed and device are not among them.
    seeds: one probe for each; a cell is their mean.
    share: of the training clips, above 0 and up to 1.
    join: ``early`` has one probe read all features of a row side by side, ``late`` has one for each and takes the mean
        of their clip scores.
    """

    head: str = "linear"
    settings: Mapping[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (PAPER_SEED,)
    share: float = 1.0
    join: Literal["early", "late"] = "early"


@dataclass(frozen=True)
class Row:
    """Features by name; without any, the row has published numbers only. ``name`` is also the row of the published."""

    name: str
    features: tuple[str, ...] = ()
    group: str = ""


@dataclass(frozen=True)
class Column:
    """What is done with each row's features: ``probe`` trained on ``train`` and tested on ``test``.

    train, test: names among the datasets.
    probe: a name among the probes; None: the only one.
    mean_of: in place of all these, other columns whose mean this one shows.
    """

    name: str
    title: str | None = None
    train: str | None = None
    test: str | None = None
    probe: str | None = None
    mean_of: tuple[str, ...] = ()

    @property
    def head(self) -> str:
        """What stands above the column."""
        return self.title or self.name


@dataclass(frozen=True)
class Grey:
    """Cells that do not count, as the paper greys them: all rows of these groups in these columns."""

    groups: tuple[str, ...]
    columns: tuple[str, ...]


@dataclass(frozen=True)
class Protocol:
    """One grid of probes and tests, and how it is shown.

    shows: ``table``, or the figure that is drawn of its probes and scores.
    metric: the number of a cell.
    published: a file with the paper's numbers, in manifests/published or beside the protocol's own file.
    clips: for figures of single clips, those to draw; empty leaves the choice to the figure.
    name, path: of the file; set by ``read_protocol``.
    """

    title: str
    datasets: Mapping[str, Dataset]
    rows: tuple[Row, ...]
    columns: tuple[Column, ...]
    probes: Mapping[str, Recipe] = field(default_factory=lambda: {"linear": Recipe()})
    shows: Literal["table", "frame-scores", "heat-maps", "complementarity"] = "table"
    metric: Literal["auc", "ap", "eer"] = "auc"
    published: str | None = None
    grey: tuple[Grey, ...] = ()
    clips: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    name: str = field(default="", metadata={"in_file": False})
    path: Path = field(default=Path(), metadata={"in_file": False})

    def recipe(self, column: Column) -> Recipe:
        """Return how a column's probes are made."""
        return self.probes[column.probe or next(iter(self.probes))]

    def is_grey(self, row: Row, column: Column) -> bool:
        """Whether a cell does not count."""
        return any(row.group in grey.groups and column.name in grey.columns for grey in self.grey)

    @cached_property
    def published_path(self) -> Path | None:
        """Where the published numbers are."""
        if self.published is None:
            return None
        beside = self.path.parent / self.published
        return beside if beside.is_file() else FOLDER / "published" / self.published


def known_protocols() -> list[str]:
    """Return the names of the protocols that come with the package."""
    return sorted(path.stem for path in (FOLDER / "protocols").glob("*.yaml"))


def read_protocol(text: str | Path) -> Protocol:
    """Read and check a protocol by its name (``table2``) or by its file (``mine.yaml``).

    Raises:
        ProtocolError: there is none of this name, or its file is wrong; the sentence has file and line.
    """
    path = Path(text)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / "protocols" / f"{text}.yaml"
        if not path.is_file():
            known = known_protocols()
            near = get_close_matches(str(text), known, 1)
            hint = f"did you mean {near[0]}? " if near else ""
            raise ProtocolError(
                f"There is no protocol {str(text)!r}; {hint}Known are {', '.join(known)}, or name a .yaml file."
            )
    document = Document(path)
    protocol = replace(document.read(Protocol), name=path.stem, path=path)
    _check(protocol, document)
    return protocol


def _check(protocol: Protocol, document: Document) -> None:
    for each, kind in ((protocol.datasets, "datasets"), (protocol.probes, "probes"), (protocol.rows, "rows")):
        if not each:
            document.fault((kind,), f"{kind} must not be empty.")
    for name, recipe in protocol.probes.items():
        _check_recipe(name, recipe, document)
    for kind, named in (("rows", protocol.rows), ("columns", protocol.columns)):
        _check_distinct([each.name for each in named], kind, document)
    for k, row in enumerate(protocol.rows):
        if len(set(row.features)) < len(row.features):
            document.fault(("rows", k, "features"), f"row {row.name!r} names a feature twice.")
    for k, column in enumerate(protocol.columns):
        _check_column(k, column, protocol, document)
    groups, columns = {row.group for row in protocol.rows}, {column.name for column in protocol.columns}
    for k, grey in enumerate(protocol.grey):
        for kind, names, known in (("groups", grey.groups, groups), ("columns", grey.columns, columns)):
            for n, name in enumerate(names):
                _check_known(name, sorted(known), kind.removesuffix("s"), ("grey", k, kind, n), document)
    if protocol.published_path is not None and not protocol.published_path.is_file():
        known_files = sorted(path.name for path in (FOLDER / "published").glob("*.csv"))
        _check_known(protocol.published or "", known_files, "file of published numbers", ("published",), document)


def _check_recipe(name: str, recipe: Recipe, document: Document) -> None:
    place = ("probes", name)
    _check_known(recipe.head, list(HEADS), "head", (*place, "head"), document)
    if not recipe.seeds or len(set(recipe.seeds)) < len(recipe.seeds):
        document.fault((*place, "seeds"), "seeds must be one or several different whole numbers.")
    if not 0 < recipe.share <= 1:
        document.fault((*place, "share"), "the share of training clips must be above 0 and at most 1.")
    if recipe.head == "late-fusion":
        document.fault((*place, "head"), "late fusion is made of other heads: name theirs, and say join: late.")
    known = [key for key in head_class(recipe.head)().get_params() if key not in ("seed", "device")]
    for key in recipe.settings:
        _check_known(key, known, f"setting of {recipe.head}", (*place, "settings", key), document)
    for key, check in (("pool", Pooling.parse), ("solver", settings_for)):
        if key in recipe.settings and recipe.head == "linear":
            try:
                check(str(recipe.settings[key]))
            except ProbeError as error:
                document.fault((*place, "settings", key), str(error))


def _check_column(k: int, column: Column, protocol: Protocol, document: Document) -> None:
    place = ("columns", k)
    if column.mean_of:
        if column.train or column.test or column.probe:
            document.fault(place, f"column {column.name!r} is a mean, so it takes neither train nor test nor probe.")
        known = [other.name for other in protocol.columns if not other.mean_of]
        for n, name in enumerate(column.mean_of):
            _check_known(name, known, "column to take a mean of", (*place, "mean_of", n), document)
        return
    for key in ("train", "test"):
        name = getattr(column, key)
        if name is None:
            document.fault(place, f"column {column.name!r} needs train and test, or mean_of.")
        _check_known(name, list(protocol.datasets), "dataset", (*place, key), document)
    if column.probe is None and len(protocol.probes) > 1:
        document.fault(place, f"column {column.name!r} must name its probe: {', '.join(protocol.probes)}.")
    if column.probe is not None:
        _check_known(column.probe, list(protocol.probes), "probe", (*place, "probe"), document)


def _check_known(name: str, known: Sequence[str], what: str, place: tuple[str | int, ...], document: Document) -> None:
    if name not in known:
        document.fault(place, f"there is no {what} {name!r}; known are {', '.join(known)}.")


def _check_distinct(names: Sequence[str], kind: str, document: Document) -> None:
    for k, name in enumerate(names):
        if name in names[:k]:
            document.fault((kind, k, "name"), f"two {kind} are called {name!r}.")

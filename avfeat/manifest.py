"""The manifest: a Parquet table of clips, one row each; its digest is what the store calls the dataset by."""

from __future__ import annotations

import os
import re
import uuid
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from avfeat.errors import ManifestError
from avfeat.manifest_digest import digest
from avfeat.manifest_rules import check_rules, count_clips, name_five, printable

Segment = tuple[float, float]
"""Start and end in seconds from the start of the clip."""

_SEGMENTS = pa.list_(pa.struct([("start_seconds", pa.float64()), ("end_seconds", pa.float64())]))

SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("label", pa.int8()),
        pa.field("audio_label", pa.int8()),
        pa.field("video_label", pa.int8()),
        pa.field("segments", _SEGMENTS),
        pa.field("audio_segments", _SEGMENTS),
        pa.field("video_segments", _SEGMENTS),
        pa.field("method", pa.string()),
        pa.field("speaker", pa.string()),
        pa.field("original", pa.string()),
        pa.field("duration_seconds", pa.float64()),
        pa.field("fps", pa.float64()),
        pa.field("source_frames", pa.int64()),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("has_video", pa.bool_()),
        pa.field("has_audio", pa.bool_()),
        pa.field("audio_rate_hz", pa.int32()),
    ]
)
"""The columns of format 1; null means unknown."""

MEDIA_FACTS = tuple(SCHEMA.names[SCHEMA.names.index("duration_seconds") :])
"""The columns that probing a file fills."""

FORMAT = "1"
_ADDED_LATER = ("original",)
"""Columns that files of format 1 may lack: they read as null, which leaves the digest what it was."""

_PREFIX = "avfeat."
_SAFE_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")


@dataclass(frozen=True)
class DatasetInfo:
    """What a manifest says about the whole dataset; ``root`` is the folder that paths are relative to.

    Raises:
        ManifestError: ``name`` could not be a folder's name in the store.
    """

    name: str
    version: str = ""
    root: str = ""
    source: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        if not _SAFE_NAME.fullmatch(self.name):
            raise ManifestError(
                f"{self.name!r} cannot be a dataset's name: use a-z, 0-9, '.', '_' and '-', "
                "with a letter or a digit first; on the command line, --name gives it."
            )


@dataclass(frozen=True, slots=True)
class Row:
    """One clip. ``label`` is 0 real, 1 fake, None unknown; ``segments`` are the fake stretches, None unknown, [] none.

    ``path`` is relative to the dataset's root, with forward slashes, as on disk; ``original`` is the clip_id of the
    clip that this one was made from, which may be missing from the manifest; ``width`` and ``height`` are those of the
    displayed picture, after rotation.
    """

    clip_id: str
    path: str
    split: str | None = None
    label: int | None = None
    audio_label: int | None = None
    video_label: int | None = None
    segments: Sequence[Segment] | None = None
    audio_segments: Sequence[Segment] | None = None
    video_segments: Sequence[Segment] | None = None
    method: str | None = None
    speaker: str | None = None
    original: str | None = None
    duration_seconds: float | None = None
    fps: float | None = None
    source_frames: int | None = None
    width: int | None = None
    height: int | None = None
    has_video: bool | None = None
    has_audio: bool | None = None
    audio_rate_hz: int | None = None


@dataclass(frozen=True, eq=False)
class Manifest:
    """Clips, checked and sorted by clip_id, and what dataset they are.

    ``table`` may be given in any row order and chunking, with any types that convert to SCHEMA without loss.

    Raises:
        ManifestError: columns are missing, unknown or of another type, or a rule of manifest_rules is broken.
    """

    table: pa.Table
    info: DatasetInfo

    def __post_init__(self) -> None:
        object.__setattr__(self, "table", _sorted(_conform(self.table)))
        check_rules(self.table)

    @classmethod
    def from_rows(cls, rows: Iterable[Row], info: DatasetInfo) -> Manifest:
        """Make a manifest of rows in any order.

        Raises:
            ManifestError: a value does not fit its column, or a rule is broken; names five clips.
        """
        listed = list(rows)
        columns = [_column(listed, field) for field in SCHEMA]
        return cls(pa.table(columns, schema=SCHEMA), info)

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a manifest file.

        Raises:
            ManifestError: the file is missing, not Parquet, not a manifest, of another format, or breaks a rule.
        """
        try:
            table = pq.read_table(path, partitioning=None)
        except FileNotFoundError:
            raise ManifestError(f"{path} does not exist; make it with: avfeat manifest build.") from None
        except (OSError, pa.ArrowException) as error:
            raise ManifestError(f"{path} cannot be read as a manifest: {str(error).rstrip('.')}.") from error
        facts = {key.decode(): value.decode() for key, value in (table.schema.metadata or {}).items()}
        if facts.get(f"{_PREFIX}format") != FORMAT:
            found = facts.get(f"{_PREFIX}format", "none")
            raise ManifestError(
                f"{path} is not a manifest of format {FORMAT} (found format: {found}); "
                "make one with: avfeat manifest build."
            )
        info = {field.name: facts.get(_PREFIX + field.name, "") for field in fields(DatasetInfo)}
        try:
            return cls(table, DatasetInfo(**info))
        except ManifestError as error:
            raise ManifestError(f"{path}: {error}") from None

    def write(self, path: Path) -> None:
        """Write the file, whole or not at all: beside its place first, then renamed; makes the folder if needed.

        Raises:
            ManifestError: the file cannot be written there.
        """
        path = Path(path)
        facts = {"format": FORMAT, **asdict(self.info)}
        table = self.table.replace_schema_metadata({_PREFIX + key: value for key, value in facts.items()})
        beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with beside.open("xb") as file:
                pq.write_table(table, file, compression="zstd")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            raise ManifestError(f"{path} cannot be written: {error}.") from error
        finally:
            beside.unlink(missing_ok=True)

    @cached_property
    def digest(self) -> str:
        """64 hex digits: the hash of what the rows say; see ``avfeat.manifest_digest`` for its bytes."""
        return digest(self.table)

    @property
    def key(self) -> str:
        """The name of this manifest's folder in a store: dataset name and the first 8 digits of the digest."""
        return f"{self.info.name}-{self.digest[:8]}"

    @cached_property
    def clip_ids(self) -> list[str]:
        """All ids, sorted."""
        ids: list[str] = self.table["clip_id"].to_pylist()
        return ids

    def __len__(self) -> int:
        return len(self.table)

    def rows(self) -> Iterator[Row]:
        """Yield the clips in the order of their ids."""
        for batch in self.table.to_batches(max_chunksize=4096):
            columns = [_to_python(column) for column in batch.columns]
            for values in zip(*columns, strict=True):
                yield Row(*values)

    def row(self, clip_id: str) -> Row:
        """Return one clip.

        Raises:
            ManifestError: no clip has this id.
        """
        ids = self.table["clip_id"]
        at = bisect_left(range(len(ids)), clip_id, key=lambda index: ids[index].as_py())
        if at == len(ids) or ids[at].as_py() != clip_id:
            near = name_five([ids[index].as_py() for index in range(max(at - 1, 0), min(at + 1, len(ids)))])
            raise ManifestError(f"{self.info.name} has no clip {clip_id!r}; its nearest ids are: {near}.")
        return Row(*(_to_python(column)[0] for column in self.table.slice(at, 1).columns))

    def media_root(self, root: Path | None = None) -> Path:
        """Return the folder that paths are relative to: ``root`` when given, else the one that the manifest names.

        Raises:
            ManifestError: there is no such folder, or none is named.
        """
        named = str(root or self.info.root)
        if not named or not Path(named).is_dir():
            where = f"{named} is not a folder" if named else f"{self.info.name} does not say where its media lie"
            raise ManifestError(f"{where}: give the folder with --root.")
        return Path(named)

    def select(self, split: str | None = None) -> Manifest:
        """Return the clips of one split, all when ``split`` is None; the digest is that of the clips selected.

        Raises:
            ManifestError: no clip is in this split; the message lists the splits that there are.
        """
        if split is None:
            return self
        chosen = self.table.filter(pc.equal(self.table["split"], split))
        if len(chosen) == 0:
            counts = pc.value_counts(self.table["split"].drop_null()).to_pylist()
            known = ", ".join(f"{count['values']} ({count_clips(count['counts'])})" for count in counts)
            how = f"its splits are {known}." if known else "it names no splits: make them with avfeat manifest split."
            raise ManifestError(f"{self.info.name} has no clip in split {split!r}; {how}")
        return Manifest(chosen, self.info)


def _column(rows: Sequence[Row], field: pa.Field) -> pa.Array:
    values = list(map(attrgetter(field.name), rows))
    try:
        return pa.array(values, field.type)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        wrong = [row.clip_id for row, value in zip(rows, values, strict=True) if not _fits(value, field.type)]
        raise ManifestError(
            f"{count_clips(len(wrong))} with a {field.name} that cannot be written as {field.type}: "
            f"{name_five([printable(str(name)) for name in wrong])}."
        ) from None


def _fits(value: Any, form: pa.DataType) -> bool:
    try:
        pa.array([value], form)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return False
    return True


def _conform(table: pa.Table) -> pa.Table:
    """Return the table with the schema's columns, types and order, in one chunk each."""
    for name in _ADDED_LATER:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table), SCHEMA.field(name).type))
    missing = [name for name in SCHEMA.names if name not in table.column_names]
    unknown = [name for name in table.column_names if name not in SCHEMA.names]
    if missing or unknown or len(table.column_names) != len(SCHEMA):
        raise ManifestError(
            f"the columns are not those of a manifest: missing {', '.join(missing) or 'none'}; "
            f"not known {', '.join(unknown) or 'none'}."
        )
    if table["clip_id"].null_count or table["path"].null_count:
        raise ManifestError(f"{table['clip_id'].null_count} clip_id and {table['path'].null_count} path are null.")
    columns = []
    for field in SCHEMA:
        try:
            column = table[field.name].cast(field.type)
            column.validate(full=True)
        except pa.ArrowException as error:
            raise ManifestError(f"column {field.name} cannot be read as {field.type}: {error}.") from None
        columns.append(column)
    return pa.table(columns, schema=SCHEMA).combine_chunks()


def _sorted(table: pa.Table) -> pa.Table:
    """Sort by the UTF-8 bytes of clip_id, which is also Python's order of strings."""
    ids = table["clip_id"]
    if len(ids) < 2 or pc.all(pc.less_equal(ids.slice(0, len(ids) - 1), ids.slice(1))).as_py():
        return table
    return table.take(pc.sort_indices(ids)).combine_chunks()


def _to_python(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if pa.types.is_list(column.type):
        return [None if parts is None else [tuple(part.values()) for part in parts] for parts in values]
    return values

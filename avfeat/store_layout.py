"""Format 1 of the store: every name, path and attribute file is made here; see docs/format.md.

STORE/zarr.json
STORE/<manifest>-<digest8>/{zarr.json, manifest.parquet}
STORE/<manifest>-<digest8>/<feature>/zarr.json
STORE/<manifest>-<digest8>/<feature>/part-00000/{zarr.json, index.parquet, frames/{zarr.json, c.0.0, c.1.0, ...}}
STORE/<manifest>-<digest8>/<feature>/part-00000.r1/...   clips of part 0 that were done again

Names that begin with a dot are private: somebody's unfinished work, or what a killed process left behind.
"""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from avfeat.errors import StoreError

FORMAT = 1
GROUP_FILE = "zarr.json"
MANIFEST_FILE = "manifest.parquet"
INDEX_FILE = "index.parquet"
FRAMES = "frames"

CHUNK_ROWS = 256
WIDE_CHUNK_ROWS = 128
WIDE = 2048
SHARD_ROWS = 16_384
DTYPES = ("float16", "float32")
CODECS = ("none", "zstd")

DONE, TRUNCATED, FAILED = "done", "truncated", "failed"

INDEX_SCHEMA = pa.schema(
    [
        pa.field("clip_id", pa.string(), nullable=False),
        pa.field("start", pa.int64(), nullable=False),
        pa.field("length", pa.int64(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error", pa.string()),
        pa.field("detail", pa.string()),
        pa.field("crc32c", pa.uint32(), nullable=False),
        pa.field("first_seconds", pa.float64()),
        pa.field("face_ratio", pa.float64()),
        pa.field("faces_max", pa.int32()),
        pa.field("picture_seconds", pa.float64()),
        pa.field("sound_seconds", pa.float64()),
        pa.field("width_px", pa.int32()),
        pa.field("height_px", pa.int32()),
    ]
)
"""The columns of a part's index; null means unknown."""

FACTS = frozenset(INDEX_SCHEMA.names) - {"clip_id", "start", "length", "error", "crc32c"}
"""What whoever writes a clip may say about it."""

_PART = re.compile(r"part-(\d{5,})(?:\.r([1-9]\d*))?")
_FEATURE = re.compile(r"[a-z0-9][a-z0-9._@+=-]*")


@dataclass(frozen=True)
class Form:
    """How the frames of a part lie on disk: [rows, width] in chunks of whole rows, chunks end to end in shards.

    Raises:
        StoreError: an unknown dtype or codec, or shards that are not whole chunks.
    """

    width: int
    dtype: str
    codec: str
    chunk_rows: int
    shard_rows: int

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES or self.codec not in CODECS:
            raise StoreError(
                f"a feature is stored as {' or '.join(DTYPES)} with codec {' or '.join(CODECS)}, "
                f"not as {self.dtype} with codec {self.codec}."
            )
        if self.width < 1 or self.chunk_rows < 1 or self.shard_rows < 1 or self.shard_rows % self.chunk_rows:
            raise StoreError(
                f"frames of width {self.width} cannot lie in chunks of {self.chunk_rows} rows "
                f"and shards of {self.shard_rows}: all must be positive, and a shard whole chunks."
            )

    @classmethod
    def of(cls, width: int, dtype: str = "float16", codec: str = "none", shard_rows: int | None = None) -> Form:
        """Return the form of format 1 for a width; ``shard_rows`` makes small shards for small stores."""
        shard = SHARD_ROWS if shard_rows is None else shard_rows
        chunk = WIDE_CHUNK_ROWS if width >= WIDE else CHUNK_ROWS
        return cls(width, dtype, codec, min(chunk, shard), shard)

    @property
    def numpy(self) -> np.dtype[Any]:
        """The type of a stored number, little-endian."""
        return np.dtype(self.dtype).newbyteorder("<")

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return self.width * self.numpy.itemsize

    @property
    def index_bytes(self) -> int:
        """Bytes of the table at the end of a shard: offset and length of each chunk, and a crc32c."""
        return 16 * (self.shard_rows // self.chunk_rows) + 4

    def shards(self, rows: int) -> Iterator[tuple[str, int, int]]:
        """Yield name, first row and end row of each shard of an array of ``rows`` rows."""
        for number, start in enumerate(range(0, rows, self.shard_rows)):
            yield shard_name(number), start, min(start + self.shard_rows, rows)

    def shard_bytes(self, rows: int) -> int:
        """Bytes of an uncompressed shard that holds ``rows`` rows: whole chunks, then the table."""
        return -(-rows // self.chunk_rows) * self.chunk_rows * self.row_bytes + self.index_bytes


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"c.{number}.0"


def part_name(part: int, attempt: int = 0) -> str:
    """Return the folder name of a part's attempt: ``part-00017``, then ``part-00017.r1`` and so on."""
    return f"part-{part:05d}" + (f".r{attempt}" if attempt else "")


def parse_part(name: str) -> tuple[int, int] | None:
    """Return (part, attempt) of a committed part's folder name, None for any other name."""
    match = _PART.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2] or 0))


def check_feature_name(name: str) -> None:
    """Refuse a name that could not be a folder of the store.

    Raises:
        StoreError: as said.
    """
    if not _FEATURE.fullmatch(name) or name in (GROUP_FILE, MANIFEST_FILE):
        raise StoreError(f"{name!r} cannot be a feature's name: use a-z, 0-9 and '._@+=-', a letter or digit first.")


def private_beside(final: Path) -> Path:
    """Return a fresh private path that one rename turns into ``final``."""
    return final.parent / f".{final.name}.{uuid.uuid4().hex}"


def committed_parts(feature: Path) -> list[tuple[int, int]]:
    """Return (part, attempt) of all that is committed below a feature's folder, sorted.

    Raises:
        StoreError: the folder cannot be listed.
    """
    with disk_errors(feature, "read"):
        found = [parse_part(each.name) for each in feature.iterdir()]
    return sorted(each for each in found if each is not None)


def leftovers(folder: Path) -> list[Path]:
    """Return the private files and folders directly below ``folder``, sorted."""
    with disk_errors(folder, "read"):
        return sorted(each for each in folder.iterdir() if each.name.startswith("."))


def age_seconds(path: Path) -> float:
    """Return how long ago anything in this private file or folder was last written; a huge age if it is gone."""
    newest = 0.0
    for each in (path, *(path.rglob("*") if path.is_dir() else ())):
        with suppress(FileNotFoundError):
            newest = max(newest, each.stat().st_mtime)
    return time.time() - newest


def remove(path: Path) -> None:
    """Remove a file or folder in such a way that nobody ever sees half of it under its name.

    Renamed away first: a stalled writer of a private folder then finds it gone as a whole, and a reader never meets a
    part without some of its shards.
    """
    gone = path.parent / f".gone.{uuid.uuid4().hex}"
    with disk_errors(path):
        try:
            path.rename(gone)
        except FileNotFoundError:
            return
        if gone.is_dir() and not gone.is_symlink():
            shutil.rmtree(gone)
        else:
            gone.unlink()


def sweep(folder: Path, older_than_seconds: float = 86_400.0) -> list[Path]:
    """Remove what killed writers left directly below ``folder``, a day after the last write to it; return what went."""
    old = [path for path in leftovers(folder) if age_seconds(path) > older_than_seconds]
    for path in old:
        remove(path)
    return old


def group_json(attributes: Mapping[str, Any]) -> bytes:
    """Return the bytes of a Zarr v3 group file of format 1."""
    whole = {"zarr_format": 3, "node_type": "group", "attributes": {"format": FORMAT, **attributes}}
    return (json.dumps(whole, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_group(folder: Path, kind: str) -> dict[str, Any]:
    """Return the attributes of a group of the store.

    Args:
        folder: the group's folder.
        kind: ``store``, ``manifest``, ``feature`` or ``part``.

    Raises:
        StoreError: the folder is no such group, or of a format that this version does not read.
    """
    try:
        whole = json.loads((folder / GROUP_FILE).read_bytes())
        attributes = whole["attributes"]
        found, version = attributes["kind"], attributes["format"]
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{folder} is not a {kind} of an avfeat store: it has no {GROUP_FILE}.") from None
    except OSError as error:
        raise StoreError(f"{folder / GROUP_FILE} cannot be read: {error.strerror}.") from error
    except (ValueError, KeyError, TypeError):
        raise StoreError(
            f"{folder / GROUP_FILE} is not the file of a {kind} of an avfeat store, or is damaged."
        ) from None
    if version != FORMAT:
        raise StoreError(f"{folder} has store format {version}, this avfeat reads format {FORMAT}: update avfeat.")
    if found != kind:
        raise StoreError(f"{folder} is a {found} of an avfeat store, a {kind} was asked for.")
    return dict(attributes)


def write_file(path: Path, content: bytes) -> None:
    """Write a new file and make sure that it is on disk."""
    with path.open("xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync(path: Path) -> None:
    """Make sure that a file's content, or a folder's list of names, is on disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def commit_folder(private: Path, final: Path) -> bool:
    """Give a private folder, already on disk, its name by one rename.

    Returns:
        False when somebody else's folder has that name: it stands, and the private one is removed.
    """
    try:
        private.rename(final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        shutil.rmtree(private)
        return False
    sync(final.parent)
    return True


@contextmanager
def disk_errors(path: Path, doing: str = "written") -> Iterator[None]:
    """Turn what the disk refuses into one sentence.

    Raises:
        StoreError: instead of any OSError inside.
    """
    try:
        yield
    except OSError as error:
        why = error.strerror or str(error)
        advice = (
            " What is committed stands; put that right and run the same command again." if doing == "written" else ""
        )
        raise StoreError(f"{path} cannot be {doing}: {why}.{advice}") from error


def read_only(rows: NDArray[Any]) -> NDArray[Any]:
    """Return the same array, no longer writable."""
    rows.flags.writeable = False
    return rows

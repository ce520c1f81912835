"""Format 1 of the store: every name, number and attribute file is made here; see docs/format.md.

STORE/zarr.json
STORE/<manifest>-<digest8>/{zarr.json, manifest.parquet}
STORE/<manifest>-<digest8>/<feature>/zarr.json
STORE/<manifest>-<digest8>/<feature>/part-00000/{zarr.json, index.parquet, frames/{zarr.json, c.0.0, c.1.0, ...}}
STORE/<manifest>-<digest8>/<feature>/part-00000.r1/...   clips of part 0 that were done again

Names that begin with a dot are private: somebody's unfinished work, or what a killed process left behind.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from avfeat.errors import StoreError
from avfeat.store_disk import disk_errors

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
    def of(
        cls,
        width: int,
        dtype: str = "float16",
        codec: str = "none",
        chunk_rows: int | None = None,
        shard_rows: int = SHARD_ROWS,
    ) -> Form:
        """Return the form of format 1 for a width; fewer rows to a chunk and a shard suit tests and tiny stores."""
        usual = WIDE_CHUNK_ROWS if width >= WIDE else CHUNK_ROWS
        return cls(width, dtype, codec, usual if chunk_rows is None else chunk_rows, shard_rows)

    @classmethod
    def read(cls, attributes: Mapping[str, Any]) -> Form:
        """Return the form that a feature's attributes give.

        Raises:
            StoreError: the attributes lack it.
        """
        try:
            return cls(*(attributes[name] for name in ("width", "dtype", "codec", "chunk_rows", "shard_rows")))
        except (KeyError, TypeError) as error:
            raise StoreError(f"the attributes of this feature do not say how its frames lie ({error}).") from None

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


def first_not_finite(rows: NDArray[Any]) -> int | None:
    """Return the first row of stored numbers [length, width] that holds NaN or infinity, None when none does.

    Looks at the exponent bits, four times as fast for float16 as numpy's own test.
    """
    whole, exponent = {2: (np.uint16, 0x7C00), 4: (np.uint32, 0x7F80_0000)}[rows.dtype.itemsize]
    bits = rows.view(np.dtype(whole).newbyteorder("<")) & whole(exponent)
    if bits.max(initial=0) != exponent:
        return None
    return int(np.argmax((bits == exponent).any(axis=1)))


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


def committed_parts(feature: Path) -> list[tuple[int, int]]:
    """Return (part, attempt) of all that is committed below a feature's folder, sorted.

    Raises:
        StoreError: the folder cannot be listed.
    """
    with disk_errors(feature, "read"):
        found = [parse_part(each.name) for each in feature.iterdir()]
    return sorted(each for each in found if each is not None)


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
        what = "an avfeat store" if kind == "store" else f"a {kind} of an avfeat store"
        raise StoreError(f"{folder} is not {what}: it has no {GROUP_FILE}.") from None
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

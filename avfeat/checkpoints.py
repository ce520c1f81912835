"""Read official checkpoints, which are pickles: tensors and plain data come out, and nothing in the file ever runs.

Both forms that ``torch.save`` has had are read: the zip archive, whose tensors are mapped and so cost no memory until
they are used, and the older plain stream. Lightning's ``.ckpt`` is a zip archive too.
"""

from __future__ import annotations

import io
import math
import pickle
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from avfeat.checkpoints_pickle import Inert, Loaded, Plain, Record, Resolver, StoredElsewhere, load, understood
from avfeat.errors import WeightsError

__all__ = ["Checkpoint", "Inert", "open_checkpoint", "read_checkpoint"]

_MAGIC = 0x1950A86A20F9469CFC6C
"""The first pickle of a file in torch's older form."""

_PROTOCOL = 1001

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}

_LOCAL_HEADER = 30
"""Bytes of a zip entry's local header before its name."""


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's content as plain data and tensors, and the names of the classes that were made inert."""

    content: dict[Any, Any]
    inert: tuple[str, ...]


def read_checkpoint(path: Path) -> dict[Any, Any]:
    """Return a checkpoint's content, see ``open_checkpoint``."""
    return open_checkpoint(path).content


def open_checkpoint(path: Path) -> Checkpoint:
    """Return the content of a file that ``torch.save`` wrote, without importing or calling anything that it names.

    Tensors are CPU tensors with the file's dtype, private copies on write of the mapped file. An argparse Namespace, an
    OmegaConf node and an OrderedDict become a dict, list or value, sets become lists, NumPy scalars become numbers; an
    object of any other class becomes an ``Inert`` that holds its name and what the file gave it.

    Raises:
        WeightsError: no such file, not such a file, a damaged one, or one whose tensors reach beyond its data.
    """
    try:
        with path.open("rb") as file:
            if zipfile.is_zipfile(file):
                loaded, spans = _archive(file)
            else:
                file.seek(0)
                loaded, spans = _stream(file)
        tensors = _Tensors(path, spans).resolvers()
        content = Plain(tensors)(loaded.content)
    except RecursionError:
        raise WeightsError(f"{path} cannot be read as a checkpoint: it is nested too deeply to be one.") from None
    except _UNREADABLE as error:
        raise WeightsError(f"{path} cannot be read as a checkpoint ({error}).") from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds one {type(content).__name__}, not a checkpoint's table of names.")
    inert = (name for name in loaded.names if name not in tensors and not understood(name) and _dtype_of(name) is None)
    return Checkpoint(content, tuple(sorted(inert)))


class _BrokenError(Exception):
    """The file contradicts itself; the sentence says how."""


_UNREADABLE = (_BrokenError, pickle.UnpicklingError, zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError)
"""What a damaged file can raise, on the way through zipfile too: encrypted or unknown entries, names in no encoding."""


Spans = dict[str, tuple[int, int]]
"""Where the bytes of each tensor storage begin in the file, and how many there are."""


def _archive(file: IO[bytes]) -> tuple[Loaded, Spans]:
    with zipfile.ZipFile(file) as archive:
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl") and name.count("/") == 1]
        if len(pickles) != 1:
            raise _BrokenError(f"a zip archive with {len(pickles)} files NAME/data.pkl, not one")
        folder = pickles[0].removesuffix("data.pkl")
        entries = {info.filename.removeprefix(folder): info for info in archive.infolist()}
        if any(info.compress_type != zipfile.ZIP_STORED for info in entries.values()):
            raise _BrokenError("torch never compresses the files in its archives")
        if "byteorder" in entries and archive.read(entries["byteorder"]) != b"little":
            raise _BrokenError("its numbers are not little-endian")
        loaded = load(io.BytesIO(archive.read(pickles[0])))
    spans = {}
    for name, info in entries.items():
        if name.startswith("data/"):
            file.seek(info.header_offset + _LOCAL_HEADER - 4)
            name_and_extra = struct.unpack("<HH", _exactly(file, 4))
            start = info.header_offset + _LOCAL_HEADER + sum(name_and_extra)
            spans[name.removeprefix("data/")] = (start, info.file_size)
    return loaded, spans


def _stream(file: IO[bytes]) -> tuple[Loaded, Spans]:
    """Five pickles (magic number, protocol, facts of the machine, content, order of the storages), then raw numbers."""
    if load(file).content != _MAGIC:
        raise _BrokenError("a pickle, but not one that torch wrote")
    protocol, facts = load(file).content, load(file).content
    if protocol != _PROTOCOL or not isinstance(facts, dict) or facts.get("little_endian") is not True:
        raise _BrokenError("torch's older form, of an unknown version or not little-endian")
    loaded, keys = load(file), load(file).content
    items = {_storage(each).key: _storage(each).dtype.itemsize for each in loaded.elsewhere}
    spans: Spans = {}
    for key in keys if isinstance(keys, list) else []:
        if key not in items:
            raise _BrokenError(f"the tensor storage {key!r} belongs to nothing")
        (count,) = struct.unpack("<q", _exactly(file, 8))
        if count < 0:
            raise _BrokenError(f"the tensor storage {key!r} has {count} numbers")
        spans[key] = (file.tell(), count * items[key])
        file.seek(count * items[key], 1)
    return loaded, spans


def _exactly(file: IO[bytes], count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise _BrokenError("it ends too early")
    return data


@dataclass(frozen=True)
class _Storage:
    """A run of numbers of one type; ``first`` and ``count`` choose a part of it, in the older form only."""

    key: str
    dtype: torch.dtype
    first: int
    count: int


def _dtype_of(storage_class: str) -> torch.dtype | None:
    return _DTYPES.get(storage_class.removeprefix("torch.").removeprefix("cuda."))


def _storage(elsewhere: StoredElsewhere) -> _Storage:
    match elsewhere.pid:
        case ("storage", type() as kind, str(key), str(), int(count), *rest) if issubclass(kind, Record):
            dtype = _dtype_of(kind.name)
            if dtype is None:
                raise _BrokenError(f"tensors of the type {kind.name} are not known")
            match rest:
                case [] | [None]:
                    return _Storage(key, dtype, 0, count)
                case [(str(), int(first), int(part))] if first >= 0:
                    return _Storage(key, dtype, first, part)
    raise _BrokenError("a tensor's storage is named in an unknown way")


class _Tensors:
    """Makes tensors over the mapped file."""

    def __init__(self, path: Path, spans: Spans):
        self._spans = spans
        # Copy on write: torch wants memory that it may write to, and the file stays as it is.
        self._bytes = np.memmap(path, np.uint8, "c") if any(size for _, size in spans.values()) else np.empty(0, "u1")
        self._made: dict[_Storage, Tensor] = {}

    def resolvers(self) -> dict[str, Resolver]:
        """Return what turns records into tensors, by the name of the function that torch would call."""
        return {"torch._utils._rebuild_tensor_v2": self._tensor, "torch._utils._rebuild_parameter": self._parameter}

    def _parameter(self, plain: Plain, record: Record) -> Any:
        return plain(record.args[0]) if record.args else NotImplemented

    def _tensor(self, plain: Plain, record: Record) -> Any:
        match record.args:
            case (StoredElsewhere() as elsewhere, int(offset), tuple(size), tuple(stride), *_):
                pass
            case _:
                raise _BrokenError("a tensor is described in an unknown way")
        numbers = self._numbers(_storage(elsewhere))
        if len(size) != len(stride) or not all(
            isinstance(each, int) and each >= 0 for each in (offset, *size, *stride)
        ):
            raise _BrokenError("a tensor has an impossible shape")
        last = offset + sum((length - 1) * step for length, step in zip(size, stride, strict=True))
        if math.prod(size) > len(numbers) or (0 not in size and last >= len(numbers)):
            raise _BrokenError(f"a tensor of shape {list(size)} reaches beyond its {len(numbers)} numbers")
        return numbers.new_empty(size) if 0 in size else torch.as_strided(numbers, size, stride, offset)

    def _numbers(self, storage: _Storage) -> Tensor:
        if storage not in self._made:
            if storage.key not in self._spans:
                raise _BrokenError(f"the numbers of tensor storage {storage.key!r} are missing")
            start, size = self._spans[storage.key]
            item = storage.dtype.itemsize
            first, last = start + storage.first * item, start + (storage.first + storage.count) * item
            if storage.count < 0 or last > min(start + size, len(self._bytes) if size else start):
                raise _BrokenError(f"tensor storage {storage.key!r} has fewer numbers than it says")
            raw = self._bytes[first:last]
            if first % item:
                raw = raw.copy()  # a plain stream does not align its numbers
            # No bytes at all cannot be viewed as wider numbers: torch finds a stride of 0 there.
            numbers = torch.from_numpy(raw).view(storage.dtype) if len(raw) else torch.empty(0, dtype=storage.dtype)
            self._made[storage] = numbers
        return self._made[storage]

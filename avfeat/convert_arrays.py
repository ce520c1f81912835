"""Feature files as labs have them: one npz or npy file for each clip, or one HDF5 file with a dataset for each."""

from __future__ import annotations

import zipfile
import zlib
from abc import ABC, abstractmethod
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from avfeat.errors import AvfeatError, UnreadableError

SAME_KEYS = ("visual", "video")
"""Two names of one thing in the files of the paper's code."""

FILE_SUFFIXES = (".npz", ".npy")
HDF5_SUFFIXES = (".h5", ".hdf5", ".hdf")


class Arrays(ABC):
    """Arrays by name; a context manager. ``names`` are those of the clips as the files have them, without suffix."""

    names: list[str]

    @abstractmethod
    def read(self, name: str) -> NDArray[Any]:
        """Return the array of one clip, as stored.

        Raises:
            UnreadableError: it is damaged, is no array, or could only be read by running code (pickles).
        """

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None:
        """Let go of open files."""


def open_arrays(path: Path, key: str | None = None) -> Arrays:
    """Open a folder of npz and npy files, an HDF5 file, or a folder that holds one.

    Args:
        path: the folder or file.
        key: which array of an npz file; ``visual`` and ``video`` are the same. Not needed where there is only one.

    Raises:
        AvfeatError: nothing of the kind is there, two files have one name, or a key is needed; lists the keys.
    """
    if path.is_file():
        return Hdf5File(path)
    if not path.is_dir():
        raise AvfeatError(f"{path} does not exist.")
    files = sorted(file for file in path.rglob("*") if file.suffix in FILE_SUFFIXES and file.is_file())
    if files:
        return FileFolder(path, files, key)
    packed = [file for file in sorted(path.iterdir()) if file.suffix in HDF5_SUFFIXES]
    if len(packed) == 1:
        return Hdf5File(packed[0])
    looked_for = " ".join((*FILE_SUFFIXES, *HDF5_SUFFIXES))
    raise AvfeatError(f"{path} holds {len(packed) or 'no'} feature files: looked for {looked_for}.")


class FileFolder(Arrays):
    """One npz or npy file for each clip, below a folder."""

    def __init__(self, root: Path, files: list[Path], key: str | None):
        self._files = {str(file.relative_to(root).with_suffix("")): file for file in files}
        self.names = list(self._files)
        if len(self._files) < len(files):
            doubled = next(file for file in files if file.with_suffix(".npz") in files and file.suffix == ".npy")
            raise AvfeatError(f"{doubled} is there as .npz too: remove one of them.")
        self._key = key
        first = next((file for file in files if file.suffix == ".npz"), None)
        if first is not None and key is None:
            keys = _keys(first)
            if len(keys) > 1:
                raise AvfeatError(f"{first} holds several arrays: choose one with --key ({', '.join(keys)}).")

    def read(self, name: str) -> NDArray[Any]:
        """Return the array of one clip; see ``Arrays.read``."""
        file = self._files[name]
        try:
            with file.open("rb") as opened:
                loaded = np.load(opened, allow_pickle=False)
                if isinstance(loaded, np.lib.npyio.NpzFile):
                    return np.asarray(loaded[self._chosen(file, loaded.files)])
                return np.asarray(loaded)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            reason = "it holds Python objects, which are never loaded" if "allow_pickle" in str(error) else str(error)
            raise UnreadableError(f"{file} cannot be read: {reason}.") from None

    def close(self) -> None:
        """Do nothing: no file stays open from one array to the next."""

    def _chosen(self, file: Path, keys: list[str]) -> str:
        wanted = self._key or (keys[0] if len(keys) == 1 else "")
        choices = SAME_KEYS if wanted in SAME_KEYS else (wanted,)
        found = next((key for key in choices if key in keys), None)
        if found is None:
            raise UnreadableError(f"{file} has no array {wanted!r}; it has {', '.join(keys) or 'none'}.")
        return found


class Hdf5File(Arrays):
    """One HDF5 file with one dataset for each clip; groups stand for folders."""

    def __init__(self, path: Path):
        import h5py

        self._path = path
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise AvfeatError(f"{path} cannot be read as HDF5: {error}.") from None
        names: list[str] = []
        self._file.visititems(lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None)
        self.names = sorted(names)

    def read(self, name: str) -> NDArray[Any]:
        """Return the array of one clip; see ``Arrays.read``."""
        try:
            dataset = self._file[name]
            if dataset.dtype.kind != "f":
                raise UnreadableError(f"{self._path}, {name}: the dataset is of type {dataset.dtype}, not of floats.")
            return np.asarray(dataset[()])
        except (OSError, KeyError) as error:
            raise UnreadableError(f"{self._path}, {name} cannot be read: {error}.") from None

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _keys(file: Path) -> list[str]:
    try:
        with np.load(file, allow_pickle=False) as loaded:
            return list(loaded.files)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        # A damaged file says nothing about the others; it becomes a failure row when its clip is read.
        return []

"""How files become visible: written privately, brought to disk, and named by one rename; and how they go away again."""

from __future__ import annotations

import errno
import os
import re
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path

from avfeat.errors import StoreError

_PRIVATE = re.compile(r"\..*[0-9a-f]{32}")
_A_DAY = 86_400.0


def private_beside(final: Path) -> Path:
    """Return a fresh private path that one rename turns into ``final``."""
    return final.parent / f".{final.name}.{uuid.uuid4().hex}"


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


def leftovers(folder: Path) -> list[Path]:
    """Return our private files and folders directly below ``folder``, sorted; dot-files of other programs are not."""
    with disk_errors(folder, "read"):
        return sorted(each for each in folder.iterdir() if _PRIVATE.fullmatch(each.name))


def age_seconds(path: Path) -> float:
    """Return how long ago anything in this private file or folder was last written; a huge age if it is gone."""
    newest = 0.0
    with suppress(FileNotFoundError):
        for each in chain([path], path.rglob("*")):
            newest = max(newest, each.stat().st_mtime)
    return time.time() - newest


def remove(path: Path) -> None:
    """Remove a file or folder in such a way that nobody ever sees half of it under its name.

    Renamed away first: a stalled writer of a private folder then finds it gone as a whole, and a reader never meets a
    part without some of its shards.
    """
    gone = path.parent / f".gone.{uuid.uuid4().hex}"
    with disk_errors(path), suppress(FileNotFoundError):  # another process may remove the same
        path.rename(gone)
        if gone.is_dir():
            shutil.rmtree(gone)
        else:
            gone.unlink()


def sweep(folder: Path, older_than_seconds: float = _A_DAY) -> list[Path]:
    """Remove what killed writers left directly below ``folder``, a day after the last write to it; return what went."""
    old = [path for path in leftovers(folder) if age_seconds(path) > older_than_seconds]
    for path in old:
        remove(path)
    return old

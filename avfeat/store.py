"""The store: frames of features on disk. This is its public face, for reading and for starting to write.

``open_store(path)[manifest][feature]`` gives a Feature; format and files are described in docs/format.md.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from avfeat.errors import StoreError
from avfeat.manifest import Manifest
from avfeat.plan import Part, cut
from avfeat.store_disk import disk_errors
from avfeat.store_feature import Feature
from avfeat.store_layout import GROUP_FILE, MANIFEST_FILE, SHARD_ROWS, Form, read_group
from avfeat.store_part import PartWriter
from avfeat.store_write import create, ensure_feature, ensure_group, write_feature

__all__ = ["Feature", "Group", "PartWriter", "Store", "create", "open_store", "overlay", "write_feature"]


def open_store(path: Path | str) -> Store:
    """Open a store for reading.

    Raises:
        StoreError: there is no store, or it has another format.
    """
    return Store(Path(path))


class Store:
    """All manifests of one store.

    Raises:
        StoreError: the folder is no store, or has another format.
    """

    def __init__(self, path: Path):
        self.path = path
        read_group(path, "store")

    def keys(self) -> list[str]:
        """Return the keys of the manifests, ``<name>-<digest8>``, sorted."""
        return _subfolders(self.path)

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __getitem__(self, key: str) -> Group:
        """Return the group of a manifest, by its key or, where only one manifest has it, by its name.

        Raises:
            StoreError: none or several fit; the message lists those that there are.
        """
        keys = self.keys()
        fitting = [key] if key in keys else [each for each in keys if each.rpartition("-")[0] == key]
        if len(fitting) == 1:
            return Group(self.path / fitting[0])
        if fitting:
            raise StoreError(f"{self.path} has several manifests named {key}: choose one of {', '.join(fitting)}.")
        raise StoreError(f"{self.path} has no manifest {key!r}; it has {', '.join(keys) or 'none yet'}.")


class Group:
    """One manifest of a store with its cut into parts, and the features of its clips.

    Raises:
        StoreError: the folder is no group of a store.
    """

    def __init__(self, path: Path):
        self.path = path
        self.attributes: Mapping[str, Any] = read_group(path, "manifest")

    @classmethod
    def ensure(cls, store: Path, manifest: Manifest, part_clips: int | None = None) -> Group:
        """Make the group of a manifest, and the store, where they are not there yet; see ``ensure_group``.

        Raises:
            StoreError: the group stands with another cut, or cannot be written.
        """
        return cls(ensure_group(Path(store), manifest, part_clips))

    @property
    def key(self) -> str:
        """``<name>-<digest8>``."""
        return self.path.name

    @property
    def part_clips(self) -> int:
        """Clips per part, fixed by whoever made the group."""
        return int(self.attributes["part_clips"])

    def manifest(self) -> Manifest:
        """Return the manifest, read once."""
        return self._manifest

    @cached_property
    def _manifest(self) -> Manifest:
        return Manifest.read(self.path / MANIFEST_FILE)

    @cached_property
    def parts(self) -> list[Part]:
        """The manifest cut into parts."""
        return cut(self._manifest.clip_ids, self.part_clips)

    def features(self) -> list[str]:
        """Return the names of the features, sorted."""
        return _subfolders(self.path)

    def __iter__(self) -> Iterator[str]:
        return iter(self.features())

    def __getitem__(self, name: str) -> Feature:
        """Return a feature.

        Raises:
            StoreError: there is none of this name; the message lists those that there are.
        """
        known = self.features()
        if name not in known:
            raise StoreError(f"{self.key} has no feature {name!r}; it has {', '.join(known) or 'none yet'}.")
        return Feature(self, name)

    def ensure_feature(
        self,
        name: str,
        attributes: Mapping[str, Any],
        width: int,
        dtype: str = "float16",
        codec: str = "none",
        chunk_rows: int | None = None,
        shard_rows: int = SHARD_ROWS,
    ) -> Feature:
        """Make a feature with its attributes, or find it; see ``store_write.ensure_feature``.

        Args:
            attributes: plain data with ``rate_hz``, ``first_seconds`` and ``identity``, all that decides the numbers;
                the rest (``made_with``, card, licence) is kept from the first writer and not compared.
            chunk_rows, shard_rows: fewer than the format's usual, for tests and tiny stores.

        Raises:
            StoreError: the feature stands with other settings; the message names what differs.
        """
        ensure_feature(self.path, name, attributes, Form.of(width, dtype, codec, chunk_rows, shard_rows))
        return Feature(self, name)


@contextmanager
def overlay(path: Path, key: str) -> Iterator[Path]:
    """Give a temporary store that shows what the one at ``path`` has of a manifest, and keeps to itself what is new.

    Args:
        path: a store, which is left as it is; may be missing.
        key: the manifest's.

    Raises:
        StoreError: ``path`` is no store; or raised inside, with ``path`` for the temporary folder's name.
    """
    with tempfile.TemporaryDirectory(prefix="avfeat-overlay-") as folder:
        upper = Path(folder)
        with disk_errors(path, "read"):
            if path.exists() and any(path.iterdir()):
                read_group(path, "store")
                (upper / GROUP_FILE).symlink_to((path / GROUP_FILE).resolve())
            if (path / key).exists():
                (upper / key).mkdir()
                for entry in (path / key).iterdir():
                    if not entry.name.startswith("."):
                        (upper / key / entry.name).symlink_to(entry.resolve())
        try:
            yield upper
        except StoreError as error:
            raise StoreError(str(error).replace(folder, str(path))) from error


def _subfolders(path: Path) -> list[str]:
    with disk_errors(path, "read"):
        return sorted(
            entry.name
            for entry in os.scandir(path)
            if not entry.name.startswith(".") and entry.is_dir() and Path(entry.path, GROUP_FILE).exists()
        )

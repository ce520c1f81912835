"""What a number depends on, as digests: clips with their labels and stored rows, how features were made, the code."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import avfeat
from avfeat.errors import ManifestError, StoreError
from avfeat.manifest import Manifest
from avfeat.store import Feature
from probes.loading import Choice, Source

_ATTRIBUTES = ("identity", "width", "dtype", "rate_hz", "first_seconds")
"""What of a feature's attributes decides the numbers; the others say on which machine and when it was made."""

_FLOAT_BYTES = 4


@dataclass(frozen=True)
class ClipSet:
    """The clips of one split as some features have them.

    shuffle: seed by which the labels are dealt anew, None leaves them.
    digest: of clip_ids, labels and stored rows of the labelled clips, and of the features' attributes.
    load_bytes: estimate of the memory that its frames take, while they are being joined too.
    missing: what is not there, one sentence each; the digest is empty then.
    """

    choice: Choice
    shuffle: int | None = None
    key: str = ""
    digest: str = ""
    load_bytes: int = 0
    missing: tuple[str, ...] = ()


class Inputs:
    """Looks sets of clips up in stores; each manifest and each index is read once."""

    def __init__(self, stores: Sequence[Path]):
        self._stores = tuple(stores)
        self._manifests: dict[str, Manifest] = {}
        self._indexes: dict[tuple[str, str], tuple[Feature, dict[str, tuple[Any, ...]]]] = {}
        self._sets: dict[tuple[tuple[str, ...], Choice, int | None, bool], ClipSet] = {}

    def clip_set(
        self, features: Sequence[str], choice: Choice, shuffle: int | None = None, *, real_only: bool = False
    ) -> ClipSet:
        """Return what is known of a set without reading frames; what is not there is said, not raised.

        shuffle: seed by which the labels are dealt anew, None leaves them.
        real_only: clips labelled 0 alone count, for heads that learn from no others.

        Raises:
            StoreError: a folder is no store.
        """
        key = (tuple(features), choice, shuffle, real_only and shuffle is None)
        if key not in self._sets:
            self._sets[key] = self._look_up(*key)
        return self._sets[key]

    def _look_up(self, features: tuple[str, ...], choice: Choice, shuffle: int | None, real_only: bool) -> ClipSet:
        source = Source(self._stores, features)
        try:
            if choice.manifest not in self._manifests:
                self._manifests[choice.manifest] = source.manifest(choice.manifest)
            manifest = self._manifests[choice.manifest]
            table = manifest.select(choice.split).table
        except (StoreError, ManifestError) as error:
            return ClipSet(choice, shuffle, missing=(str(error),))
        indexes, missing = [], []
        for name in features:
            try:
                indexes.append(self._index(source, manifest, name))
            except StoreError as error:
                missing.append(f"{error}{_lack(name)}")
        if missing:
            return ClipSet(choice, shuffle, manifest.key, missing=tuple(missing))
        labels = zip(table["clip_id"].to_pylist(), table["label"].to_pylist(), strict=True)
        wanted = [(clip_id, label) for clip_id, label in labels if label is not None and not (real_only and label)]
        rows = [(clip_id, label, *(index.get(clip_id) for _, index in indexes)) for clip_id, label in wanted]
        made = [{name: feature.attributes.get(name) for name in _ATTRIBUTES} for feature, _ in indexes]
        digest = digest_of([features, made, rows, shuffle])
        return ClipSet(choice, shuffle, manifest.key, digest, _bytes(rows, indexes))

    def _index(self, source: Source, manifest: Manifest, name: str) -> tuple[Feature, dict[str, tuple[Any, ...]]]:
        """Return a feature, and for each clip what its index says that decides its rows."""
        key = (manifest.key, name)
        if key not in self._indexes:
            feature = source.feature(manifest, name)
            table = feature.index()
            columns = ("clip_id", "crc32c", "length", "status", "first_seconds")
            lines = zip(*(table[column].to_pylist() for column in columns), strict=True)
            self._indexes[key] = feature, {line[0]: line[1:] for line in lines}
        return self._indexes[key]


def digest_of(value: Any) -> str:
    """Return 32 hex digits that stand for plain data."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:32]


@lru_cache
def code_digest(*modules: str) -> str:
    """Return a digest of the source of ``modules`` and all of ``probes`` that they import, and of the libraries used.

    A release or an edit that may change a number thus never stands beside numbers of another.
    """
    sources = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in imported(modules)}
    return digest_of([sources, [version(library) for library in ("numba", "numpy", "torch")]])


def _lack(feature: str) -> str:
    """Return what else is missing where a feature could not be extracted here as things are, as a sentence or empty."""
    missing = avfeat.lacking(feature)
    return f" Nor can it be extracted here yet: {missing}." if missing else ""


def _bytes(rows: Sequence[Sequence[Any]], indexes: Sequence[tuple[Feature, Any]]) -> int:
    """Frames as stored, the norms, and while several features are joined each of them once more."""
    total = 0
    for k, (feature, _) in enumerate(indexes):
        count = sum(row[2 + k][1] for row in rows if row[2 + k] is not None)
        copies = 1 if len(indexes) == 1 else 2
        total += count * (feature.width * feature.dtype.itemsize * copies + _FLOAT_BYTES)
    return total


def imported(modules: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yield each module of ``probes`` that can be reached by imports, wherever in a file they stand."""
    root = Path(__file__).parents[1]
    waiting, seen = list(modules), set()
    while waiting:
        name = waiting.pop()
        path = root.joinpath(*name.split("."))
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        if name in seen or not path.is_file():
            continue
        seen.add(name)
        yield name, path
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names if alias.name.startswith("probes")]
            elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "probes":
                waiting += [str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)]

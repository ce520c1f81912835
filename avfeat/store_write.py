"""Writing: a store, its groups and features are each made by one rename, and so is each part; whoever comes second
finds the other's work standing and drops its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from avfeat.errors import ClipError, ManifestError, StoreError
from avfeat.manifest import Manifest
from avfeat.plan import cut, part_size
from avfeat.store_disk import commit_folder, disk_errors, private_beside, sweep, sync, write_file
from avfeat.store_layout import (
    GROUP_FILE,
    MANIFEST_FILE,
    SHARD_ROWS,
    Form,
    check_feature_name,
    group_json,
    part_name,
    read_group,
)
from avfeat.store_part import PartWriter

__all__ = ["PartWriter", "create", "ensure_feature", "ensure_group", "write_feature"]

COUNTED = ("width", "dtype", "codec", "chunk_rows", "shard_rows", "rate_hz", "first_seconds")
"""Attributes of a feature that, besides ``identity``, no later writer may contradict."""


def create(path: Path) -> Path:
    """Make an empty store, or leave alone the one that is there.

    Raises:
        StoreError: the folder holds other things, is a store of another format, or cannot be written.
    """
    path = Path(path)
    with disk_errors(path):
        path.mkdir(parents=True, exist_ok=True)
        if not (path / GROUP_FILE).exists():
            strangers = sorted(each.name for each in path.iterdir() if not each.name.startswith("."))
            if strangers and not (path / GROUP_FILE).exists():
                raise StoreError(
                    f"{path} is not a store and not empty (it holds {', '.join(strangers[:3])}): choose a new folder."
                )
            private = private_beside(path / GROUP_FILE)
            write_file(private, group_json({"kind": "store"}))
            private.replace(path / GROUP_FILE)
            sync(path)
    read_group(path, "store")
    return path


def ensure_group(store: Path, manifest: Manifest, part_clips: int | None = None) -> Path:
    """Make the group of a manifest with its cut into parts, or find it; make the store too if need be.

    Args:
        part_clips: clips per part; None keeps the cut that stands, or for a new group follows the manifest's size.

    Raises:
        StoreError: the group stands with another cut, or cannot be written.
    """
    store = create(store)
    group = store / manifest.key
    if not group.exists():
        clips = part_size(len(manifest)) if part_clips is None else part_clips
        if clips < 1:
            raise StoreError(f"a part of {clips} clips cannot be: give at least 1.")
        facts = {
            "kind": "manifest",
            "manifest": manifest.info.name,
            "version": manifest.info.version,
            "source": manifest.info.source,
            "licence": manifest.info.licence,
            "digest": manifest.digest,
            "clips": len(manifest),
            "part_clips": clips,
        }
        with _private_folder(group) as private, disk_errors(group):
            try:
                manifest.write(private / MANIFEST_FILE)
            except ManifestError as error:
                raise StoreError(str(error)) from error
            write_file(private / GROUP_FILE, group_json(facts))
            sync(private)
            commit_folder(private, group)
    standing = read_group(group, "manifest")
    if standing["digest"] != manifest.digest:
        raise StoreError(
            f"{group} holds another manifest, whose digest only begins alike: give the dataset another name."
        )
    if part_clips is not None and standing["part_clips"] != part_clips:
        raise StoreError(
            f"{group} is cut into parts of {standing['part_clips']} clips, which cannot change to {part_clips}: "
            f"leave the number out, or give {standing['part_clips']}."
        )
    sweep(store)
    sweep(group)
    return group


def ensure_feature(group: Path, name: str, attributes: Mapping[str, Any], form: Form) -> Path:
    """Make the folder of a feature with its attributes, or find it; sweep what killed writers left there.

    Args:
        group: the folder that ``ensure_group`` gave.
        attributes: plain data with ``rate_hz``, ``first_seconds`` and ``identity`` (all that decides the numbers);
            everything else, e.g. ``made_with``, is kept from the first writer and never compared.

    Raises:
        StoreError: the feature stands with another identity; the message names each key that differs.
    """
    check_feature_name(name)
    missing = [key for key in ("rate_hz", "first_seconds", "identity") if key not in attributes]
    if missing:
        raise StoreError(f"the attributes of {name} lack {', '.join(missing)}.")
    facts = {
        "kind": "feature",
        "feature": name,
        "width": form.width,
        "dtype": form.dtype,
        "codec": form.codec,
        "chunk_rows": form.chunk_rows,
        "shard_rows": form.shard_rows,
        **attributes,
    }
    try:
        content = group_json(facts)
    except (TypeError, ValueError) as error:
        raise StoreError(f"the attributes of {name} are not plain data: {error}.") from None
    feature = group / name
    if not feature.exists():
        with _private_folder(feature) as private, disk_errors(feature):
            write_file(private / GROUP_FILE, content)
            sync(private)
            commit_folder(private, feature)
    standing = read_group(feature, "feature")
    wanted = _plain(content)
    differing = [
        f"{key} is {_short(standing.get(key))} there and {_short(wanted[key])} here"
        for key in COUNTED
        if standing.get(key) != wanted[key]
    ] + _differing(standing["identity"], wanted["identity"], "identity")
    if differing:
        raise StoreError(
            f"{feature} was made with other settings: {'; '.join(differing)}. "
            "Use the same settings, or write to another store."
        )
    sweep(feature)
    return feature


def _plain(content: bytes) -> dict[str, Any]:
    attributes: dict[str, Any] = json.loads(content)["attributes"]
    return attributes


def _differing(there: Any, here: Any, path: str) -> list[str]:
    if isinstance(there, dict) and isinstance(here, dict):
        keys = sorted(there.keys() | here.keys())
        return [line for key in keys for line in _differing(there.get(key), here.get(key), f"{path}.{key}")]
    return [] if there == here else [f"{path} is {_short(there)} there and {_short(here)} here"]


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


@contextmanager
def _private_folder(final: Path) -> Iterator[Path]:
    private = private_beside(final)
    with disk_errors(final):
        private.mkdir()
    try:
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)


def write_feature(
    store: Path,
    manifest: Manifest,
    name: str,
    rows: Mapping[str, NDArray[Any] | ClipError],
    *,
    rate_hz: float,
    first_seconds: float,
    dtype: str = "float16",
    codec: str = "none",
    part_clips: int | None = None,
    chunk_rows: int | None = None,
    shard_rows: int = SHARD_ROWS,
    identity: Mapping[str, Any] | None = None,
    facts: Mapping[str, Mapping[str, object]] | None = None,
) -> Path:
    """Write a whole feature that is in memory, making store and group if need be; parts that stand are left alone.

    Args:
        rows: for every clip of the manifest its rows [length, width], or why there are none.
        identity: what decides the numbers.
        facts: for a clip what its index row says besides.

    Returns:
        The feature's folder.

    Raises:
        StoreError: a clip is missing, no clip has rows, or what stands in the store contradicts the arguments.
        NotFiniteError: a clip's rows cannot be stored.
    """
    widths = {value.shape[-1] for value in rows.values() if not isinstance(value, ClipError)}
    if len(widths) != 1:
        raise StoreError(f"the rows of {name} have widths {sorted(widths)}, where one is needed.")
    form = Form.of(widths.pop(), dtype, codec, chunk_rows, shard_rows)
    group = ensure_group(store, manifest, part_clips)
    attributes = {"rate_hz": rate_hz, "first_seconds": first_seconds, "identity": dict(identity or {})}
    feature = ensure_feature(group, name, attributes, form)
    clips = read_group(group, "manifest")["part_clips"]
    for part in cut(manifest.clip_ids, clips):
        if (feature / part_name(part.number)).exists():
            continue
        with PartWriter(feature, form, first_seconds, part.number, 0, part.clip_ids) as writer:
            for clip_id in part.clip_ids:
                if clip_id not in rows:
                    raise StoreError(f"{name}: clip {clip_id} of the manifest is not among the rows.")
                value = rows[clip_id]
                more = (facts or {}).get(clip_id, {})
                if isinstance(value, ClipError):
                    writer.fail(clip_id, value, more)
                else:
                    writer.add(clip_id, value, more)
            writer.commit()
    return feature

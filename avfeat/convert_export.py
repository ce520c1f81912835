"""Features out of a store: npz, npy or HDF5, with their provenance, their licences, and lists of labels."""

from __future__ import annotations

import csv
import shutil
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np

from avfeat.convert_notes import KEPT, write_notes
from avfeat.errors import AvfeatError
from avfeat.manifest import Manifest
from avfeat.manifest_build import Advance
from avfeat.store import Feature, open_store

Form = Literal["npz", "npy", "hdf5"]

HDF5_FILE = "features.h5"


@dataclass(frozen=True)
class Exported:
    """What an export came to: clips with rows, clips without, by kind of failure."""

    clips: int
    failures: Mapping[str, int]


def export_feature(
    store: Path,
    manifest: str,
    name: str,
    out: Path,
    *,
    form: Form = "npz",
    key: str = "arr_0",
    drop_folders: int = 0,
    advance: Advance | None = None,
) -> Exported:
    """Write a feature as a folder: arrays by clip, ``provenance.json``, ``clips.csv``, ``<split>_labels.csv``.

    The arrays are ``<clip_id>.npz`` or ``.npy``, or all in ``features.h5`` with one dataset for each clip; clips that
    failed have none, ``clips.csv`` says why. The lists of labels are those that the paper's code reads.

    Args:
        store: the store's folder.
        manifest: its key or unique name.
        name: the feature's.
        out: a folder that is not there yet; it appears whole or not at all.
        form: what to write.
        key: the array's name in npz files, e.g. multimodal.
        drop_folders: leave out so many leading folders of each clip_id, e.g. 1 for AV-Deepfake1M's ``val/``.
        advance: is told of every clip.

    Raises:
        AvfeatError: the folder is there, or clips would share a name.
        StoreError: there is no such feature, or its shards are damaged.
    """
    feature = open_store(store)[manifest][name]
    if out.exists():
        raise AvfeatError(f"{out} is there already: choose a new folder.")
    index = feature.index().select(["clip_id", "status", "length", "first_seconds", "error", "detail"]).to_pylist()
    names = _short_names([line["clip_id"] for line in index], drop_folders)
    beside = out.with_name(f".{out.name}.{uuid.uuid4().hex}.part")
    beside.mkdir(parents=True)
    try:
        good = [line["clip_id"] for line in index if line["status"] != "failed"]
        write = _write_hdf5 if form == "hdf5" else _write_files
        for _ in write(beside, feature, {clip_id: names[clip_id] for clip_id in good}, form, key):
            if advance is not None:
                advance(1, 0)
        facts = [{"name": names[line["clip_id"]], "rows": line.pop("length"), **line} for line in index]
        write_notes(beside, _provenance(feature), facts)
        _write_labels(beside, feature.group.manifest(), {clip_id: names[clip_id] for clip_id in good})
        beside.replace(out)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return Exported(len(good), Counter(str(line["error"]) for line in index if line["status"] == "failed"))


def _provenance(feature: Feature) -> dict[str, Any]:
    info = feature.group.manifest().info
    return {
        "feature": feature.name,
        "manifest": feature.group.key,
        "dataset": {"name": info.name, "version": info.version, "source": info.source, "licence": info.licence},
        "attributes": dict(feature.attributes),
        "exported_with": {"avfeat": version("avfeat")},
    }


def _short_names(clip_ids: Sequence[str], drop_folders: int) -> dict[str, str]:
    names = {clip_id: "/".join(clip_id.split("/")[drop_folders:]) for clip_id in clip_ids}
    shared = [name for name, count in Counter(names.values()).items() if count > 1 or not name]
    if shared:
        raise AvfeatError(f"without {drop_folders} folders several clips are called {shared[0]!r}: drop fewer.")
    return names


def _write_files(folder: Path, feature: Feature, names: Mapping[str, str], form: Form, key: str) -> Iterator[None]:
    for clip_id, name in names.items():
        file = folder / f"{name}.{form}"
        file.parent.mkdir(parents=True, exist_ok=True)
        rows = feature.clip(clip_id)
        with file.open("xb") as opened:
            if form == "npz":
                np.savez(opened, allow_pickle=False, **{key: rows})
            else:
                np.save(opened, rows, allow_pickle=False)
        yield


def _write_hdf5(folder: Path, feature: Feature, names: Mapping[str, str], form: Form, key: str) -> Iterator[None]:
    import h5py

    with h5py.File(folder / HDF5_FILE, "x") as file:
        for name in KEPT:
            if name in feature.attributes:
                file.attrs[name] = feature.attributes[name]
        file.attrs["feature"] = feature.name
        file.attrs["rate_hz"], file.attrs["first_seconds"] = feature.rate_hz, feature.first_seconds
        file.attrs["dataset_licence"] = feature.group.manifest().info.licence
        for clip_id, name in names.items():
            try:
                file.create_dataset(name, data=feature.clip(clip_id))
            except (ValueError, TypeError) as error:
                raise AvfeatError(
                    f"{name} cannot be a dataset of HDF5, where a clip and a folder cannot share a name: export as npz."
                ) from error
            yield


def _write_labels(folder: Path, manifest: Manifest, names: Mapping[str, str]) -> None:
    """Write the clips that have a label, for each split, as the paper's code reads them."""
    columns = (manifest.table[column].to_pylist() for column in ("clip_id", "split", "label"))
    lines = defaultdict(list)
    for clip_id, split, label in zip(*columns, strict=True):
        if clip_id in names and split is not None and label is not None:
            lines[split].append((f"{names[clip_id]}.mp4", label))
    for split, rows in lines.items():
        with (folder / f"{split}_labels.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([("path", "label"), *rows])

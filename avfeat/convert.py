"""Features that were made elsewhere, into a store: rows keep every byte, licences travel along."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from avfeat.convert_arrays import Arrays, open_arrays
from avfeat.convert_notes import KEPT, Notes, read_notes
from avfeat.errors import AvfeatError, ClipError, LengthError, UnreadableError
from avfeat.manifest import Manifest, Row
from avfeat.manifest_build import Advance
from avfeat.manifest_match import match_names
from avfeat.store import Feature, Group


@dataclass(frozen=True)
class Provenance:
    """What is known of imported numbers; None takes what an export left beside the arrays, else the usual.

    rate_hz, first_seconds: rows per second, and the time of row 0; usual are 25 and the middle of the first step.
    dtype: how rows are stored; usual is as they are, so that nothing is lost.
    licence, source: whose they are.
    """

    rate_hz: float | None = None
    first_seconds: float | None = None
    dtype: Literal["float16", "float32"] | None = None
    licence: str | None = None
    source: str | None = None


@dataclass
class Imported:
    """What an import came to: clips with rows, failures by kind, files that belong to no clip, how names matched."""

    clips: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    strangers: list[str] = field(default_factory=list)
    note: str = ""


def import_features(
    manifest: Manifest,
    path: Path,
    store: Path,
    name: str,
    *,
    key: str | None = None,
    provenance: Provenance | None = None,
    part_clips: int | None = None,
    retry_failed: bool = False,
    advance: Advance | None = None,
) -> Imported:
    """Write the arrays of a folder or file as feature ``name`` of a manifest; what is committed already stays.

    An array belongs to a clip when its name is the clip_id, but for leading folders (a split's, or the release's own)
    and the spelling of blanks and brackets. A clip gets a failure row when it has no array, or one that is damaged, not
    [length, width], not finite, or longer or shorter than the manifest says by more than one row, unless an export of
    the same dataset says that it has just so many.

    Args:
        manifest: the clips.
        path: a folder of npz or npy files, or an HDF5 file.
        store: the store's folder, made if need be.
        name: the feature's.
        key: which array of an npz file.
        provenance: what is known of the numbers.
        part_clips: clips per part; None follows the manifest's size.
        retry_failed: do again the clips that failed, and nothing else.
        advance: is told of every clip.

    Raises:
        AvfeatError: no array belongs to a clip, or none can be read.
        StoreError: the store holds a feature of that name made otherwise.
    """
    notes = read_notes(path if path.is_dir() else path.parent)
    with open_arrays(path, key) as arrays:
        names, note = _names(arrays.names, manifest)
        known = [name for name in names.values() if name is not None]
        if not known:
            example = arrays.names[0] if arrays.names else "(none)"
            raise AvfeatError(
                f"not one array in {path} belongs to a clip of {manifest.info.name}: found are e.g. {example}, "
                f"needed e.g. {manifest.clip_ids[0]}."
            )
        report = Imported(strangers=sorted(set(arrays.names).difference(known)), note=note)
        first = _first_readable(arrays, known)
        attributes, dtype = _attributes(path, key, provenance or Provenance(), notes, first)
        group = Group.ensure(store, manifest, part_clips)
        feature = group.ensure_feature(name, attributes, first.shape[1], dtype)
        exact = provenance is None or provenance.dtype is None
        clips = _Clips(arrays, notes, names, feature, exact)
        for number, clip_ids in _work(feature, retry_failed):
            with feature.part_writer(number, feature.next_attempt(number)) as writer:
                for clip_id in clip_ids:
                    failure = clips.write(manifest.row(clip_id), writer.add)
                    if failure is not None:
                        writer.fail(clip_id, failure, {})
                        report.failures[failure.kind] += 1
                    report.clips += failure is None
                    if advance is not None:
                        advance(int(failure is None), int(failure is not None))
                writer.commit()
    return report


class _Clips:
    """Brings the array of one clip at a time into the store, or says why not."""

    def __init__(self, arrays: Arrays, notes: Notes, names: Mapping[str, str | None], feature: Feature, exact: bool):
        self._arrays = arrays
        self._notes = notes
        self._names = names
        self._feature = feature
        self._exact = exact
        # What an export of this dataset vouches for was decoded, which is truer than what a file announces.
        self._lengths = notes.lengths if notes.dataset == feature.group.manifest().info.name else {}

    def write(self, row: Row, add: Callable[[str, NDArray[Any], Mapping[str, object]], None]) -> ClipError | None:
        name = self._names[row.clip_id]
        if name is None:
            return self._notes.failures.get(row.clip_id) or UnreadableError(f"{row.clip_id}: no array has its name.")
        facts = self._notes.facts.get(name, {})
        try:
            rows = self._arrays.read(name)
            self._check(row, rows)
            if self._lengths.get(name) != len(rows):
                self._check_length(row, len(rows))
            add(row.clip_id, rows, facts)
        except ClipError as error:
            return error
        return None

    def _check(self, row: Row, rows: NDArray[Any]) -> None:
        width, dtype = self._feature.width, self._feature.dtype
        if rows.ndim != 2 or rows.shape[1] != width or rows.dtype.kind != "f":
            raise UnreadableError(
                f"{row.clip_id}: its array is {rows.dtype} {list(rows.shape)}, where [length, {width}] is needed."
            )
        if self._exact and not np.can_cast(rows.dtype, dtype) and not _survives(rows, dtype):
            raise UnreadableError(
                f"{row.clip_id}: its array is {rows.dtype}, which {dtype} cannot hold exactly: give --dtype."
            )

    def _check_length(self, row: Row, length: int) -> None:
        fault = length_fault(length, self._feature.rate_hz, row)
        if fault:
            raise LengthError(f"{row.clip_id}: {fault}")


def length_fault(length: int, rate_hz: float, row: Row) -> str:
    """Return in words how far ``length`` is from what the manifest says, empty where it is within one row of it.

    The duration is that of the longer stream; rows may follow the pictures instead, so both are good. A manifest that
    knows neither finds no fault.
    """
    expected = [] if row.duration_seconds is None else [row.duration_seconds * rate_hz]
    if row.source_frames is not None and row.fps:
        expected.append(row.source_frames / row.fps * rate_hz)
    # A part of a row may count as one or as none.
    low, high = (math.floor(each) - 1 for each in expected), (math.ceil(each) + 1 for each in expected)
    if not expected or any(least <= length <= most for least, most in zip(low, high, strict=True)):
        return ""
    nearest = min(expected, key=lambda each: abs(each - length))
    word = "fewer" if length < nearest else "more"
    return f"{length} rows, {word} than the {nearest:.1f} that {nearest / rate_hz:.2f} s at {rate_hz:g} Hz make."


def _names(names: Sequence[str], manifest: Manifest) -> tuple[dict[str, str | None], str]:
    """Return for each clip the name of its array, and by what rule names were matched.

    The paper's code keeps features in one folder for each split, which need not be the release's own folder of the same
    name: so arrays are tried without those folders too.
    """
    best = match_names(names, manifest.clip_ids)
    found, note = best.found, best.note("the arrays'", "the clips'")
    splits = set(manifest.table["split"].drop_null().to_pylist())
    below = {rest: name for name in names for split, _, rest in [name.partition("/")] if split in splits and rest}
    if best.count < len(manifest) and len(below) == len(names):
        other = match_names(list(below), manifest.clip_ids)
        if other.count > best.count:
            found = [None if rest is None else below[rest] for rest in other.found]
            more = other.note("the arrays'", "the clips'")
            note = "the arrays lie in folders of splits" + (f"; {more}" if more else "")
    return dict(zip(manifest.clip_ids, found, strict=True)), note


def _work(feature: Feature, retry_failed: bool) -> Iterator[tuple[int, Sequence[str]]]:
    """Yield the parts to do, each with its clips."""
    if retry_failed:
        yield from feature.failed_clips().items()
        return
    for part in feature.missing_parts():
        yield part.number, part.clip_ids


def _first_readable(arrays: Arrays, names: Sequence[str]) -> NDArray[Any]:
    """Return the first array of rows, whose width and type all must have."""
    reason = ""
    for name in names:
        try:
            array = arrays.read(name)
        except UnreadableError as error:
            reason = reason or str(error)
            continue
        if array.ndim == 2 and array.dtype.kind == "f":
            return array
        reason = reason or f"{name} is {array.dtype} {list(array.shape)}, where floats [length, width] are needed."
    raise AvfeatError(f"not one of {len(names)} arrays can be read. {reason}")


def _attributes(
    path: Path, key: str | None, given: Provenance, notes: Notes, first: NDArray[Any]
) -> tuple[dict[str, Any], str]:
    """Return the attributes of the feature, and its stored type."""
    told = notes.attributes
    rate_hz = given.rate_hz or float(told.get("rate_hz", 25.0))
    middle = float(told.get("first_seconds", 0.5 / rate_hz))
    dtype = given.dtype or told.get("dtype") or first.dtype.name
    if dtype not in ("float16", "float32"):
        raise AvfeatError(
            f"the arrays are {dtype}, which a store does not hold: choose with --dtype float32 or float16."
        )
    kept = {name: told[name] for name in KEPT if name in told}
    given_facts = {"licence": given.licence, "source": given.source}
    usual = {"summary": "imported", "licence": "not stated", "source": "not stated"}
    return {
        "rate_hz": rate_hz,
        "first_seconds": middle if given.first_seconds is None else given.first_seconds,
        "identity": {"provenance": "imported", "key": key, "made_as": told.get("identity")},
        **usual,
        **kept,
        **{name: fact for name, fact in given_facts.items() if fact is not None},
        "made_with": {"avfeat": version("avfeat"), "imported_from": str(path.resolve())},
    }, dtype


def _survives(rows: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.array_equal(rows.astype(dtype).astype(rows.dtype), rows, equal_nan=True))

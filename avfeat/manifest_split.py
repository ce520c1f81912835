"""Splits for a manifest: from the lists that papers publish, or by person, so that nobody is on both sides."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from avfeat.datasets.base import ids_of_paths
from avfeat.datasets.csv import label_of, records
from avfeat.errors import ManifestError
from avfeat.manifest import SCHEMA, Manifest
from avfeat.manifest_match import match_names
from avfeat.manifest_rules import count_clips, name_five

PATH_COLUMNS = ("path", "full_path")
LIST_PATTERNS = ("*_labels.csv", "*_split.csv", "*_metadata.csv")

By = Literal["speaker", "original"]

_NAMED = re.compile(r"([A-Za-z0-9_-]+)=(.+)")
_NAMES = {2: ("train", "test"), 3: ("train", "val", "test")}


@dataclass(frozen=True)
class SplitList:
    """The clips that one list puts into one split: paths as listed, and their labels, None where it gives none."""

    split: str
    paths: list[str]
    labels: list[int | None]


@dataclass(frozen=True)
class SplitCount:
    """Clips of one split: as a list names them, and of these in the manifest; without a list the two are the same."""

    split: str
    listed: int
    found: int
    real: int
    fake: int


@dataclass(frozen=True)
class Resplit:
    """A manifest with new splits, and what came of them."""

    manifest: Manifest
    counts: list[SplitCount]
    notes: list[str] = field(default_factory=list)


def read_lists(sources: Sequence[str]) -> list[SplitList]:
    """Read lists of splits.

    Args:
        sources: CSV files, folders of them (``*_labels.csv``, ``*_split.csv``, ``*_metadata.csv``), or ``NAME=FILE``.
            The split is NAME, or each line's cell in a column ``split``, or the file name up to its first mark that is
            no letter or digit: ``train_labels.csv``. Clips are in a column ``path`` or ``full_path``; labels, if there
            are any, in ``label``.

    Raises:
        ManifestError: a file cannot be read, names a clip twice, or two of its splits have one clip.
    """
    lists = [each for source in sources for name, file in _files(source) for each in _read_list(name, file)]
    owners: dict[str, str] = {}
    twice = []
    for each in lists:
        for path in each.paths:
            if owners.setdefault(path, each.split) != each.split:
                twice.append(path)
    if twice:
        raise ManifestError(f"{count_clips(len(twice))} in more than one split: {name_five(twice)}.")
    return lists


def split_from(manifest: Manifest, lists: Sequence[SplitList], *, only_listed: bool = False) -> Resplit:
    """Give each listed clip the split of its list; every other clip loses its split.

    Names may differ from the manifest's in their leading folders, and in blanks, brackets and underscores. A label that
    the manifest lacks is taken from the list. Listed clips that are not in the manifest are counted.

    Args:
        manifest: the clips; it stays as it is.
        lists: what ``read_lists`` gave.
        only_listed: leave all other clips out of the new manifest.

    Raises:
        ManifestError: not one listed clip is in the manifest, or a list contradicts its labels.
    """
    splits = [each.split for each in lists for _ in each.paths]
    labels = [label for each in lists for label in each.labels]
    match = match_names(manifest.clip_ids, ids_of_paths([path for each in lists for path in each.paths]))
    if match.count == 0:
        example = lists[0].paths[0] if lists and lists[0].paths else "(none)"
        raise ManifestError(
            f"not one of the {len(splits)} listed clips is in {manifest.info.name}; "
            f"listed is e.g. {example}, the manifest has e.g. {', '.join(manifest.clip_ids[:1])}."
        )
    meant = {clip: at for at, clip in enumerate(match.found) if clip is not None}
    places = [meant.get(clip_id) for clip_id in manifest.clip_ids]
    said = [None if at is None else labels[at] for at in places]
    table, taken = _with_labels(manifest, said)
    table = _with_splits(table, pa.array([None if at is None else splits[at] for at in places], pa.string()))
    if only_listed:
        table = table.filter(pc.is_valid(table["split"]))
    notes = [note for note in (match.note(),) if note]
    notes += [f"{count_clips(taken)} had no label and took the list's"] if taken else []
    others = len(manifest) - len(meant)
    if others:
        notes.append(f"{count_clips(others)} in no list: {'left out' if only_listed else 'without a split'}")
    made = Manifest(table, manifest.info)
    listed = {name: splits.count(name) for name in dict.fromkeys(splits)}
    return Resplit(made, [_count(made.table, name, count) for name, count in listed.items()], notes)


def split_by(
    manifest: Manifest, by: By, ratio: Sequence[float], *, seed: int = 0, names: Sequence[str] | None = None
) -> Resplit:
    """Deal whole groups of clips to splits.

    A group's split is that whose share of 0..1 holds ``sha256("<seed>/<group>")``, read as a fraction: it depends on
    nothing else, so clips that are added later change nobody's split. Shares hold on average over groups, not exactly.

    Args:
        manifest: the clips; it stays as it is.
        by: ``speaker`` keeps each person in one split; ``original`` each clip with all that was made from it.
        ratio: the shares, in any unit.
        seed: another one deals anew.
        names: of the splits; by default train, test, or train, val, test.

    Raises:
        ManifestError: shares that are negative or all zero, not one name for each, or clips without a speaker.
    """
    names = _NAMES.get(len(ratio), ()) if names is None else names
    if not ratio or len(names) != len(ratio) or min(ratio) < 0 or not 0 < sum(ratio) < float("inf"):
        raise ManifestError(
            f"{len(ratio)} shares ({', '.join(f'{share:g}' for share in ratio)}) for {len(names)} splits: "
            "give shares from 0 up, e.g. 0.8,0.1,0.1, and a name for each where they are not 2 or 3."
        )
    table = manifest.table
    groups = table["speaker"] if by == "speaker" else pc.coalesce(table["original"], table["clip_id"])
    nobody = table["clip_id"].filter(pc.is_null(groups)).to_pylist()
    if nobody:
        raise ManifestError(
            f"{count_clips(len(nobody))} without a {by} to split by: {name_five(nobody)}. "
            "--by original needs no speakers: it keeps each clip with all that was made of it."
        )
    coded = groups.combine_chunks().dictionary_encode()
    dealt = [_deal(f"{seed}/{group}", ratio) for group in coded.dictionary.to_pylist()]
    made = Manifest(
        _with_splits(table, pa.array([names[at] for at in dealt], pa.string()).take(coded.indices)), manifest.info
    )
    counts = [_count(made.table, name) for name in names]
    empty = [each.split for each in counts if each.found == 0]
    notes = [f"{len(dealt)} groups by {by}, dealt with seed {seed}"]
    notes += [f"no group fell to {', '.join(empty)}: try another seed"] if empty else []
    return Resplit(made, counts, notes)


def _files(source: str) -> list[tuple[str | None, Path]]:
    """Return (split if it is given, file) for one source."""
    path = Path(source)
    named = _NAMED.fullmatch(source)
    if named and not path.exists():
        return [(named[1], Path(named[2]))]
    if not path.is_dir():
        return [(None, path)]
    found = sorted({file for pattern in LIST_PATTERNS for file in path.glob(pattern)})
    if not found:
        raise ManifestError(f"{path} holds no list of a split: looked for {' '.join(LIST_PATTERNS)}.")
    return [(None, file) for file in found]


def _read_list(split: str | None, file: Path) -> list[SplitList]:
    lines = records(file, [])
    column = next((name for name in PATH_COLUMNS if name in lines[0]), None)
    if column is None:
        raise ManifestError(f"{file} has no column {' or '.join(PATH_COLUMNS)}; it has {', '.join(lines[0])}.")
    of_file = re.split(r"[^A-Za-z0-9]", file.stem)[0]
    found: dict[str, dict[str, int | None]] = {}
    for line in lines:
        name = split or line.get("split") or of_file
        if line[column] in found.setdefault(name, {}):
            raise ManifestError(f"{file} names {line[column]} twice.")
        try:
            found[name][line[column]] = label_of(line.get("label", ""))
        except KeyError:
            raise ManifestError(f"{file} gives {line[column]} the label {line['label']!r}, not 0 or 1.") from None
    return [SplitList(name, list(clips), list(clips.values())) for name, clips in found.items()]


def _with_labels(manifest: Manifest, said: list[int | None]) -> tuple[pa.Table, int]:
    """Return the table with null labels filled in, and how many there were.

    Raises:
        ManifestError: a clip has another label than the list says.
    """
    table, listed = manifest.table, pa.array(said, pa.int8())
    contrary = pc.fill_null(pc.not_equal(table["label"], listed), False)
    wrong = table["clip_id"].filter(contrary).to_pylist()
    if wrong:
        raise ManifestError(f"{count_clips(len(wrong))} with a label that contradicts the list's: {name_five(wrong)}.")
    taken = pc.sum(pc.and_(pc.is_null(table["label"]), pc.is_valid(listed))).as_py()
    at = SCHEMA.names.index("label")
    return table.set_column(at, SCHEMA.field(at), pc.coalesce(table["label"], listed)), int(taken or 0)


def _with_splits(table: pa.Table, splits: pa.Array) -> pa.Table:
    at = SCHEMA.names.index("split")
    return table.set_column(at, SCHEMA.field(at), splits)


def _count(table: pa.Table, split: str, listed: int | None = None) -> SplitCount:
    labels = table["label"].filter(pc.fill_null(pc.equal(table["split"], split), False))
    real, fake = (int(pc.sum(pc.equal(labels, label)).as_py() or 0) for label in (0, 1))
    return SplitCount(split, len(labels) if listed is None else listed, len(labels), real, fake)


def _deal(text: str, ratio: Sequence[float]) -> int:
    place = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") / 2**64 * sum(ratio)
    end = 0.0
    for at, share in enumerate(ratio):
        end += share
        if place < end:
            return at
    return max(at for at, share in enumerate(ratio) if share > 0)

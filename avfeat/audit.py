"""Can a dataset be trusted? What leaks between its splits, and what tells real from fake without looking at forgery."""

from __future__ import annotations

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc

from avfeat.audit_copies import near_identical
from avfeat.audit_measure import MEASURES, Measures, Prints, measure
from avfeat.audit_nuisance import LEAST_CLIPS, WORDS, Nuisance, nuisances
from avfeat.errors import ClipError
from avfeat.manifest import Manifest
from avfeat.manifest_build import Advance, in_threads
from avfeat.manifest_check import identical_files, segments_outside

LENGTHS_DIFFER_SECONDS = 0.2
"""Coders pad sound by up to a tenth of a second; beyond twice that one stream lacks something."""

OWN_FACTS = ("duration_seconds", "fps", "audio_rate_hz")
"""Measures that the manifest knows, so that the table alone gives them too."""

Kind = Literal["speaker", "original", "identical", "near-identical"]
KINDS: dict[Kind, str] = {
    "speaker": "speakers in several splits",
    "original": "originals in several splits, themselves or by what was made of them",
    "identical": "byte-identical clips in several splits",
    "near-identical": "near-identical clips in several splits",
}


@dataclass(frozen=True)
class Leak:
    """One kind of thing that lies in several splits: each with its splits, and how many each pair of splits shares."""

    kind: Kind
    what: str
    names: dict[str, list[str]]

    @property
    def between(self) -> dict[tuple[str, str], int]:
        """Things that two splits share, by the pair in alphabetical order."""
        return dict(Counter(pair for splits in self.names.values() for pair in combinations(sorted(splits), 2)))


@dataclass(frozen=True)
class Warned:
    """Something odd that leaks nothing, and the clips that it is true of."""

    what: str
    clips: list[str]


@dataclass(frozen=True)
class Audit:
    """All that was found. ``measures`` and ``labels`` are what figures are drawn of, clip by clip.

    overhangs: clips with segments after their end, and by how many seconds.
    balance: for each split its clips by label; split None is named ``(none)``.
    unreadable: clips whose files could not be measured, and why.
    notes: sentences on what was not looked at.
    """

    manifest: str
    clips: int
    measured: int
    balance: list[dict[str, Any]]
    nuisances: list[Nuisance]
    leaks: list[Leak]
    warnings: list[Warned]
    overhangs: dict[str, float]
    unreadable: dict[str, str]
    notes: list[str]
    measures: Mapping[str, list[Any]] = field(repr=False)
    labels: list[int | None] = field(repr=False)

    @property
    def shortcuts(self) -> list[Nuisance]:
        """Properties that a classifier could live on."""
        return [each for each in self.nuisances if each.shortcut]

    def to_json(self) -> str:
        """Return everything but the measures of single clips."""
        facts = {key: value for key, value in vars(self).items() if key not in ("measures", "labels")}
        facts |= {
            "nuisances": [asdict(each) for each in self.nuisances],
            "leaks": [
                asdict(leak) | {"between": [[*pair, count] for pair, count in leak.between.items()]}
                for leak in self.leaks
            ],
            "warnings": [asdict(each) for each in self.warnings],
            "has_leaks": bool(self.leaks),
        }
        return json.dumps(facts, indent=2, ensure_ascii=False)


def audit(
    manifest: Manifest,
    root: Path | None = None,
    *,
    sample: int | None = None,
    workers: int | None = None,
    advance: Advance | None = None,
) -> Audit:
    """Audit a manifest and, when ``root`` is given, its files.

    Leaks are speakers, originals and copies in more than one split. Near-identical copies are looked for only where
    there are several splits. Shortcuts are properties besides forgery that tell the label; see ``nuisances``.

    Args:
        manifest: what is audited.
        root: the folder that holds the media; None audits the table alone.
        sample: measure only so many clips, chosen by the hash of their ids; None measures all.
        workers: threads that decode.
        advance: is told of every file that was measured.
    """
    table = manifest.table
    splits: list[str | None] = table["split"].to_pylist()
    several = len(set(splits) - {None}) > 1
    notes = [] if several else ["fewer than two splits: nothing was compared across splits"]
    leaks = _leaks_of_table(table) if several else []
    overhangs = segments_outside(table)
    warnings = [Warned("segments after the end of the clip", list(overhangs))]
    unreadable: dict[str, str] = {}
    if root is None:
        measures = {name: table[name].to_pylist() for name in OWN_FACTS}
        labels, measured = table["label"].to_pylist(), 0
        notes.append("the files were not looked at")
    else:
        chosen = _sample(manifest.clip_ids, sample)
        rows = table.take(pa.array(chosen, pa.int64()))
        results = _measure_all(rows, root, several, workers, advance)
        unreadable = {
            clip_id: str(result)
            for clip_id, result in zip(rows["clip_id"].to_pylist(), results, strict=True)
            if isinstance(result, ClipError)
        }
        measures = _columns(results)
        labels, measured = rows["label"].to_pylist(), len(results) - len(unreadable)
        warnings.append(_length_differences(rows["clip_id"].to_pylist(), measures["length_difference_seconds"]))
        if several:
            leaks += _copies(rows, root, results, measures["duration_seconds"], workers)
        if len(chosen) < len(table):
            notes.append(f"{len(chosen)} of {len(table)} clips were measured: copies among the others go unseen")
    compared = nuisances(measures, labels)
    notes += _not_compared(measures, compared)
    return Audit(
        manifest=manifest.key,
        clips=len(table),
        measured=measured,
        balance=_balance(splits, table["label"].to_pylist()),
        nuisances=compared,
        leaks=[leak for leak in leaks if leak.names],
        warnings=[each for each in warnings if each.clips],
        overhangs=overhangs,
        unreadable=unreadable,
        notes=notes,
        measures=measures,
        labels=labels,
    )


def _not_compared(measures: Iterable[str], compared: Sequence[Nuisance]) -> list[str]:
    """Return a sentence on the measures that no comparison tells of, none where all were compared."""
    left = [WORDS[name][0] for name in measures if name not in {each.measure for each in compared}]
    why = f"the same in all labelled clips or known of fewer than {LEAST_CLIPS} real or fake ones"
    return [f"not compared, as {why}: {', '.join(left)}"] if left else []


def _leaks_of_table(table: pa.Table) -> list[Leak]:
    originals = pc.unique(table["original"].drop_null())
    is_source = pc.is_in(table["clip_id"], value_set=originals)
    source = pc.coalesce(table["original"], pc.if_else(is_source, table["clip_id"], None))
    return [_leak("speaker", table["speaker"], table["split"]), _leak("original", source, table["split"])]


def _leak(kind: Kind, owners: pa.ChunkedArray, splits: pa.ChunkedArray) -> Leak:
    known = pa.table({"owner": owners, "split": splits}).drop_null()
    groups = known.group_by("owner").aggregate([("split", "distinct")])
    several = groups.filter(pc.greater(pc.list_value_length(groups["split_distinct"]), 1))
    found = zip(several["owner"].to_pylist(), several["split_distinct"].to_pylist(), strict=True)
    return Leak(kind, KINDS[kind], {owner: sorted(in_splits) for owner, in_splits in sorted(found)})


def _sample(clip_ids: Sequence[str], count: int | None) -> list[int]:
    """Return the rows of ``count`` clips, spread by the hash of their ids; later clips do not change who is first."""
    rows = range(len(clip_ids))
    if count is None or count >= len(clip_ids):
        return list(rows)
    return sorted(sorted(rows, key=lambda row: hashlib.sha256(clip_ids[row].encode()).digest())[:count])


def _measure_all(
    rows: pa.Table, root: Path, prints: bool, workers: int | None, advance: Advance | None
) -> list[tuple[Measures, Prints] | ClipError]:
    clips = list(zip(rows["clip_id"].to_pylist(), rows["path"].to_pylist(), strict=True))
    results = []
    for result in in_threads(lambda clip: measure(root / clip[1], clip[0], prints=prints), clips, workers):
        if advance is not None:
            failed = isinstance(result, ClipError)
            advance(int(not failed), int(failed))
        results.append(result)
    return results


def _columns(results: Iterable[tuple[Measures, Prints] | ClipError]) -> dict[str, list[Any]]:
    found = [Measures() if isinstance(result, ClipError) else result[0] for result in results]
    return {name: [getattr(each, name) for each in found] for name in MEASURES}


def _length_differences(clip_ids: Sequence[str], differences: Sequence[float | None]) -> Warned:
    far = [
        clip_id
        for clip_id, difference in zip(clip_ids, differences, strict=True)
        if difference is not None and abs(difference) > LENGTHS_DIFFER_SECONDS
    ]
    return Warned(f"sound and pictures differ in length by more than {LENGTHS_DIFFER_SECONDS} s", far)


def _copies(
    rows: pa.Table,
    root: Path,
    results: Sequence[tuple[Measures, Prints] | ClipError],
    seconds: Sequence[float | None],
    workers: int | None,
) -> list[Leak]:
    clips = rows.select(["clip_id", "path", "split", "label"]).to_pylist()
    readable = [clip for clip, result in zip(clips, results, strict=True) if not isinstance(result, ClipError)]
    same = [group for group in identical_files(readable, root, workers) if len(_splits_of(group)) > 1]
    copies = {" = ".join(clip["clip_id"] for clip in group): _splits_of(group) for group in same}
    known = {frozenset(pair) for group in same for pair in combinations([clip["clip_id"] for clip in group], 2)}
    prints = [Prints() if isinstance(result, ClipError) else result[1] for result in results]
    near = {}
    for one, other in near_identical(prints, seconds, [clip["split"] for clip in clips]):
        pair = [clips[one], clips[other]]
        if frozenset(clip["clip_id"] for clip in pair) not in known:
            near[" ~ ".join(clip["clip_id"] for clip in pair)] = _splits_of(pair)
    return [Leak("identical", KINDS["identical"], copies), Leak("near-identical", KINDS["near-identical"], near)]


def _splits_of(clips: Iterable[Mapping[str, Any]]) -> list[str]:
    return sorted({clip["split"] for clip in clips} - {None})


def _balance(splits: Sequence[str | None], labels: Sequence[int | None]) -> list[dict[str, Any]]:
    counts: defaultdict[str, Counter[int | None]] = defaultdict(Counter)
    for split, label in zip(splits, labels, strict=True):
        counts["(none)" if split is None else split][label] += 1
    return [
        {"split": split, "real": count[0], "fake": count[1], "unknown": count[None]}
        for split, count in sorted(counts.items())
    ]

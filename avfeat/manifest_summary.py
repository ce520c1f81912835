"""What a manifest holds, in numbers: clips by split and label, hours, media facts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from avfeat.manifest import Manifest

_MOST_COMMON = 5


@dataclass(frozen=True)
class Summary:
    """``splits`` has one entry for each split (None: no split named), with clips by label and seconds.

    ``facts`` has for each media fact its most common values and in how many clips they are; None counts the unknown.
    """

    info: dict[str, str]
    digest: str
    key: str
    clips: int
    speakers: int
    methods: int
    duration_seconds: float
    splits: list[dict[str, Any]]
    facts: dict[str, list[tuple[Any, int]]]


def summarise(manifest: Manifest) -> Summary:
    """Count what a manifest holds; clips of unknown duration count as 0 seconds."""
    table = manifest.table
    seconds = pc.fill_null(table["duration_seconds"], 0.0)
    columns = {
        "split": table["split"],
        "real": pc.fill_null(pc.equal(table["label"], 0), False),
        "fake": pc.fill_null(pc.equal(table["label"], 1), False),
        "unknown": pc.is_null(table["label"]),
        "seconds": seconds,
    }
    sums = [("real", "sum"), ("fake", "sum"), ("unknown", "sum"), ("seconds", "sum")]
    splits = [
        {"split": group["split"], **{name: group[f"{name}_sum"] for name, _ in sums}}
        for group in pa.table(columns).group_by("split").aggregate(sums).to_pylist()
    ]
    size = pc.binary_join_element_wise(pc.cast(table["width"], pa.string()), pc.cast(table["height"], pa.string()), "x")
    facts = {
        "pictures": table["has_video"],
        "sound": table["has_audio"],
        "fps": pc.round(table["fps"], 3),
        "size": size,
        "audio_rate_hz": table["audio_rate_hz"],
    }
    return Summary(
        info=asdict(manifest.info),
        digest=manifest.digest,
        key=manifest.key,
        clips=len(table),
        speakers=pc.count_distinct(table["speaker"]).as_py(),
        methods=pc.count_distinct(table["method"]).as_py(),
        duration_seconds=pc.sum(seconds).as_py() or 0.0,
        splits=sorted(splits, key=lambda split: (split["split"] is None, split["split"] or "")),
        facts={name: _common(column) for name, column in facts.items()},
    )


def _common(column: pa.ChunkedArray) -> list[tuple[Any, int]]:
    counts = [(count["values"], count["counts"]) for count in pc.value_counts(column).to_pylist()]
    return sorted(counts, key=lambda count: (-count[1], str(count[0])))[:_MOST_COMMON]

"""What every manifest must fulfil, checked on whole columns; each broken rule is one error that names five clips."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from avfeat.errors import ManifestError

LABELS = ("label", "audio_label", "video_label")
SEGMENTS = ("segments", "audio_segments", "video_segments")
MEASURES = ("duration_seconds", "fps", "source_frames", "width", "height", "audio_rate_hz")

_NOT_BELOW_ROOT = r"^[/\\]|^[A-Za-z]:[/\\]|(^|[/\\])\.\.([/\\]|$)"
_NOT_PLAIN = r"\\|[\x00-\x1f\x7f]"


def name_five(names: Sequence[str]) -> str:
    """Return the first five names and how many more there are: ``a, b, c, d, e and 7 more``."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def count_clips(count: int) -> str:
    """Return ``1 clip`` or ``12 clips``."""
    return f"{count} clip" if count == 1 else f"{count} clips"


def check_rules(table: pa.Table) -> None:
    """Check a table that has the manifest's schema and is sorted by clip_id.

    Raises:
        ManifestError: duplicate, empty or unusual ids; absolute or ``..`` paths; labels other than 0, 1 and null;
            negative, inverted or not finite segments; negative or not finite media facts. The first rule that is
            broken is the one that is told.
    """
    _check_ids(table)
    _check_paths(table)
    for column in LABELS:
        outside = pc.invert(pc.is_in(table[column], value_set=pa.array([0, 1, None], pa.int8())))
        _refuse(
            table, outside, f"a {column} other than 0, 1 and null", "Write 0 for real, 1 for fake, null for unknown."
        )
    for column in SEGMENTS:
        _check_segments(table, column)
    for column in MEASURES:
        values = pc.cast(table[column], pa.float64())
        wrong = pc.invert(pc.and_(pc.is_finite(values), pc.greater_equal(values, 0.0)))
        _refuse(table, wrong, f"a {column} that is negative or not a number", "Write null where it is unknown.")


def _check_ids(table: pa.Table) -> None:
    ids = table["clip_id"]
    nothing = pc.or_(pc.equal(pc.utf8_length(ids), 0), pc.equal(pc.utf8_length(table["path"]), 0))
    _refuse(table, nothing, "an empty clip_id or path", "Each clip needs both.")
    repeated = pc.unique(ids.slice(1).filter(pc.equal(ids.slice(1), ids.slice(0, max(len(ids) - 1, 0)))))
    if len(repeated):
        raise ManifestError(
            f"{_count_ids(len(repeated))} more than once: {name_five(repeated.to_pylist())}. "
            "A clip_id names one clip; drop the copies or give them other ids."
        )
    decomposed = pc.not_equal(pc.utf8_normalize(ids, form="NFC"), ids)
    _refuse(table, decomposed, "a clip_id that is not in Unicode form NFC", "Normalise the ids, not the paths.")


def _count_ids(count: int) -> str:
    return "1 clip_id is there" if count == 1 else f"{count} clip_ids are there"


def _check_paths(table: pa.Table) -> None:
    for column in ("path", "clip_id"):
        outside = pc.match_substring_regex(table[column], pattern=_NOT_BELOW_ROOT)
        _refuse(table, outside, f"a {column} that is absolute or holds ..", "Write it relative to the root, below it.")
        odd = pc.match_substring_regex(table[column], pattern=_NOT_PLAIN)
        _refuse(
            table, odd, f"a {column} with a backslash or a control character", "Write forward slashes, rename the file."
        )


def _check_segments(table: pa.Table, column: str) -> None:
    starts, ends, owners = flat_segments(table, column)
    good = pc.and_kleene(
        pc.and_kleene(pc.is_finite(starts), pc.is_finite(ends)),
        pc.and_kleene(pc.greater_equal(starts, 0.0), pc.greater_equal(ends, starts)),
    )
    wrong = pc.unique(owners.filter(pc.invert(pc.fill_null(good, False))))
    _refuse_rows(
        table,
        wrong,
        f"{column} with a time that is negative or not a number, or an end before the start",
        "A segment is start_seconds, end_seconds from the start of the clip.",
    )


def flat_segments(table: pa.Table, column: str) -> tuple[pa.Array, pa.Array, pa.Array]:
    """Return the starts and ends (seconds) of all segments of a column end to end, and the row number of each."""
    lists = table[column].combine_chunks()
    parts = pc.list_flatten(lists)
    return pc.struct_field(parts, 0), pc.struct_field(parts, 1), pc.list_parent_indices(lists)


def _refuse(table: pa.Table, broken: pa.ChunkedArray, what: str, remedy: str) -> None:
    """Raise when ``broken``, one value for each row, is true anywhere; null counts as false."""
    if pc.any(broken).as_py():
        _refuse_rows(table, pc.indices_nonzero(broken), what, remedy)


def _refuse_rows(table: pa.Table, rows: pa.Array, what: str, remedy: str) -> None:
    if len(rows) == 0:
        return
    count = len(rows)
    have = "has" if count == 1 else "have"
    names = table["clip_id"].take(rows).to_pylist()
    raise ManifestError(
        f"{count_clips(count)} {have} {what}: {name_five([printable(name) for name in names])}. {remedy}"
    )


def printable(name: str) -> str:
    """Return ``name`` with control characters and undecodable bytes written as escapes."""
    return "".join(
        c if c.isprintable() else c.encode("utf-8", "backslashreplace").decode() if ord(c) > 127 else repr(c)[1:-1]
        for c in name
    )

"""Damage of every kind is found, and dropped by repair; the next writer does it again."""

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import google_crc32c
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from store_making import FEATURE, all_rows, assert_same, feature_of, manifest_of, rows_of, write

from avfeat.errors import NoFaceError, StoreError
from avfeat.store_check import check_store
from avfeat.store_status import status

CLIPS = 9
BAD = "part-00001"


def _shard(part: Path) -> Path:
    return part / "frames" / "c.0.0"


def _flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def _edit(path: Path, **changes: object) -> None:
    whole = json.loads(path.read_text())
    (whole["attributes"] if "attributes" in changes else whole).update(changes.pop("attributes", changes))
    path.write_text(json.dumps(whole))


def _reindex(part: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    """Write another index, with its checksum, as a wrong writer might have."""
    table = change(pq.read_table(part / "index.parquet"))
    pq.write_table(table, part / "index.parquet")
    _edit(part / "zarr.json", attributes={"index_crc32c": google_crc32c.value((part / "index.parquet").read_bytes())})


def _with(table: pa.Table, column: str, values: list[object]) -> pa.Table:
    field = table.schema.field(column)
    return table.set_column(table.column_names.index(column), field, pa.array(values, field.type))


def _not_finite(part: Path) -> None:
    _flip(_shard(part), 1)
    content = bytearray(_shard(part).read_bytes())
    content[:2] = np.float16(np.inf).tobytes()
    _shard(part).write_bytes(content)
    first = pq.read_table(part / "index.parquet").to_pylist()[0]
    right = google_crc32c.value(bytes(content[: first["length"] * 12]))
    _reindex(part, lambda table: _with(table, "crc32c", [right, *table["crc32c"].to_pylist()[1:]]))


def _lose_a_chunk(path: Path, chunks: int = 4) -> None:
    """Say in the index of a shard, with the right checksum, that the first chunk was never written."""
    content = path.read_bytes()
    index = b"\xff" * 16 + content[-16 * chunks + 16 - 4 : -4]
    path.write_bytes(content[: -16 * chunks - 4] + index + google_crc32c.value(index).to_bytes(4, "little"))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a flipped bit in the frames": (lambda part: _flip(_shard(part), 5), "frames of clip c003 do not match"),
    "a flipped bit in a shard's index": (lambda part: _flip(_shard(part), -20), "its index is damaged"),
    "a chunk that was never written": (lambda part: _lose_a_chunk(_shard(part)), r"lacks chunks of its \d+ rows"),
    "a shard cut short": (lambda part: _cut(_shard(part)), r"frames/c.0.0 has \d+ bytes, not \d+"),
    "an empty shard": (lambda part: _shard(part).write_bytes(b""), "frames/c.0.0 has 0 bytes"),
    "a deleted shard": (lambda part: _shard(part).unlink(), "frames/c.0.0 has 0 bytes"),
    "a deleted index": (lambda part: (part / "index.parquet").unlink(), "index.parquet cannot be read"),
    "a flipped bit in the index": (lambda part: _flip(part / "index.parquet", 40), "does not match its checksum"),
    "no array": (lambda part: shutil.rmtree(part / "frames"), "frames/zarr.json is missing"),
    "another array": (lambda part: _edit(part / "frames" / "zarr.json", shape=[3, 6]), "its array has 3 rows"),
    "another type": (lambda part: _edit(part / "frames" / "zarr.json", data_type="float32"), "its frames lie as"),
    "no attributes": (lambda part: (part / "zarr.json").unlink(), "it has no zarr.json"),
    "the name of another part": (lambda part: _edit(part / "zarr.json", attributes={"part": 2}), "it is part-00002"),
    "a part beyond the manifest": (lambda part: part.rename(part.with_name("part-00007")), "it is part-00001"),
    "a clip missing": (lambda part: _reindex(part, lambda table: table.slice(0, 2)), r"lacks 1 clips .*\(c005\)"),
    "a clip twice": (
        lambda part: _reindex(part, lambda table: pa.concat_tables([table, table.slice(2)])),
        "clip c005 is in its index twice",
    ),
    "a clip of another part": (
        lambda part: _reindex(part, lambda table: _with(table, "clip_id", ["c003", "c004", "c006"])),
        r"lacks 1 clips of the manifest and holds 1 of other parts \(c005, c006\)",
    ),
    "clips that overlap": (
        lambda part: _reindex(part, lambda table: _with(table, "start", [0, 0, 0])),
        "the index row of c004 is impossible: start 0",
    ),
    "a failure without a reason": (
        lambda part: _reindex(part, lambda table: _with(table, "error", [None] * 3)),
        "the index row of c005 contradicts itself",
    ),
    "a number that is not finite": (_not_finite, "frames of clip c003 are not all finite"),
}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound store."""
    store = tmp_path_factory.mktemp("whole") / "store"
    write(store, manifest_of(CLIPS))
    return store


@pytest.fixture
def store(whole: Path, tmp_path: Path) -> Path:
    """A copy of the sound store, to be damaged."""
    shutil.copytree(whole, tmp_path / "store")
    return tmp_path / "store"


def test_a_sound_store_has_no_findings(whole: Path) -> None:
    for deep in (True, False):
        report = check_store(whole, deep)
        assert (report.ok, report.findings, report.leftovers) == (True, [], [])
        assert (report.features, report.parts, report.clips) == (1, 3, CLIPS)
        assert report.rows == sum(len(rows) for rows in all_rows(manifest_of(CLIPS)).values() if not _failed(rows))
        assert report.lines()[-1] == "all is well."


def _failed(value: object) -> bool:
    return isinstance(value, NoFaceError)


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_found_dropped_and_made_good(store: Path, whole: Path, damage: str) -> None:
    act, sentence = DAMAGE[damage]
    act(feature_of(store).path / BAD)
    before = sorted(path for path in store.rglob("*"))
    report = check_store(store)
    assert [finding.dropped for finding in report.findings] == [False] and not report.ok
    assert re.search(sentence, report.findings[0].problem)
    assert f"{manifest_of(CLIPS).key}/{FEATURE}/part-0000" in report.findings[0].place
    assert sorted(path for path in store.rglob("*")) == before

    repaired = check_store(store, repair=True)
    assert [finding.dropped for finding in repaired.findings] == [True] and repaired.ok
    assert [part.number for part in feature_of(store).missing_parts()] == [1]
    write(store, manifest_of(CLIPS))
    assert_same(store, whole)
    assert check_store(store).findings == []


def test_a_quick_check_finds_all_but_altered_frames(store: Path) -> None:
    _flip(_shard(feature_of(store).path / BAD), 5)
    assert check_store(store, deep=False).ok
    _cut(_shard(feature_of(store).path / BAD))
    assert not check_store(store, deep=False).ok


def test_the_reader_refuses_missing_and_cut_shards_instead_of_giving_zeros(store: Path) -> None:
    shard = _shard(feature_of(store).path / BAD)
    _cut(shard)
    with pytest.raises(StoreError, match=r"c\.0\.0 is cut short or its index is damaged: .*avfeat check --repair"):
        feature_of(store).clip("c003")
    shard.unlink()
    with pytest.raises(StoreError, match=r"c\.0\.0 is missing"):
        feature_of(store).frames(["c000", "c003"])


@pytest.mark.parametrize("damage", ["unlink", "flip", "cut"])
def test_compressed_stores_are_checked_too(tmp_path: Path, damage: str) -> None:
    store = tmp_path / "store"
    write(store, manifest_of(3), codec="zstd")
    assert check_store(store).findings == []
    shard = _shard(feature_of(store).path / "part-00000")
    {"unlink": shard.unlink, "flip": lambda: _flip(shard, 30), "cut": lambda: _cut(shard)}[damage]()
    assert len(check_store(store, repair=True).findings) == 1
    assert check_store(store).ok
    assert len(feature_of(store).missing_parts()) == 1


def test_a_bad_retry_is_dropped_and_the_first_attempt_stands(store: Path) -> None:
    feature = feature_of(store)
    with feature.part_writer(1, 1) as writer:
        writer.add("c005", rows_of("c005", 20), {})
        writer.commit()
    assert check_store(store).ok
    _flip(_shard(feature.path / f"{BAD}.r1"), 0)
    assert [finding.place.rpartition("/")[2] for finding in check_store(store, repair=True).findings] == [f"{BAD}.r1"]
    assert feature_of(store).failed_clips() == {1: ("c005",)}


def test_what_repair_cannot_mend_is_told_and_left_alone(store: Path) -> None:
    feature = feature_of(store)
    (feature.path / "notes").mkdir()
    _edit(feature.group.path / "zarr.json", attributes={"digest": "0" * 64})
    report = check_store(store, repair=True)
    assert not report.ok and "manifest.parquet is not the manifest" in report.findings[0].problem
    _edit(feature.group.path / "zarr.json", attributes={"digest": manifest_of(CLIPS).digest})
    assert [finding.place.rpartition("/")[2] for finding in check_store(store, repair=True).findings] == ["notes"]
    (feature.path / "zarr.json").write_text("{}")
    report = check_store(store, repair=True)
    assert not report.ok and "is damaged" in report.findings[0].problem
    assert len(feature.committed()) == 3


def test_leftovers_are_told_and_old_ones_removed_by_repair(store: Path) -> None:
    feature = feature_of(store)
    names = [f".part-00000.{digit * 32}" for digit in "0a"]
    for name, age in zip(names, (0, 2 * 86_400), strict=True):
        (feature.path / name).mkdir()
        os.utime(feature.path / name, (feature.path.stat().st_mtime - age,) * 2)
    place = f"{feature.group.key}/{FEATURE}"
    assert check_store(store).leftovers == [f"{place}/{name}" for name in names]
    report = check_store(store, repair=True)
    assert report.ok
    assert (report.leftovers, report.swept) == ([f"{place}/{names[0]}"], [f"{place}/{names[1]}"])


def test_the_report_is_lines_and_json(store: Path) -> None:
    _shard(feature_of(store).path / BAD).unlink()
    report = check_store(store)
    assert report.lines()[-1] == "1 problem; drop damaged parts with avfeat check --repair."
    told = json.loads(report.to_json())
    assert told["ok"] is False and told["findings"][0]["place"].endswith(BAD)


def test_status_counts_clips_of_each_kind(store: Path) -> None:
    shutil.rmtree(feature_of(store).path / "part-00002")
    (row,) = status(store)
    assert (row.manifest, row.feature, row.clips) == (manifest_of(CLIPS).key, FEATURE, CLIPS)
    assert (row.done, row.truncated, row.failed, row.missing) == (5, 0, 1, 3)
    assert (row.parts, row.parts_committed, row.errors) == (3, 2, {"NoFace": 1})
    frames = sum(len(rows_of(f"c00{number}")) for number in range(5))
    assert (row.frames, row.size_bytes) == (frames, frames * 12)
    assert status(store, "tiny", FEATURE) == [row]
    with pytest.raises(StoreError, match="has no feature 'x'"):
        status(store, feature="x")


def test_status_of_a_feature_without_parts(store: Path) -> None:
    for part in feature_of(store).path.glob("part-*"):
        shutil.rmtree(part)
    (row,) = status(store)
    assert (row.done, row.failed, row.missing, row.parts_committed) == (0, 0, CLIPS, 0)

"""What is written is what is read: clips, buffers, orders, attempts, and what a store refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import google_crc32c
import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from store_making import (
    CHUNK_ROWS,
    FEATURE,
    SHARD_ROWS,
    WIDTH,
    all_rows,
    feature_of,
    manifest_of,
    memory_disk,
    rows_of,
    write,
)

from avfeat.errors import NoFaceError, NoSoundError, NotFiniteError, StoreError
from avfeat.store import Feature, Group, create, open_store, write_feature
from avfeat.store_check import check_store
from avfeat.store_layout import FRAMES, GROUP_FILE, first_not_finite, shard_name

IDENTITY = {"rate_hz": 25.0, "first_seconds": 0.02, "identity": {"layer": 9, "views": {"margin": 1.3}}}


def _feature(store: Path, clips: int, part_clips: int, **more: Any) -> Feature:
    group = Group.ensure(store, manifest_of(clips), part_clips)
    return group.ensure_feature(FEATURE, IDENTITY, WIDTH, chunk_rows=CHUNK_ROWS, shard_rows=SHARD_ROWS, **more)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=7),
    failed=st.sets(st.integers(0, 6)),
    part_clips=st.integers(1, 8),
    shape=st.sampled_from([(1, 1), (4, 16), (16, 16), (3, 9)]),
    stored=st.sampled_from([("float16", "none"), ("float16", "none"), ("float32", "none"), ("float16", "zstd")]),
    data=st.data(),
)
def test_what_is_written_is_what_is_read_in_any_order(
    lengths: list[int],
    failed: set[int],
    part_clips: int,
    shape: tuple[int, int],
    stored: tuple[str, str],
    data: st.DataObject,
) -> None:
    manifest = manifest_of(len(lengths))
    rows: dict[str, Any] = {
        clip_id: NoFaceError("none") if number in failed else rows_of(clip_id, length)
        for number, (clip_id, length) in enumerate(zip(manifest.clip_ids, lengths, strict=True))
    }
    rows[manifest.clip_ids[0]] = rows_of("first", lengths[0])
    form = dict(zip(("chunk_rows", "shard_rows"), shape, strict=True)) | dict(
        zip(("dtype", "codec"), stored, strict=True)
    )
    with memory_disk() as store:
        write(store, manifest, rows, part_clips=part_clips, **form)

        good = {clip_id: value.astype(stored[0]) for clip_id, value in rows.items() if isinstance(value, np.ndarray)}
        feature = feature_of(store)
        asked = data.draw(st.lists(st.sampled_from(sorted(good)), max_size=12))
        frames, offsets = feature.frames(asked)
        assert offsets.tolist() == np.cumsum([0, *(len(good[clip_id]) for clip_id in asked)]).tolist()
        for place, clip_id in enumerate(asked):
            assert np.array_equal(frames[offsets[place] : offsets[place + 1]], good[clip_id])
            assert np.array_equal(feature.clip(clip_id), good[clip_id])
        everything = feature.to_dask().compute()
        assert everything.dtype == stored[0]
        for row in feature.index().to_pylist():
            assert (row["status"] == "failed") == (row["clip_id"] not in good)
            assert np.array_equal(everything[row["row"] :][: row["length"]], good.get(row["clip_id"], everything[:0]))


def test_a_dask_array_reads_a_shard_when_it_is_asked_for_its_rows_and_no_other(tmp_path: Path) -> None:
    feature = _feature(tmp_path, 4, 1)
    rows = {clip_id: rows_of(clip_id, 10) for clip_id in manifest_of(4).clip_ids}
    for number, clip_id in enumerate(rows):
        with feature.part_writer(number) as writer:
            writer.add(clip_id, rows[clip_id], {})
            writer.commit()
    array = feature.to_dask()
    assert array.chunks == ((10, 10, 10, 10), (WIDTH,))
    shutil.rmtree(feature.path / "part-00002" / "frames")
    assert np.array_equal(array[30:].compute(), rows["c003"].astype(np.float16))
    assert np.allclose(
        array[:20].mean(axis=1).compute(), np.concatenate([rows["c000"], rows["c001"]]).mean(1), atol=0.01
    )
    with pytest.raises((StoreError, OSError)):
        array.compute()


def test_a_part_whose_clips_all_failed_is_a_part(tmp_path: Path) -> None:
    feature = _feature(tmp_path, 3, 3)
    with feature.part_writer(0) as writer:
        for clip_id in manifest_of(3).clip_ids:
            writer.fail(clip_id, NoFaceError(f"{clip_id}: no face in 75 frames."), {"picture_seconds": 3.0})
        assert writer.commit()
    assert feature.missing_parts() == []
    assert feature.index()["error"].to_pylist() == ["NoFace"] * 3
    assert feature.index()["picture_seconds"].to_pylist() == [3.0] * 3
    assert feature.to_dask().compute().shape == (0, WIDTH)
    with pytest.raises(StoreError, match=r"logmel has no rows for c001 failed \(NoFace: c001: no face in 75 frames.\)"):
        feature.clip("c001")


def test_clips_without_rows_are_refused_with_the_reason(tmp_path: Path) -> None:
    feature = _feature(tmp_path, 4, 2)
    with feature.part_writer(0) as writer:
        writer.add("c000", rows_of("c000"), {})
        writer.fail("c001", NoSoundError("c001: no sound."), {})
        writer.commit()
    for clip_id, why in {
        "c001": r"c001 failed \(NoSound: c001: no sound.\)",
        "c003": "c003 is not extracted yet",
        "other": "other is not a clip of tiny-",
    }.items():
        with pytest.raises(StoreError, match=why):
            feature.clip(clip_id)
        with pytest.raises(StoreError, match=why):
            feature.frames(["c000", clip_id])
    with pytest.raises(StoreError, match="and 2 more"):
        feature.frames([f"x{number}" for number in range(7)])


def test_a_clip_is_read_only_and_does_not_copy_within_a_shard(tmp_path: Path) -> None:
    write(tmp_path, manifest_of(1), {"c000": rows_of("c000", 10)})
    clip = feature_of(tmp_path).clip("c000")
    assert clip.base is not None
    with pytest.raises(ValueError, match="read-only"):
        clip[0, 0] = 1


def test_a_buffer_is_filled_and_may_be_longer_and_wider_in_type(tmp_path: Path) -> None:
    write(tmp_path, manifest_of(2), {"c000": rows_of("c000", 30), "c001": rows_of("c001", 5)})
    feature = feature_of(tmp_path)
    for dtype in (np.float16, np.float32, np.float64):
        buffer = np.full((50, WIDTH), 7, dtype)
        frames, _ = feature.frames(["c001", "c000"], out=buffer)
        assert np.shares_memory(frames, buffer) and frames.shape == (35, WIDTH) and frames.dtype == dtype
        assert np.array_equal(frames[:5], rows_of("c001", 5).astype(np.float16))
        assert (buffer[35:] == 7).all()
    for wrong in (np.empty((34, WIDTH), np.float16), np.empty((50, 5), np.float16), np.empty((50, WIDTH), np.int16)):
        with pytest.raises(StoreError, match=r"needed is float16 or wider, \[at least 35, 6\]"):
            feature.frames(["c001", "c000"], out=wrong)


def test_clips_of_two_parts_are_not_taken_for_neighbours(tmp_path: Path) -> None:
    rows = {clip_id: rows_of(clip_id, 5) for clip_id in manifest_of(4).clip_ids}
    write(tmp_path, manifest_of(4), rows, part_clips=2)
    frames, _ = feature_of(tmp_path).frames(["c000", "c003"])
    assert np.array_equal(frames, np.concatenate([rows["c000"], rows["c003"]]).astype(np.float16))


def test_large_reads_by_several_threads_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, manifest_of(12))
    feature = feature_of(tmp_path)
    ids = [clip_id for clip_id, value in all_rows(manifest_of(12)).items() if isinstance(value, np.ndarray)][::-1]
    alone, _ = feature.frames(ids)
    monkeypatch.setattr("avfeat.store_feature._THREADS_FROM_BYTES", 0)
    together, _ = feature.frames(ids)
    assert np.array_equal(alone, together)


def test_a_value_beyond_float16_is_an_error_of_that_clip_and_the_part_goes_on(tmp_path: Path) -> None:
    feature = _feature(tmp_path, 2, 2)
    large = rows_of("c000", 4)
    large[2, 1] = -70_000
    with feature.part_writer(0) as writer:
        with pytest.raises(NotFiniteError, match=r"c000: row 2 of 4 holds 70000, .* --dtype float32") as caught:
            writer.add("c000", large, {})
        writer.fail("c000", caught.value, {})
        hole = rows_of("c001", 4)
        hole[3, 0] = np.nan
        with pytest.raises(NotFiniteError, match="c001: row 3 of 4 holds a value that is not finite"):
            writer.add("c001", hole, {})
        writer.add("c001", rows_of("c001"), {"status": "truncated", "detail": "61 of 75 frames."})
        assert writer.commit()
    assert feature.index()["status"].to_pylist() == ["failed", "truncated"]
    assert feature.index()["error"].to_pylist() == ["NotFinite", None]
    write_feature(
        tmp_path / "wide", manifest_of(1), FEATURE, {"c000": large}, rate_hz=25, first_seconds=0, dtype="float32"
    )
    assert np.array_equal(feature_of(tmp_path / "wide").clip("c000"), large)


def test_the_writer_refuses_what_does_not_belong_to_its_part(tmp_path: Path) -> None:
    with _feature(tmp_path, 4, 2).part_writer(0) as writer:
        writer.add("c000", rows_of("c000"), {})
        for clip_id, rows, facts, why in [
            ("c000", rows_of("c000"), {}, "c000 was written to .* already"),
            ("c002", rows_of("c002"), {}, "c002 is not a clip of .*part-00000"),
            ("c001", rows_of("c001", width=5), {}, r"takes rows of \[length, 6\]"),
            ("c001", rows_of("c001"), {"colour": 1}, "the index has no column colour"),
            ("c001", rows_of("c001"), {"status": "fine"}, "not 'fine'"),
        ]:
            with pytest.raises(StoreError, match=why):
                writer.add(clip_id, rows, facts)
        with pytest.raises(StoreError, match="lacks 1 of its clips, the first is c001"):
            writer.commit()


def test_a_part_is_invisible_until_it_is_committed_and_leaves_nothing_when_it_is_not(tmp_path: Path) -> None:
    feature = _feature(tmp_path, 2, 2)
    with feature.part_writer(0) as writer:
        writer.add("c000", rows_of("c000", 40), {})
        assert feature.committed() == {} and feature.index().num_rows == 0
        assert len(list(feature.path.iterdir())) == 2
    assert [each.name for each in feature.path.iterdir()] == [GROUP_FILE]


def test_a_retry_replaces_failures_and_takes_nothing_away(tmp_path: Path) -> None:
    feature = _feature(tmp_path, 4, 4)
    with feature.part_writer(0) as writer:
        for clip_id in ("c000", "c003"):
            writer.add(clip_id, rows_of(clip_id, 5), {})
        for clip_id in ("c001", "c002"):
            writer.fail(clip_id, NoFaceError("first"), {})
        writer.commit()
    assert feature.failed_clips() == {0: ("c001", "c002")} and feature.next_attempt(0) == 1
    with feature.part_writer(0, 1) as writer:
        writer.add("c002", rows_of("c002", 20), {})
        writer.fail("c001", NoFaceError("second"), {})
        writer.fail("c000", NoFaceError("never had a face"), {})
        writer.commit()
    assert feature.failed_clips() == {0: ("c001",)} and feature.next_attempt(0) == 2
    index = feature.index().to_pylist()
    assert [(row["clip_id"], row["attempt"], row["status"]) for row in index] == [
        ("c000", 0, "done"),
        ("c001", 1, "failed"),
        ("c002", 1, "done"),
        ("c003", 0, "done"),
    ]
    assert index[1]["detail"] == "second"
    frames, offsets = feature.frames(["c003", "c002", "c000"])
    assert offsets.tolist() == [0, 5, 25, 30]
    assert np.array_equal(frames[5:25], rows_of("c002", 20).astype(np.float16))
    assert np.array_equal(feature.to_dask()[index[2]["row"]].compute(), frames[5])


def test_a_retry_outlives_its_first_attempt_and_is_not_retried_alone(tmp_path: Path) -> None:
    feature = _feature(tmp_path, 2, 2)
    for attempt, clip_ids in ((0, ("c000", "c001")), (1, ("c001",))):
        with feature.part_writer(0, attempt) as writer:
            for clip_id in clip_ids:
                writer.fail(clip_id, NoFaceError("none"), {})
            writer.commit()
    shutil.rmtree(feature.path / "part-00000")
    assert (feature.next_attempt(0), feature.failed_clips()) == (0, {})
    assert [part.number for part in feature.missing_parts()] == [0]


def test_rows_of_zeros_are_rows_like_others(tmp_path: Path) -> None:
    write(tmp_path, manifest_of(2), {"c000": np.zeros((40, WIDTH), np.float32), "c001": rows_of("c001", 3)})
    assert not feature_of(tmp_path).clip("c000").any() and len(feature_of(tmp_path).clip("c000")) == 40
    assert check_store(tmp_path).findings == []


def test_clips_may_be_written_in_any_order(tmp_path: Path) -> None:
    feature = _feature(tmp_path, 3, 3)
    with feature.part_writer(0) as writer:
        for clip_id in ("c002", "c000", "c001"):
            writer.add(clip_id, rows_of(clip_id, 7), {})
        writer.commit()
    assert feature.index()["clip_id"].to_pylist() == ["c000", "c001", "c002"]
    assert np.array_equal(feature.clip("c001"), rows_of("c001", 7).astype(np.float16))


def test_the_cut_into_parts_is_fixed_by_the_first(tmp_path: Path) -> None:
    assert Group.ensure(tmp_path, manifest_of(9), 4).part_clips == 4
    assert Group.ensure(tmp_path, manifest_of(9)).part_clips == 4
    with pytest.raises(StoreError, match="parts of 4 clips, which cannot change to 5"):
        Group.ensure(tmp_path, manifest_of(9), 5)
    assert [len(part.clip_ids) for part in open_store(tmp_path)["tiny"].parts] == [4, 4, 1]
    with pytest.raises(StoreError, match="give at least 1"):
        Group.ensure(tmp_path, manifest_of(8), 0)


def test_settings_that_change_numbers_are_fixed_by_the_first(tmp_path: Path) -> None:
    feature = _feature(tmp_path, 2, 2)
    group = feature.group
    again = IDENTITY | {"made_with": {"torch": "other"}, "licence": "other"}
    assert group.ensure_feature(FEATURE, again, WIDTH, chunk_rows=CHUNK_ROWS, shard_rows=SHARD_ROWS).attributes == (
        feature.attributes
    )
    other = IDENTITY | {"identity": {"layer": 12, "views": {"margin": 1.5, "size": 224}}, "rate_hz": 12.5}
    with pytest.raises(StoreError) as caught:
        group.ensure_feature(FEATURE, other, WIDTH, "float32", chunk_rows=CHUNK_ROWS, shard_rows=SHARD_ROWS)
    for difference in (
        "dtype is 'float16' there and 'float32' here",
        "rate_hz is 25.0 there and 12.5 here",
        "identity.layer is 9 there and 12 here",
        "identity.views.margin is 1.3 there and 1.5 here",
        "identity.views.size is None there and 224 here",
    ):
        assert difference in str(caught.value)
    with pytest.raises(StoreError, match="the attributes of other lack identity"):
        group.ensure_feature("other", {"rate_hz": 25, "first_seconds": 0}, WIDTH)
    with pytest.raises(StoreError, match="not plain data"):
        group.ensure_feature("other", IDENTITY | {"card": Path()}, WIDTH)
    for name in ("", ".hidden", "a/b", "Upper", "zarr.json"):
        with pytest.raises(StoreError, match="cannot be a feature's name"):
            group.ensure_feature(name, IDENTITY, WIDTH)


def test_a_shard_is_a_plain_row_file(tmp_path: Path) -> None:
    rows = rows_of("c000", 40)
    write(tmp_path, manifest_of(1), {"c000": rows})
    frames = feature_of(tmp_path).path / "part-00000" / FRAMES
    assert sorted(each.name for each in frames.iterdir()) == ["c.0.0", "c.1.0", "c.2.0", GROUP_FILE]
    found = [np.fromfile(frames / shard_name(number), "<f2", 16 * WIDTH).reshape(-1, WIDTH) for number in (0, 1)]
    assert np.array_equal(np.concatenate(found), rows[:32].astype(np.float16))


def test_the_usual_form_is_256_rows_to_a_chunk_and_16384_to_a_shard(tmp_path: Path) -> None:
    for width, chunk in ((3, 256), (2048, 128)):
        group = Group.ensure(tmp_path, manifest_of(1))
        feature = group.ensure_feature(f"wide{width}", IDENTITY, width)
        with feature.part_writer(0) as writer:
            writer.add("c000", rows_of("c000", 300, width), {})
            writer.commit()
        description = json.loads((feature.path / "part-00000" / FRAMES / GROUP_FILE).read_text())
        assert description["chunk_grid"]["configuration"]["chunk_shape"] == [16_384, width]
        assert description["codecs"][0]["configuration"]["chunk_shape"] == [chunk, width]
        size = (feature.path / "part-00000" / FRAMES / "c.0.0").stat().st_size
        assert size == -(-300 // chunk) * chunk * width * 2 + 16 * (16_384 // chunk) + 4


def test_a_shard_whose_chunks_are_out_of_order_is_read_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, manifest_of(1), {"c000": rows_of("c000", 16)})
    shard = feature_of(tmp_path).path / "part-00000" / FRAMES / "c.0.0"
    content, chunk = shard.read_bytes(), CHUNK_ROWS * WIDTH * 2
    chunks = [content[k * chunk : (k + 1) * chunk] for k in range(4)]
    places = np.array([[2, 0, 3, 1], [1, 1, 1, 1]], "<u8").T * chunk
    index = np.ascontiguousarray(places).tobytes()
    mixed = b"".join(chunks[k] for k in (1, 3, 0, 2)) + index + google_crc32c.value(index).to_bytes(4, "little")
    assert len(mixed) == len(content)
    shard.write_bytes(mixed)
    assert np.array_equal(feature_of(tmp_path).clip("c000"), rows_of("c000", 16).astype(np.float16))


def test_a_part_that_was_made_anew_is_not_read_with_the_old_index(tmp_path: Path) -> None:
    manifest = manifest_of(1)
    write(tmp_path, manifest, {"c000": rows_of("c000", 10)})
    feature = feature_of(tmp_path)
    feature.index()
    shutil.rmtree(feature.path / "part-00000")
    write(tmp_path, manifest, {"c000": rows_of("c000", 12)})
    with pytest.raises(StoreError, match="was replaced since its index was read: open the store again"):
        feature.clip("c000")
    feature.refresh()
    assert len(feature.clip("c000")) == 12


def test_a_manifest_is_found_by_key_and_by_unique_name(tmp_path: Path) -> None:
    for manifest in (manifest_of(1, "a-b"), manifest_of(1, "twice"), manifest_of(2, "twice")):
        write(tmp_path, manifest)
    store = open_store(tmp_path)
    assert store["a-b"].key == manifest_of(1, "a-b").key == store[manifest_of(1, "a-b").key].key
    assert store["a-b"].manifest().clip_ids == ["c000"]
    with pytest.raises(StoreError, match="has several manifests named twice"):
        store["twice"]
    with pytest.raises(StoreError, match="has no manifest 'c'; it has a-b-"):
        store["c"]
    with pytest.raises(StoreError, match="has no feature 'x'; it has logmel"):
        store["a-b"]["x"]
    assert list(store["a-b"]) == [FEATURE]


def test_only_a_store_of_this_format_is_opened(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is not an avfeat store"):
        open_store(tmp_path / "absent")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(StoreError, match=r"not empty \(it holds thesis.tex\)"):
        create(tmp_path / "full")
    later = create(tmp_path / "later") / GROUP_FILE
    later.write_text(later.read_text().replace('"format": 1', '"format": 2'))
    for opening in (open_store, create):
        with pytest.raises(StoreError, match="has store format 2, this avfeat reads format 1: update avfeat"):
            opening(tmp_path / "later")
    later.write_text("{")
    with pytest.raises(StoreError, match="is damaged"):
        open_store(tmp_path / "later")


@given(st.lists(st.floats(width=16), min_size=1, max_size=20), st.sampled_from(["<f2", "<f4"]))
def test_the_quick_test_for_finite_numbers_agrees_with_numpy(values: list[float], dtype: str) -> None:
    rows = np.array(values, dtype).reshape(-1, 1)
    finite = np.isfinite(rows)[:, 0]
    assert first_not_finite(rows) == (None if finite.all() else np.argmin(finite))

"""Real stores on disk, written by the store's own writer."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfeat.errors import LengthError, ManifestError, NoFaceError, ProbeError, StoreError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import write_feature
from probes.align import Rows, join
from probes.loading import Choice, Source


def manifest_of(clips=12, name="tiny", splits=("train", "val", "test")):
    rows = [
        Row(f"c{k:02}", f"c{k:02}.mp4", splits[k // 2 % len(splits)], k % 2, speaker=f"s{k % 3}") for k in range(clips)
    ]
    return Manifest.from_rows(rows, DatasetInfo(name))


def rows_of(manifest, width, seed=0, length=lambda k: 5 + k):
    rng = np.random.default_rng(seed)
    return {each: rng.normal(size=(length(k), width)).astype(np.float16) for k, each in enumerate(manifest.clip_ids)}


@pytest.fixture
def store(tmp_path):
    manifest = manifest_of()
    rows = rows_of(manifest, 6)
    write_feature(tmp_path / "store", manifest, "logmel", rows, rate_hz=25.0, first_seconds=0.02, part_clips=4)
    return tmp_path / "store", manifest, rows


def test_a_split_is_loaded_with_its_labels_and_speakers(store):
    path, manifest, rows = store
    loaded = Source([path], ["logmel"]).load(Choice("tiny", "train"))
    assert loaded.data.clip_ids == ("c00", "c01", "c06", "c07")
    assert loaded.data.labels.tolist() == [0, 1, 0, 1]
    assert loaded.rows["speaker"] == ["s0", "s1", "s0", "s1"]
    assert (loaded.key, loaded.times) == (manifest.key, (0.02, 0.04))
    assert str(loaded.count) == "4 of 4 clips used"
    for k, clip_id in enumerate(loaded.data.clip_ids):
        np.testing.assert_array_equal(loaded.data[k], rows[clip_id])


def test_chosen_clips_are_read_alone(store):
    path, _, rows = store
    loaded = Source([path], ["logmel"]).load(Choice("tiny", "train"), only=["c07", "c00", "c02"])
    assert loaded.data.clip_ids == ("c00", "c07")
    assert loaded.count.listed == 2
    np.testing.assert_array_equal(loaded.data[1], rows["c07"])


def test_a_manifest_is_named_by_key_by_name_or_by_its_file(store, tmp_path):
    path, manifest, _ = store
    manifest.write(tmp_path / "tiny.parquet")
    source = Source([path], ["logmel"])
    for name in (manifest.key, "tiny", str(tmp_path / "tiny.parquet")):
        assert len(source.load(Choice(name)).data) == 12
    manifest_of(6, "other").write(tmp_path / "other.parquet")
    with pytest.raises(StoreError, match=rf"no features of other-\w+.*it has {manifest.key}"):
        source.load(Choice(str(tmp_path / "other.parquet")))


def test_new_splits_and_labels_read_the_features_that_are_there(store, tmp_path):
    path, manifest, rows = store
    again = manifest_of(splits=("test", "train"))
    assert again.key != manifest.key
    again.write(tmp_path / "again.parquet")
    loaded = Source([path], ["logmel"]).load(Choice(str(tmp_path / "again.parquet"), "train"))
    assert loaded.data.clip_ids == ("c02", "c03", "c06", "c07", "c10", "c11")
    np.testing.assert_array_equal(loaded.data[0], rows["c02"])
    assert (loaded.key, loaded.digest) == (again.key, again.digest)


def test_a_manifest_with_a_clip_that_lies_elsewhere_is_not_taken_for_the_stored_one(store, tmp_path):
    path, _, _ = store
    moved = [Row("c00", "moved/c00.mp4", "train", 0)]
    Manifest.from_rows(moved, DatasetInfo("tiny")).write(tmp_path / "moved.parquet")
    with pytest.raises(StoreError, match="nor of another tiny with all its clips"):
        Source([path], ["logmel"]).load(Choice(str(tmp_path / "moved.parquet")))


def test_clips_that_cannot_be_used_are_counted_by_reason(tmp_path):
    known = manifest_of(6)
    table = known.table.set_column(3, "label", [[0, 1, None, 0, 1, 0]])
    manifest = Manifest(table, known.info)
    rows = rows_of(manifest, 4)
    rows["c00"] = NoFaceError("no face from 0 to 3 s")
    rows["c01"] = NoFaceError("no face from 1 to 3 s")
    rows["c04"] = rows["c04"][:0]
    facts = {"c05": {"status": "truncated"}}
    write_feature(tmp_path / "s", manifest, "face", rows, rate_hz=25.0, first_seconds=0.02, facts=facts)
    count = Source([tmp_path / "s"], ["face"]).load(Choice("tiny")).count
    assert (count.listed, count.used, count.truncated) == (6, 2, 1)
    assert count.left_out == {"NoFace": 2, "without label": 1, "without frames": 1}
    assert str(count) == (
        "2 of 6 clips used, 1 of them cut short; left out: 2 NoFace (e.g. c00: no face from 0 to 3 s), "
        "1 without label (e.g. c02), 1 without frames (e.g. c04: face)"
    )
    unlabelled = Source([tmp_path / "s"], ["face"]).load(Choice("tiny"), labelled=False)
    assert unlabelled.data.labels.tolist() == [-1, 0, 0]


def test_a_split_of_which_nothing_is_left_says_why(tmp_path):
    manifest = manifest_of(6)
    rows = {clip_id: NoFaceError("no face at all") for clip_id in manifest.clip_ids}
    rows["c05"] = np.ones((3, 4), np.float16)
    write_feature(tmp_path / "s", manifest, "face", rows, rate_hz=25.0, first_seconds=0.02)
    with pytest.raises(ProbeError, match=r"tiny:train: no clip is left.*2 NoFace \(e.g. c00: no face at all\)"):
        Source([tmp_path / "s"], ["face"]).load(Choice("tiny", "train"))


def test_what_is_not_there_is_refused_with_what_there_is(store, tmp_path):
    path, manifest, _ = store
    with pytest.raises(ManifestError, match=r"in split 'dev'; its splits are train .4 clips., val .4 clips., test"):
        Source([path], ["logmel"]).load(Choice("tiny", "dev"))
    with pytest.raises(StoreError, match=rf"{manifest.key} has no feature 'xlsr'; it has logmel"):
        Source([path], ["xlsr"]).load(Choice("tiny"))
    with pytest.raises(StoreError, match=f"no manifest 'favc'; it has {manifest.key}"):
        Source([path], ["logmel"]).load(Choice("favc"))
    with pytest.raises(ProbeError, match="logmel, logmel"):
        Source([path], ["logmel", "logmel"])
    splitless = Manifest.from_rows([Row("a", "a.mp4")], DatasetInfo("plain"))
    write_feature(path, splitless, "logmel", {"a": np.ones((2, 6))}, rate_hz=25.0, first_seconds=0.02)
    with pytest.raises(ManifestError, match="names no splits"):
        Source([path], ["logmel"]).load(Choice("plain", "train"))


def test_features_of_two_stores_are_joined_by_clip_and_time(store, tmp_path):
    path, manifest, rows = store
    later = rows_of(manifest, 3, seed=1, length=lambda k: 4 + k)
    slow = rows_of(manifest, 2, seed=2, length=lambda k: (5 + k) // 2)
    other = tmp_path / "other"
    write_feature(other, manifest, "later", later, rate_hz=25.0, first_seconds=0.06)
    write_feature(other, manifest, "slow", slow, rate_hz=12.5, first_seconds=0.04, dtype="float32")
    data = Source([path, other], ["logmel", "later", "slow"]).load(Choice("tiny", "val")).data
    assert (data.features, data.widths) == (("logmel", "later", "slow"), (6, 3, 2))
    for k, clip_id in enumerate(data.clip_ids):
        own = data[k].numpy()
        count = min(4 + int(clip_id[1:]), (5 + int(clip_id[1:])) // 2 * 2 - 1)
        assert len(own) == count
        np.testing.assert_array_equal(own[:, :6], rows[clip_id][1 : count + 1])
        np.testing.assert_array_equal(own[:, 6:9], later[clip_id][:count])
        np.testing.assert_array_equal(own[:, 9:], slow[clip_id][np.arange(1, count + 1) // 2])


def test_the_first_row_of_a_clip_has_its_own_time_and_that_of_a_join(store, tmp_path):
    path, manifest, rows = store
    assert Source([path], ["logmel"]).load(Choice("tiny", "val")).starts == pytest.approx([0.02] * 4)
    later = rows_of(manifest, 3, seed=1, length=lambda k: 4 + k)
    write_feature(tmp_path / "other", manifest, "later", later, rate_hz=25.0, first_seconds=0.06)
    joined = Source([path, tmp_path / "other"], ["logmel", "later"]).load(Choice("tiny", "val"))
    assert joined.starts == pytest.approx([0.06] * 4)
    facts = {clip_id: {"first_seconds": 0.5} for clip_id in ("c02", "c09")}
    write_feature(path, manifest, "trimmed", rows, rate_hz=25.0, first_seconds=0.02, facts=facts)
    assert Source([path], ["trimmed"]).load(Choice("tiny", "val")).starts == pytest.approx([0.5, 0.02, 0.02, 0.5])


def test_a_clip_whose_features_differ_by_more_than_a_row_is_left_out_with_both_lengths(store):
    path, manifest, _ = store
    short = rows_of(manifest, 3, length=lambda k: 5 + k - 2 * (k == 1))
    write_feature(path, manifest, "short", short, rate_hz=25.0, first_seconds=0.02)
    count = Source([path], ["logmel", "short"]).load(Choice("tiny", "train")).count
    assert count.left_out == {"Length": 1}
    assert "logmel has 6 rows (0.020 to 0.220 s) but short has 4 rows (0.020 to 0.140 s)" in count.examples["Length"]


def test_a_store_that_lacks_a_clip_counts_it_as_not_extracted(store, tmp_path):
    path, manifest, _ = store
    part = next((path / manifest.key / "logmel").glob("part-00000*"))
    part.rename(tmp_path / "gone")
    count = Source([path], ["logmel"]).load(Choice("tiny")).count
    assert count.left_out == {"not extracted": 4}


def joined_plainly(streams):
    """For each row of the first stream the earliest of each within half a step; None: too much is lost."""
    rows = []
    for k in range(streams[0].count):
        seconds = streams[0].first_seconds + k / 25
        near = [
            next(i for i in range(-9, 99) if abs(s.first_seconds + i / 25 - seconds) <= 0.02 + 1e-9) for s in streams
        ]
        if all(0 <= own < s.count for own, s in zip(near, streams, strict=True)):
            rows.append(near)
    columns = list(zip(*rows, strict=True))
    if not rows or any(own[0] > 1 or s.count - 1 - own[-1] > 1 for s, own in zip(streams, columns, strict=True)):
        return None
    return [list(own) for own in columns]


@given(
    counts=st.lists(st.integers(1, 30), min_size=2, max_size=3),
    shifts=st.lists(st.sampled_from([0.0, 0.01, 0.019, 0.02, 0.03, 0.05]), min_size=3, max_size=3),
)
def test_rows_are_joined_with_the_nearest_in_time_or_all_lengths_are_named(counts, shifts):
    streams = [Rows(f"f{k}", n, 25.0, 0.02 + shifts[k]) for k, n in enumerate(counts)]
    expected = joined_plainly(streams)
    if expected is not None:
        assert [list(own) for own in join(streams)] == expected
        return
    with pytest.raises(LengthError) as error:
        join(streams)
    assert all(f"f{k} has {n} rows" in str(error.value) for k, n in enumerate(counts))


def test_one_row_more_is_trimmed_and_two_are_an_error():
    longer, shorter = Rows("a", 10, 25.0, 0.02), Rows("b", 9, 25.0, 0.02)
    assert [list(numbers) for numbers in join([longer, shorter])] == [list(range(9))] * 2
    with pytest.raises(LengthError, match=r"a has 10 rows .* but c has 8 rows"):
        join([longer, Rows("c", 8, 25.0, 0.02)])

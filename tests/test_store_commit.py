"""Killed, stalled and racing writers, and disks that refuse: real processes, one whole part or none."""

import os
import random
import resource
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from store_making import (
    FEATURE,
    WIDTH,
    all_rows,
    assert_same,
    ensure_group_stalling,
    feature_of,
    manifest_of,
    memory_disk,
    process,
    rows_of,
    wake,
    write,
    write_all,
    write_part,
)

from avfeat.errors import StoreError
from avfeat.store import Feature, Group, PartWriter, create
from avfeat.store_check import check_store
from avfeat.store_disk import leftovers, sweep
from avfeat.store_layout import Form

CLIPS = ("c000", "c001", "c002")


@pytest.fixture
def feature(tmp_path: Path) -> Feature:
    """A feature of one part, not written yet."""
    group = Group.ensure(tmp_path / "store", manifest_of(3), 3)
    facts = {"rate_hz": 25.0, "first_seconds": 0.02, "identity": {}}
    return group.ensure_feature(FEATURE, facts, WIDTH, chunk_rows=4, shard_rows=16)


def _assert_whole(feature: Feature) -> None:
    feature.refresh()
    for clip_id in CLIPS:
        assert np.array_equal(feature.clip(clip_id), rows_of(clip_id, 20).astype(np.float16))
    report = check_store(feature.group.path.parent)
    assert report.ok and report.findings == [] and report.leftovers == []


def _private_parts(store: Path) -> set[Path]:
    return set(store.glob(f"*/{FEATURE}/.part-*"))


def test_a_store_whose_writer_was_killed_twenty_times_equals_an_uninterrupted_one() -> None:
    clips = 120
    chance = random.Random(1)
    hits = 0
    with memory_disk() as folder:
        store = folder / "killed"
        started = time.monotonic()
        write(folder / "whole", manifest_of(clips))
        per_part = (time.monotonic() - started) / 40
        for _ in range(20):
            before = _private_parts(store)
            writer, connection = process(write_all, store, clips)
            assert connection.recv() == "begun"
            # By the writer's own progress, not by the clock alone: on a busy machine it may take long to begin.
            while writer.is_alive() and not _private_parts(store) - before:
                time.sleep(0.0005)
            time.sleep(chance.uniform(0, per_part))
            writer.kill()
            writer.join()
            hits += len(_private_parts(store) - before) > 0
            assert check_store(store).findings == []
        assert hits > 0
        write(store, manifest_of(clips))
        assert_same(store, folder / "whole")
        assert sweep(feature_of(store).path, older_than_seconds=0) != []
        assert check_store(store).leftovers == []


@pytest.mark.parametrize("place", ["rename", "middle"])
def test_a_stalled_writer_that_wakes_up_after_its_part_was_redone_changes_nothing(feature: Feature, place: str) -> None:
    stalled, connection = process(write_part, feature.path, CLIPS, place)
    assert connection.recv() == "still"
    other, answers = process(write_part, feature.path, CLIPS, "")
    assert answers.recv() is True
    other.join()
    before = {
        path: path.read_bytes() for path in feature.path.rglob("*") if path.is_file() and ".part" not in str(path)
    }
    assert wake(stalled, connection) is False
    after = {path: path.read_bytes() for path in feature.path.rglob("*") if path.is_file()}
    assert after == before
    _assert_whole(feature)


@pytest.mark.parametrize(("place", "says"), [("rename", "still"), ("middle", "still"), ("start", "ready")])
def test_a_stalled_writer_whose_folder_was_swept_commits_nothing(feature: Feature, place: str, says: str) -> None:
    stalled, connection = process(write_part, feature.path, CLIPS, place)
    assert connection.recv() == says
    assert len(sweep(feature.path)) == 0
    assert len(sweep(feature.path, older_than_seconds=-1)) == 1
    connection.send("go")
    answer = wake(stalled, connection)
    assert isinstance(answer, str) and "cannot be written: No such file or directory" in answer
    assert feature.committed() == {} and leftovers(feature.path) == []


@pytest.mark.parametrize("writers", [2, 4])
def test_of_writers_that_race_for_one_part_one_wins_and_the_part_is_whole(feature: Feature, writers: int) -> None:
    racing = [process(write_part, feature.path, CLIPS, "start") for _ in range(writers)]
    for _, connection in racing:
        assert connection.recv() == "ready"
    for _, connection in racing:
        connection.send("go")
    assert sorted(bool(connection.recv()) for _, connection in racing) == [False] * (writers - 1) + [True]
    for writer, _ in racing:
        writer.join()
    _assert_whole(feature)


def test_a_stalled_maker_of_a_group_finds_the_cut_of_whoever_was_faster(tmp_path: Path) -> None:
    store = tmp_path / "store"
    stalled, connection = process(ensure_group_stalling, store, 9, 2)
    assert connection.recv() == "still"
    group = Group.ensure(store, manifest_of(9), 3)
    before = {path: path.read_bytes() for path in group.path.iterdir()}
    answer = wake(stalled, connection)
    assert "is cut into parts of 3 clips, which cannot change to 2" in str(answer)
    assert {path: path.read_bytes() for path in group.path.iterdir()} == before
    assert leftovers(store) == []


def test_a_full_disk_is_one_sentence_and_no_part(feature: Feature) -> None:
    for limit in (100, 3000, 4500):
        writer, connection = process(_write_until_full, feature.path, limit)
        answer = connection.recv()
        writer.join()
        assert "part-00000 cannot be written: File too large. What is committed stands" in answer
        assert feature.committed() == {} and leftovers(feature.path) == []


def _write_until_full(connection: Connection, feature: Path, limit_bytes: int) -> None:
    """Where files end at so many bytes: the array's description, its first shard, the index."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))
    clip_ids = [f"c{number:03}" for number in range(3)]
    rows = {100: 20, 3000: 2000, 4500: 2}[limit_bytes]
    try:
        with PartWriter(feature, Form.of(WIDTH, chunk_rows=4, shard_rows=1024), 0.02, 0, 0, clip_ids) as writer:
            for clip_id in clip_ids:
                noise = np.random.default_rng().integers(32, 126, 5000, np.uint8).tobytes().decode()
                writer.add(clip_id, rows_of(clip_id, rows), {"detail": noise})
            writer.commit()
        connection.send("written")
    except StoreError as error:
        connection.send(str(error))


@contextmanager
def _nobody() -> Iterator[None]:
    """Without root's power to write anywhere, if we have it."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_written_is_one_sentence(feature: Feature) -> None:
    folders = [feature.path, feature.group.path]
    writer = feature.part_writer(0)
    for folder in folders:
        folder.chmod(0o555)
    with _nobody():
        with pytest.raises(StoreError, match="part-00000 cannot be written: Permission denied"), writer:
            pass
        with pytest.raises(StoreError, match="cannot be written: Permission denied"):
            create(feature.path / "new")
    for folder in folders:
        folder.chmod(0o755)


def test_only_our_own_and_old_leftovers_are_swept(feature: Feature) -> None:
    old = time.time() - 2 * 86_400
    ours = feature.path / f".part-00000.{'0123456789abcdef' * 2}"
    young = feature.path / f".part-00001.{'0123456789abcdef' * 2}"
    for folder in (ours, young):
        (folder / "frames").mkdir(parents=True)
        (folder / "frames" / "c.0.0").touch()
    (feature.path / ".DS_Store").touch()
    for path in (ours / "frames" / "c.0.0", ours / "frames", ours, young, feature.path / ".DS_Store"):
        os.utime(path, (old, old))
    assert sweep(feature.path) == [ours]
    assert sorted(path.name for path in feature.path.iterdir()) == sorted([".DS_Store", young.name, "zarr.json"])


def test_a_new_run_sweeps_what_killed_ones_left(feature: Feature) -> None:
    old = time.time() - 2 * 86_400
    places = [feature.path / "x", feature.group.path / "x", feature.group.path.parent / "x"]
    for place in places:
        leftover = place.parent / f".part.{'0123456789abcdef' * 2}"
        leftover.mkdir()
        os.utime(leftover, (old, old))
    write(feature.group.path.parent, manifest_of(3))
    assert [leftovers(place.parent) for place in places] == [[], [], []]


def test_writing_again_does_only_what_is_missing(tmp_path: Path) -> None:
    manifest = manifest_of(9)
    write(tmp_path, manifest)
    path = feature_of(tmp_path).path
    shutil.rmtree(path / "part-00001")
    times = {part: (path / part).stat().st_mtime_ns for part in ("part-00000", "part-00002")}
    assert [part.number for part in feature_of(tmp_path).missing_parts()] == [1]
    write(tmp_path, manifest)
    assert {part: (path / part).stat().st_mtime_ns for part in times} == times
    assert set(feature_of(tmp_path).index()["clip_id"].to_pylist()) == set(all_rows(manifest))

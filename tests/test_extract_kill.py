"""Kill, stop, stall and race the whole command: the store must end as if nothing had happened."""

import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from avfeat.options import Options
from avfeat.run import extract
from avfeat.store import open_store
from tests.extracting import content, make_tones, start_extract

CLIPS, PART = 12, 3
KILLS = 10
"""Of the job and again of its workers: together twenty."""


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The manifest's file, and a store that nobody disturbed."""
    folder = tmp_path_factory.mktemp("undisturbed")
    manifest = make_tones(folder / "clips", CLIPS)
    manifest.write(folder / "tones.parquet")
    extract(manifest, folder / "clips", ["logmel"], folder / "store", Options(device="cpu", part_clips=PART))
    return folder / "tones.parquet", folder / "store"


def start(manifest: Path, store: Path, *more: str) -> subprocess.Popen[str]:
    return start_extract(manifest, store, "--part-clips", str(PART), "--workers", "2", *more)


def finish(manifest: Path, store: Path) -> None:
    """Run to the end as a user would: the same command, then --retry failed for clips that met too many kills."""
    job = start(manifest, store)
    _, errors = job.communicate()
    assert job.returncode in (0, 3), errors
    again = start(manifest, store, "--retry", "failed")
    _, errors = again.communicate()
    assert again.returncode == 0, errors


def forget_a_part(store: Path, moments: random.Random) -> None:
    parts = sorted((open_store(store)["tones"].path / "logmel").glob("part-*"))
    shutil.rmtree(moments.choice(parts))


@pytest.mark.timeout(300)
def test_a_job_killed_at_random_moments_ends_the_same(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, whole = undisturbed
    store, moments, kills = tmp_path / "store", random.Random(1), 0
    while kills < KILLS:
        job = start(manifest, store)
        try:
            job.communicate(timeout=moments.uniform(0.6, 3.0))
        except subprocess.TimeoutExpired:
            job.kill()
            job.communicate()
            kills += 1
        else:
            forget_a_part(store, moments)
    finish(manifest, store)
    assert content(store, "tones") == content(whole, "tones")


@pytest.mark.timeout(300)
def test_workers_killed_at_random_moments_cost_nothing(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, whole = undisturbed
    store, moments, kills = tmp_path / "store", random.Random(2), 0
    while kills < KILLS:
        job = start(manifest, store)
        while job.poll() is None:
            time.sleep(moments.uniform(0.05, 0.4))
            try:
                # The job also starts an ffmpeg to ask for its version; only workers may be killed without a trace.
                workers = [each for each in psutil.Process(job.pid).children() if "avfeat.worker" in each.cmdline()]
            except psutil.NoSuchProcess:
                continue
            if workers and kills < KILLS:
                os.kill(moments.choice(workers).pid, signal.SIGKILL)
                kills += 1
        _, errors = job.communicate()
        assert job.returncode in (0, 3), errors
        if kills < KILLS:
            forget_a_part(store, moments)
    finish(manifest, store)
    assert content(store, "tones") == content(whole, "tones")


def test_two_jobs_on_one_share_end_the_same(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, whole = undisturbed
    store = tmp_path / "store"
    jobs = [start(manifest, store), start(manifest, store)]
    for job in jobs:
        _, errors = job.communicate()
        assert job.returncode == 0, errors
    assert content(store, "tones") == content(whole, "tones")


def test_a_stalled_job_that_wakes_up_changes_nothing(undisturbed: tuple[Path, Path], tmp_path: Path) -> None:
    manifest, whole = undisturbed
    store = tmp_path / "store"
    stalled = start(manifest, store)
    while not list(store.glob("*/logmel/.part-*")):  # a part is half written
        time.sleep(0.005)
        assert stalled.poll() is None
    stalled.send_signal(signal.SIGSTOP)
    finish(manifest, store)
    before = content(store, "tones")
    stalled.send_signal(signal.SIGCONT)
    _, errors = stalled.communicate()
    assert stalled.returncode == 0, errors
    assert content(store, "tones") == before == content(whole, "tones")
    assert not list(store.glob("*/logmel/.part-*"))


def test_sigterm_stops_after_the_current_part_and_says_how_to_go_on(
    undisturbed: tuple[Path, Path], tmp_path: Path
) -> None:
    manifest, whole = undisturbed
    store = tmp_path / "store"
    job = start(manifest, store)
    while not list(store.glob("*/logmel/.part-*")):
        time.sleep(0.005)
        assert job.poll() is None
    job.terminate()
    _, errors = job.communicate()
    assert job.returncode == 1
    assert "To go on: the same command." in errors
    committed = open_store(store)["tones"]["logmel"].committed()
    assert 1 <= len(committed) < CLIPS // PART
    finish(manifest, store)
    assert content(store, "tones") == content(whole, "tones")

"""Workers may die or fall silent: the clip is tried again, or given up with a reason; the others go on."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest

from avfeat.errors import CrashError, SetupError, TimeOutError
from avfeat.media import write_video
from avfeat.pool import ATTEMPTS, Again, Pool
from avfeat.produce import Ended, Failed, Job
from avfeat.views import FRAME, SOUND, Views, ViewSettings
from tests.extracting import tone

SETTINGS = ViewSettings()


@pytest.fixture(scope="module")
def clips(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("clips")
    paths = [folder / f"{number}.mp4" for number in range(3)]
    for path in paths:
        pictures = [np.full((48, 64, 3), number, np.uint8) for number in range(100)]
        write_video(path, pictures, fps=25, sound=tone(300, 4.0), sound_rate_hz=16_000)
    return paths


def jobs_of(clips: list[Path]) -> list[Job]:
    return [Job(path.stem, path, frozenset({FRAME}), SETTINGS) for path in clips]


def test_a_clip_whose_worker_always_dies_is_given_up_and_the_others_come(clips: list[Path]) -> None:
    ended, again = {}, 0
    with Pool(1) as pool:
        for index, message in pool.run(jobs_of(clips)):
            if index == 1 and isinstance(message, Views):
                os.kill(pool.process_ids[0], signal.SIGKILL)
            again += isinstance(message, Again)
            if isinstance(message, Ended | Failed):
                ended[index] = message
    assert again == ATTEMPTS - 1
    assert isinstance(ended[0], Ended) and isinstance(ended[2], Ended)
    assert isinstance(ended[1], Failed) and isinstance(ended[1].error, CrashError)
    assert "signal 9" in str(ended[1].error) and str(ended[1].error).startswith("1:")


def test_a_clip_that_starts_over_gives_all_its_frames_once_more(clips: list[Path]) -> None:
    frames, killed = 0, False
    with Pool(1) as pool:
        for _, message in pool.run(jobs_of(clips[:1])):
            if isinstance(message, Again):
                frames = 0
            elif isinstance(message, Views):
                frames += len(message.pictures[FRAME])
                if not killed:
                    os.kill(pool.process_ids[0], signal.SIGKILL)
                    killed = True
    assert killed and frames == 100


def test_workers_that_cannot_start_are_the_machines_fault_not_the_clips(
    clips: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with Pool(1) as pool, pytest.raises(SetupError, match="avfeat doctor"):
        list(pool.run(jobs_of(clips)))


def test_a_silent_worker_is_given_up_after_its_time(clips: list[Path]) -> None:
    jobs = [Job(path.stem, path, frozenset({SOUND}), SETTINGS) for path in clips]
    ended = {}
    with Pool(1, silent_seconds=1.0) as pool:
        for index, message in pool.run(jobs):
            ended[index] = message
            if index == 0:
                # Idle now: it takes the next job and never answers.
                os.kill(pool.process_ids[0], signal.SIGSTOP)
    assert isinstance(ended[0], Ended) and isinstance(ended[2], Ended)
    assert isinstance(ended[1], Failed) and isinstance(ended[1].error, TimeOutError)


def test_no_worker_outlives_its_pool(clips: list[Path]) -> None:
    with Pool(2) as pool:
        next(iter(pool.run(jobs_of(clips))))
        workers = pool.process_ids
    assert workers and all(not Path(f"/proc/{pid}").exists() for pid in workers)


def test_a_slow_listener_is_not_a_silent_worker(clips: list[Path]) -> None:
    frames = 0
    with Pool(2, silent_seconds=1.0) as pool:
        for _, message in pool.run(jobs_of(clips)):
            assert not isinstance(message, Failed)
            if isinstance(message, Views):
                frames += len(message.pictures[FRAME])
                time.sleep(0.4)
    assert frames == 300

"""Decoding to 25 frames a second of RGB and 16 kHz sound: our clip beside one ffmpeg process with two pipes.

Both read the same made file in turns. Three things count: the processor time of a frame, for that is what a large job
pays; frames a second with as many clips at once as there are processors, for so a job runs; and the time of a very
short clip, for that is the fixed cost of every clip.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from avfeat.clip import Clip, library_versions, probe
from avfeat.media import ffmpeg_program, ffmpeg_version, write_video
from bench.report import Ratio, report

COMMAND = "python -m bench.decode"


@dataclass(frozen=True)
class Spent:
    """One decode: seconds on the clock and of the processors, and how many frames came."""

    wall: float
    cpu: float
    frames: int


def make_clip(path: Path, width: int, height: int, seconds: float) -> None:
    """Write moving texture and a tone: about as hard to decode as a filmed face at 2 Mbit/s."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, (height // 16, 2 * width // 16, 3), np.uint8)
    texture = coarse.repeat(16, axis=0).repeat(16, axis=1)

    def pictures() -> Iterator[NDArray[np.uint8]]:
        for number in range(round(seconds * 25)):
            shifted = np.roll(texture, 3 * number, axis=1)[:height, :width]
            grain = random.integers(-8, 8, (height, width, 1), np.int16)
            yield np.clip(shifted + grain, 0, 255).astype(np.uint8)

    sound = (8000 * np.sin(np.arange(round(seconds * 44_100)) * 0.05)).astype(np.int16)
    write_video(path, pictures(), 25, sound, 44_100, crf=None, video_bitrate=2_000_000)


def ours(path: Path) -> int:
    with Clip(path, path.name, memory_bytes=64 << 20) as clip:
        frames = sum(len(block) for block in clip.blocks())
        clip.sound()
    return frames


def theirs(path: Path) -> int:
    """One ffmpeg process: pictures through one pipe, sound through another, both into arrays."""
    media = probe(path)
    read_end, write_end = os.pipe()
    command = [ffmpeg_program(), "-v", "error", "-nostdin", "-i", f"file:{path.absolute()}"]
    command += ["-map", "0:v:0", "-vf", "fps=25:start_time=0", "-f", "rawvideo", "-pix_fmt", "rgb24", "pipe:1"]
    command += ["-map", "0:a:0", "-af", "aresample=16000:async=1:first_pts=0", "-ac", "1", "-f", "s16le"]
    command += [f"pipe:{write_end}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, pass_fds=[write_end])
    os.close(write_end)
    sound: list[NDArray[np.float32]] = []

    def listen() -> None:
        with os.fdopen(read_end, "rb") as pipe:
            sound.append(np.frombuffer(pipe.read(), np.int16).astype(np.float32) / 32768)

    listener = threading.Thread(target=listen)
    listener.start()
    block = np.empty((32, media.height or 0, media.width or 0, 3), np.uint8)
    frames = 0
    with process:
        assert process.stdout is not None
        while process.stdout.readinto(block[frames % 32].data) == block[0].nbytes:  # type: ignore[attr-defined]
            frames += 1
    listener.join()
    return frames


def spent(work: Callable[[Path], int], path: Path) -> Spent:
    def cpu() -> float:
        return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))

    wall, before = time.perf_counter(), cpu()
    frames = work(path)
    return Spent(time.perf_counter() - wall, cpu() - before, frames)


def in_turns(path: Path, rounds: int) -> tuple[list[Spent], list[Spent]]:
    """Both in turns, the first round left out."""
    pairs = [(spent(ours, path), spent(theirs, path)) for _ in range(rounds + 1)]
    return [pair[0] for pair in pairs[1:]], [pair[1] for pair in pairs[1:]]


def side_by_side(path: Path, rounds: int) -> tuple[float, float]:
    """Frames a second with as many clips at once as processors: our worker processes, and as many ffmpeg processes."""
    count = os.cpu_count() or 1
    rates: tuple[list[float], list[float]] = ([], [])
    with ProcessPoolExecutor(count, get_context("spawn")) as workers, ThreadPoolExecutor(count) as waiters:
        for _ in range(rounds + 1):
            for rate, pool, work in zip(rates, (workers, waiters), (ours, theirs), strict=True):
                started = time.perf_counter()
                frames = sum(pool.map(work, [path] * count))
                rate.append(frames / (time.perf_counter() - started))
    return statistics.median(rates[0][1:]), statistics.median(rates[1][1:])


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="avfeat-bench-") as folder:
        clip, short = Path(folder) / "clip.mp4", Path(folder) / "short.mp4"
        make_clip(clip, 1280, 720, options.seconds)
        make_clip(short, 224, 224, 0.12)
        long, baseline = in_turns(clip, options.rounds)
        if long[0].frames != baseline[0].frames:
            sys.exit(f"decode: {long[0].frames} frames against {baseline[0].frames}: not the same work")
        rate, their_rate = side_by_side(clip, options.rounds)
        tiny, their_tiny = in_turns(short, 3 * options.rounds)

    def less(name: str, mine: float, other: float, target: str) -> Ratio:
        return Ratio(name, mine, other, "ms", "one ffmpeg process", other / mine, target, COMMAND)

    def cpu_ms(runs: list[Spent]) -> float:
        return statistics.median(1e3 * run.cpu / run.frames for run in runs)

    def wall_ms(runs: list[Spent]) -> float:
        return statistics.median(1e3 * run.wall for run in runs)

    at_once = f"decode 720p, {os.cpu_count()} clips at once"
    report(
        [
            less("decode 720p, processor time a frame", cpu_ms(long), cpu_ms(baseline), "> 1"),
            Ratio(at_once, rate, their_rate, "frames/s", "as many ffmpegs", rate / their_rate, "> 1", COMMAND),
            less("decode a clip of 3 frames", wall_ms(tiny), wall_ms(their_tiny), "> 1"),
        ],
        {
            "seconds": options.seconds,
            "rounds": options.rounds,
            "one_clip_alone_wall_ms": {"ours": wall_ms(long), "ffmpeg": wall_ms(baseline)},
            "ffmpeg": ffmpeg_version(),
            **library_versions(),
        },
    )


if __name__ == "__main__":
    main()

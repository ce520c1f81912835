"""Training the sync head: ours beside windows that are really made, in one run on the same clips.

``windows`` is the plain form on frames in memory: every video frame is repeated beside the 31 audio frames around it,
and all pairs go through the whole network. ``official style`` does the same behind the official way to load: npz for
each clip, an iterable dataset that divides each of the 31 frames by its norm again for every frame and stacks them,
DataLoader workers, batches of 1024. Compute is one batch's loss and gradient, ours and the windows by turns. Both fill
all cores, so on an idle machine an epoch's ratio by the clock and by processor time should agree; on a busy one only
the latter says something.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from bench.report import Ratio, report
from probes.featureset import FeatureSet
from probes.heads.network import FrameNetwork
from probes.heads.sync_by_hand import Room
from probes.heads.sync_offsets import Batch, batches, learn
from probes.heads.training import adam, take_step

COMMAND = "python -m bench.sync"
TAU = 15
RATE = 1e-5


def make_clips(folder: Path, frames: int, width: int) -> tuple[FeatureSet, list[Path]]:
    """Write clips of 60 to 260 frames as npz of float32, and hold the same as float16 in memory."""
    random = np.random.default_rng(0)
    clips, paths = [], []
    while sum(map(len, clips)) < frames:
        rows = random.standard_normal((int(random.integers(60, 261)), 2 * width)).astype(np.float16)
        paths.append(folder / f"{len(clips):05}.npz")
        np.savez(paths[-1], visual=rows[:, :width].astype(np.float32), audio=rows[:, width:].astype(np.float32))
        clips.append(rows)
    labels = [0] * len(clips)
    return FeatureSet.from_arrays(clips, labels, features=("clip.v", "clip.a"), widths=(width, width)), paths


class Windows(IterableDataset[tuple[Tensor, Tensor]]):
    """Each frame with its window, normalised and stacked anew for every frame; a worker takes every n-th clip."""

    def __init__(self, paths: Sequence[Path]):
        self.paths = paths

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        worker = get_worker_info()
        for path in self.paths if worker is None else self.paths[worker.id :: worker.num_workers]:
            with np.load(path) as file:
                video, audio = file["visual"], file["audio"]
            for frame in range(len(video)):
                around = [
                    of_norm_1(audio[at]) if 0 <= at < len(audio) else torch.zeros(audio.shape[1])
                    for at in range(frame - TAU, frame + TAU + 1)
                ]
                yield of_norm_1(video[frame]), torch.stack(around)


def of_norm_1(row: np.ndarray) -> Tensor:
    found = torch.from_numpy(row).float()
    return found / torch.linalg.norm(found, ord=2, dim=-1, keepdim=True)


def windows_step(network: FrameNetwork, video: Tensor, windows: Tensor) -> float:
    """Add the gradient of the official loss and return the loss."""
    outputs = network([video[:, None].repeat(1, windows.shape[1], 1), windows])
    loss = -outputs.log_softmax(1)[:, TAU].sum()
    loss.backward()
    return float(loss.detach())


def official_epoch(network: FrameNetwork, paths: Sequence[Path], batch: int, workers: int) -> tuple[float, int]:
    """Take one epoch and return its loss and the frames it has seen."""
    optimiser = torch.optim.Adam(network.parameters(), RATE)
    total, frames = 0.0, 0
    for video, windows in DataLoader(Windows(paths), batch_size=batch, num_workers=workers):
        optimiser.zero_grad()
        total += windows_step(network, video, windows)
        optimiser.step()
        frames += len(video)
    return total / frames, frames


def our_epoch(network: FrameNetwork, data: FeatureSet, batch: int) -> tuple[float, int]:
    """Take one epoch and return its loss and the frames it has seen."""
    optimiser, room = adam(network, RATE), Room()
    total, frames = 0.0, 0
    for each in batches(data, range(len(data)), TAU, batch, None, room):
        optimiser.zero_grad()
        total += learn(network, each, room)
        take_step(optimiser)
        frames += len(each.video)
    return total / frames, frames


def network_of(width: int) -> FrameNetwork:
    torch.manual_seed(43)
    return FrameNetwork((width, width))


def seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def processor_seconds() -> float:
    """Seconds that this process and the workers that have ended have computed."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def compute(data: FeatureSet, width: int, batch: int, rounds: int) -> tuple[float, float]:
    """Median seconds of a batch's loss and gradient, ours and with windows, by turns."""
    network, room = network_of(width), Room()
    one = next(batches(data, range(len(data)), TAU, batch, None))
    windows = one.audio[one.partners]
    ours, plain = [], []
    for _ in range(rounds + 1):
        network.zero_grad()
        ours.append(seconds(lambda: learn(network, one, room)))
        network.zero_grad()
        plain.append(seconds(lambda: windows_step(network, one.video, windows)))
    return statistics.median(ours[1:]), statistics.median(plain[1:])


def apart(data: FeatureSet, width: int, frames: int = 64) -> float:
    """How far apart the two gradients are, in parts of the largest entry, in double precision on some frames.

    In single precision each is further from the exact one than that, for the sums over so many pairs are rounded.
    """
    network = network_of(width).double()
    one = next(batches(data, range(len(data)), TAU, frames, None))
    exact = Batch(one.video.double(), one.audio.double(), one.partners)
    gradients = []
    for run in (
        lambda: learn(network, exact),
        lambda: windows_step(network, exact.video, exact.audio[exact.partners]),
    ):
        network.zero_grad()
        run()
        gradients.append(torch.cat([each.grad.flatten() for each in network.parameters() if each.grad is not None]))
    return float((gradients[0] - gradients[1]).abs().max() / gradients[1].abs().max())


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=2048, help="of an epoch, end to end")
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=1024)
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="DataLoader workers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="where to write, a temporary folder by default")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), options)


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Measure all, print ratios."""
    data, paths = make_clips(folder, options.frames, options.width)
    ours, plain = compute(data, options.width, options.batch, options.rounds)
    difference = apart(data, options.width)
    found: dict[str, list[float]] = {"ours": [], "official": []}
    computed: dict[str, list[float]] = {"ours": [], "official": []}
    losses: dict[str, float] = {}
    # The first step of an optimiser in a process imports and compiles: let nobody's time include that.
    our_epoch(network_of(options.width), data.select([0]), options.batch)
    # By turns, so that a load that comes or goes meets both.
    for name in ("ours", "official") * options.rounds:
        network = network_of(options.width)
        start, before = time.perf_counter(), processor_seconds()
        if name == "ours":
            losses[name], frames = our_epoch(network, data, options.batch)
        else:
            losses[name], frames = official_epoch(network, paths, options.batch, options.workers)
        found[name].append(frames / (time.perf_counter() - start))
        computed[name].append(frames / (processor_seconds() - before))
    rate, official = (statistics.median(found[name]) for name in ("ours", "official"))
    by_core, official_by_core = (statistics.median(computed[name]) for name in ("ours", "official"))
    batch = options.batch
    report(
        [
            Ratio("sync loss and gradient of a batch", batch / ours, batch / plain, "frames/s", "windows in memory",
                  plain / ours, "2.5", COMMAND),
            Ratio("sync epoch end to end", rate, official, "frames/s", "official style",
                  rate / official, "10", COMMAND),
            Ratio("sync epoch end to end, by processor time", by_core, official_by_core, "frames/s", "official style",
                  by_core / official_by_core, "10", COMMAND),
            Ratio("sync gradient, largest difference in parts of the largest entry", difference, 1e-5, "",
                  "allowed", 1e-5 / max(difference, 1e-16), "1", COMMAND),
        ],
        {
            "clips": len(data),
            "frames": len(data.frames),
            "width": options.width,
            "batch": batch,
            "offsets": 2 * TAU + 1,
            "threads": torch.get_num_threads(),
            "workers": options.workers,
            "frames per second of each epoch": found,
            "loss of the epoch": losses,
            "page cache": "warm",
        },
    )  # fmt: skip


if __name__ == "__main__":
    main()

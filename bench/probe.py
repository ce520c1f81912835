"""Fitting a linear probe: ours beside the official style of training, in one run on the same clips.

The clips are noise with a weak planted direction. ``official`` reads one npz for each clip with DataLoader workers and
takes one autograd step a clip; ``plain`` does the same over frames held in memory. Both run the trainer's numbers: Adam
1e-3, frames divided by their norm, seed 43, so that our ``adam`` must end each epoch at the same validation loss.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader, Dataset

from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import write_feature
from bench.report import Ratio, report
from probes.adam import AdamSettings
from probes.featureset import FeatureSet
from probes.fit import fit
from probes.lbfgs import LbfgsSettings
from probes.loading import Choice, Source
from probes.pooling import Pooling
from probes.solving import Problem

COMMAND = "python -m bench.probe"
SEED = 43


@dataclass(frozen=True)
class Data:
    """Where the clips are: a store for us, a folder of npz for the official style; labels of train and val."""

    store: Path
    npz: Path
    train: list[tuple[str, int]]
    val: list[tuple[str, int]]


def make_data(folder: Path, clips: int, width: int, strength: float) -> Data:
    """Write the same clips as a store and as npz; a fifth as many again for validation."""
    random = np.random.default_rng(0)
    direction = random.standard_normal(width, dtype=np.float32)
    direction *= strength / np.linalg.norm(direction)
    rows: dict[str, NDArray[np.float16]] = {}
    listed: dict[str, list[tuple[str, int]]] = {"train": [], "val": []}
    (folder / "npz").mkdir()
    for number in range(clips + clips // 5):
        clip_id, label = f"c{number:06}", number % 2
        frames = random.standard_normal((int(random.integers(60, 261)), width), dtype=np.float32) + label * direction
        rows[clip_id] = frames.astype(np.float16)
        np.savez(folder / "npz" / f"{clip_id}.npz", video=rows[clip_id].astype(np.float32))
        listed["train" if number < clips else "val"].append((clip_id, label))
    table = [Row(clip_id, f"{clip_id}.mp4", split, label) for split, each in listed.items() for clip_id, label in each]
    manifest = Manifest.from_rows(table, DatasetInfo("bench"))
    write_feature(folder / "store", manifest, "planted", rows, rate_hz=25.0, first_seconds=0.02)
    return Data(folder / "store", folder / "npz", listed["train"], listed["val"])


class NpzClips(Dataset[tuple[torch.Tensor, int]]):
    """One file for each clip, opened when it is asked for."""

    def __init__(self, folder: Path, clips: Sequence[tuple[str, int]]):
        self.folder, self.clips = folder, clips

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        clip_id, label = self.clips[index]
        with np.load(self.folder / f"{clip_id}.npz") as file:
            return torch.from_numpy(file["video"]), label


class HeldClips(Dataset[tuple[torch.Tensor, int]]):
    """Frames held in memory as float32, one tensor for each clip."""

    def __init__(self, data: FeatureSet):
        self.clips = [(data[k].float(), int(data.labels[k])) for k in range(len(data))]

    def __len__(self) -> int:
        return len(self.clips)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        return self.clips[index]


def plain_loss(model: torch.nn.Linear, frames: torch.Tensor, label: int) -> torch.Tensor:
    score = torch.logsumexp(model(normalize(frames, dim=1)), dim=0)
    return cross_entropy(torch.cat([-score, score])[None], torch.tensor([label]))


def autograd_epochs(
    train: Dataset[Any], val: Dataset[Any], width: int, epochs: int, workers: int
) -> tuple[list[float], list[float]]:
    """Train one clip a step; return seconds of each epoch's training and its validation loss."""
    torch.manual_seed(SEED)
    model = torch.nn.Linear(width, 1)
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    seconds, losses = [], []
    for _ in range(epochs):
        start = time.perf_counter()
        for frames, label in DataLoader(train, batch_size=None, shuffle=True, num_workers=workers):
            optimiser.zero_grad()
            plain_loss(model, frames, label).backward()
            optimiser.step()
        seconds.append(time.perf_counter() - start)
        with torch.no_grad():
            clips: Iterable[Any] = DataLoader(val, batch_size=None, num_workers=workers)
            losses.append(statistics.fmean(float(plain_loss(model, frames, label)) for frames, label in clips))
        print(f"  epoch of {seconds[-1]:.1f} s, validation loss {losses[-1]:.5f}", flush=True)
    return seconds, losses


def timed(run: Callable[[], object], rounds: int) -> float:
    """The median of several runs, after one to warm up."""
    run()
    found = []
    for _ in range(rounds):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return statistics.median(found)


def adam_seconds(train: FeatureSet, val: FeatureSet, epochs: int, probes: int = 1) -> tuple[float, list[float]]:
    """Seconds of one epoch of training and validation, and the first probe's validation losses."""
    start = time.perf_counter()
    found = fit(train, val, seeds=range(SEED, SEED + probes), settings=AdamSettings(epochs=epochs, patience=epochs))
    return (time.perf_counter() - start) / epochs, [row[0] for row in found.history]


def lbfgs_seconds(train: FeatureSet, val: FeatureSet, goal: float) -> tuple[float, float, int]:
    """Seconds until the validation loss is below ``goal``; the best loss of the whole fit, and its evaluations."""
    start = time.perf_counter()
    reached: list[float] = []

    def tell(progress: Any) -> None:
        if float(progress.best_loss.min()) < goal and not reached:
            reached.append(time.perf_counter() - start)

    found = fit(train, val, settings=LbfgsSettings(), tell=tell)
    return (reached or [float("nan")])[0], found.columns[0].loss, len(found.history)


def evaluation_seconds(train: FeatureSet, probes: int, rounds: int) -> float:
    """Seconds of one loss and gradient of so many probes."""
    problem = Problem(train, None, (Pooling(),) * probes, torch.zeros(probes), tuple(range(probes)))
    theta = torch.randn(probes, train.width + 1) * 0.1
    gradient = torch.empty_like(theta)
    with torch.inference_mode():
        return timed(lambda: problem.training_loss(theta, gradient), rounds)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--strength", type=float, default=0.35, help="of the planted direction; a frame's norm is 32")
    parser.add_argument("--epochs", type=int, default=10, help="of the official style")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="DataLoader workers")
    parser.add_argument("--probes", type=int, default=32, help="fitted at once")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--folder", type=Path, help="where to write, a temporary folder by default")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        data = make_data(Path(folder), options.clips, options.width, options.strength)
        measure(data, options)


def measure(data: Data, options: argparse.Namespace) -> None:
    """Measure all, print ratios."""
    source = Source([data.store], ["planted"])
    start = time.perf_counter()
    train, val = (source.load(Choice("bench", split)).data for split in ("train", "val"))
    load = time.perf_counter() - start

    read = timed(lambda: train.frames.view(torch.int64).sum(), options.rounds)
    one = evaluation_seconds(train, 1, options.rounds)
    many = evaluation_seconds(train, options.probes, max(3, options.rounds // 3))
    adam_one, adam_losses = adam_seconds(train, val, options.epochs)
    adam_many, _ = adam_seconds(train, val, 2, options.probes)

    print("plain loop over frames in memory:", flush=True)
    plain, plain_losses = autograd_epochs(HeldClips(train), HeldClips(val), options.width, 2, 0)
    print("official style, npz for each clip:", flush=True)
    official, losses = autograd_epochs(
        NpzClips(data.npz, data.train), NpzClips(data.npz, data.val), options.width, options.epochs, options.workers
    )
    goal = min(losses)
    reached, best, evaluations = lbfgs_seconds(train, val, goal)

    epoch = statistics.median(official)
    apart = max(abs(ours - theirs) for ours, theirs in zip(adam_losses, losses, strict=True))
    facts = {
        "clips": options.clips,
        "frames": len(train.frames),
        "width": options.width,
        "megabytes": train.frames.nbytes / 1e6,
        "page cache": "warm",
        "threads": torch.get_num_threads(),
        "load seconds": load,
        "read seconds": read,
        "official seconds per epoch": official,
        "official validation losses": losses,
        "plain validation losses": plain_losses,
        "adam validation losses": adam_losses,
        "adam and official apart at most": apart,
        "lbfgs best validation loss": best,
        "lbfgs evaluations": evaluations,
        f"adam seconds per epoch of 1 and {options.probes} probes": [adam_one, adam_many],
    }
    clips, probes = options.clips, options.probes

    def line(name: str, ours: float, baseline: float, unit: str, against: str, ratio: float, target: str) -> Ratio:
        return Ratio(name, ours, baseline, unit, against, ratio, target, COMMAND)

    report(
        [
            line("adam at equal trajectory", clips / adam_one, clips / epoch, "clips/s", "official style",
                 epoch / adam_one, "100"),
            line("adam against official, validation loss of each epoch apart by", apart, 1e-3, "", "allowed",
                 1e-3 / max(apart, 1e-12), "1"),
            line("lbfgs to a loss that official does not reach", reached, epoch, "s", "one official epoch",
                 epoch / reached, "1"),
            line("lbfgs final validation loss", best, goal, "", f"official, best of {options.epochs} epochs",
                 goal / best, "1"),
            line("one evaluation of the objective", one, statistics.median(plain), "s", "plain loop, one epoch",
                 statistics.median(plain) / one, "50"),
            line("one evaluation of the objective, in reads", one, 2 * read, "s", "two reads", 2 * read / one, "0.667"),
            line(f"{probes} probes at once, evaluation", many, one, "s", "one probe", one / many, "0.333"),
            line(f"{probes} probes at once, adam epoch", adam_many, adam_one, "s", "one probe",
                 adam_one / adam_many, "0.333"),
        ],
        facts,
    )  # fmt: skip


if __name__ == "__main__":
    main()

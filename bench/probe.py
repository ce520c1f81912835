"""Fitting a linear probe: ours beside the official style of training, in one run on the same clips.

The clips are noise with a weak planted direction. ``official`` reads one npz for each clip with DataLoader workers and
takes one autograd step a clip; ``plain`` does the same over frames held in memory, its first epoch left out. Both run
the trainer's numbers: Adam 1e-3, frames divided by their norm, seed 43, so that our ``adam`` must end each epoch at the
same validation loss. Ours is measured between their epochs, by the median.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from bench.plain import SEED, Data, HeldClips, NpzClips, autograd_epochs, make_data
from bench.report import Ratio, report
from probes.adam import Adam, AdamSettings, epoch
from probes.featureset import FeatureSet
from probes.fit import fit
from probes.lbfgs import LbfgsSettings
from probes.loading import Choice, Source
from probes.pooling import Pooling
from probes.solving import Problem

COMMAND = "python -m bench.probe"


class Clock:
    """Seconds by name, of several runs; the first run of each name warms up and does not count."""

    def __init__(self) -> None:
        self._seconds: dict[str, list[float]] = {}

    def __call__(self, name: str, run: Callable[[], object], rounds: int = 1) -> None:
        """Run and note how long it took."""
        if name not in self._seconds:
            self._seconds[name] = []
            run()
        for _ in range(rounds):
            start = time.perf_counter()
            run()
            self._seconds[name].append(time.perf_counter() - start)

    def __getitem__(self, name: str) -> float:
        """The median."""
        return statistics.median(self._seconds[name])

    def facts(self) -> dict[str, float]:
        """All medians."""
        return {name: self[name] for name in self._seconds}


def problem_of(train: FeatureSet, probes: int) -> Problem:
    return Problem(train, None, (Pooling(),) * probes, torch.zeros(probes), tuple(range(probes)))


def evaluation(train: FeatureSet, probes: int) -> Callable[[], object]:
    """One loss and gradient of so many probes."""
    problem = problem_of(train, probes)
    theta = torch.randn(probes, train.width + 1) * 0.1
    gradient = torch.empty_like(theta)
    return torch.inference_mode()(lambda: problem.training_loss(theta, gradient))


def adam_epoch(train: FeatureSet, probes: int) -> Callable[[], object]:
    """One epoch of so many probes, without validation."""
    problem, weights = problem_of(train, probes), torch.ones(len(train))
    state = Adam(torch.randn(probes, train.width + 1) * 0.01, 1e-3)
    order = torch.randperm(len(train)).tolist()
    return torch.inference_mode()(lambda: epoch(train, order, state, problem, weights))


def adam_losses(train: FeatureSet, val: FeatureSet, epochs: int) -> list[float]:
    """Validation loss of each epoch."""
    found = fit(train, val, seeds=[SEED], settings=AdamSettings(epochs=epochs, patience=epochs))
    return [row[0] for row in found.history]


def lbfgs_seconds(train: FeatureSet, val: FeatureSet, goal: float) -> tuple[float, float, float, int]:
    """Seconds until the validation loss is below ``goal``, and of the whole fit; its best loss and evaluations."""
    start = time.perf_counter()
    reached: list[float] = []

    def tell(progress: Any) -> None:
        if float(progress.best_loss.min()) < goal and not reached:
            reached.append(time.perf_counter() - start)

    found = fit(train, val, settings=LbfgsSettings(), tell=tell)
    whole = time.perf_counter() - start
    return (reached or [float("nan")])[0], whole, found.columns[0].loss, len(found.history)


FIRST_USE = """
import time, numpy as np
from probes.adam import AdamSettings
from probes.featureset import FeatureSet
from probes.fit import fit
data = FeatureSet.from_arrays([np.ones((9, 64), np.float16)] * 2, [0, 1])
start = time.perf_counter()
for settings in (None, AdamSettings(epochs=1)):
    fit(data, settings=settings)
print(time.perf_counter() - start)
"""


def first_use_seconds() -> list[float]:
    """Seconds of a first fit with either solver when its loops must be compiled, and when they were before."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache}
        runs = [
            subprocess.run([sys.executable, "-c", FIRST_USE], env=environment, check=True, capture_output=True)
            for _ in range(2)
        ]
    return [float(run.stdout) for run in runs]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--clips", type=int, default=2000)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--strength", type=float, default=0.35, help="of the planted direction; a frame's norm is 32")
    parser.add_argument("--epochs", type=int, default=10, help="of the official style")
    parser.add_argument("--workers", type=int, default=min(4, os.cpu_count() or 1), help="DataLoader workers")
    parser.add_argument("--probes", type=int, default=32, help="fitted at once")
    parser.add_argument("--plain-epochs", type=int, default=5, help="of the plain loop, after one to warm up")
    parser.add_argument("--folder", type=Path, help="where to write, a temporary folder by default")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        data = make_data(Path(folder), options.clips, options.width, options.strength)
        measure(data, options)


def measure(data: Data, options: argparse.Namespace) -> None:
    """Measure all, print ratios."""
    start = time.perf_counter()
    source = Source([data.store], ["planted"])
    train, val = (source.load(Choice("bench", split)).data for split in ("train", "val"))
    load = time.perf_counter() - start
    streamed = Source([data.store], ["planted"], train.frames.nbytes // 4).load(Choice("bench", "train")).data
    stream_load = time.perf_counter() - start - load
    clock, probes = Clock(), options.probes
    read: Callable[[], object] = lambda: train.frames.view(torch.int64).sum()  # noqa: E731
    ours = {
        "read": read,
        "evaluation": evaluation(train, 1),
        "evaluation, streamed": evaluation(streamed, 1),
        "adam": adam_epoch(train, 1),
        "adam, streamed": adam_epoch(streamed, 1),
        "evaluation of many": evaluation(train, probes),
        "adam of many": adam_epoch(train, probes),
    }

    def measure_ours() -> None:
        for name, run in ours.items():
            clock(name, run, 1 if "many" in name else 3)

    print("plain loop over frames in memory:", flush=True)
    plain, plain_losses = autograd_epochs(
        HeldClips(train), HeldClips(val), options.width, options.plain_epochs + 1, 0, measure_ours
    )
    print("official style, npz for each clip:", flush=True)
    official, losses = autograd_epochs(
        NpzClips(data.npz, data.train), NpzClips(data.npz, data.val), options.width, options.epochs, options.workers,
        measure_ours,
    )  # fmt: skip
    same = adam_losses(train, val, options.epochs)
    reached, whole, best, evaluations = lbfgs_seconds(train, val, min(losses))
    apart = max(abs(ours - theirs) for ours, theirs in zip(same, losses, strict=True))
    plain_epoch, official_epoch = statistics.median(plain[1:]), statistics.median(official)
    facts = {
        "clips": options.clips,
        "frames": len(train.frames),
        "width": options.width,
        "megabytes": train.frames.nbytes / 1e6,
        "page cache": "warm",
        "threads": torch.get_num_threads(),
        "load seconds": load,
        "load seconds of the streamed set": stream_load,
        "first fit seconds, loops to compile and compiled": first_use_seconds(),
        "seconds": clock.facts(),
        "plain seconds per epoch": plain,
        "official seconds per epoch": official,
        "official validation losses": losses,
        "plain validation losses": plain_losses,
        "adam validation losses": same,
        "lbfgs seconds": whole,
        "lbfgs evaluations": evaluations,
    }

    def faster(name: str, ours: float, baseline: float, against: str, target: str) -> Ratio:
        return Ratio(name, ours, baseline, "s", against, baseline / ours, target, COMMAND)

    one, many, many_adam = clock["evaluation"], clock["evaluation of many"], clock["adam of many"]
    report(
        [
            faster("adam, one epoch at equal trajectory", clock["adam"], official_epoch, "official style", "100"),
            Ratio("adam against official, validation loss of each epoch apart by", apart, 1e-3, "", "allowed",
                  1e-3 / max(apart, 1e-12), "1", COMMAND),
            faster("lbfgs to a loss that official does not reach", reached, official_epoch, "one official epoch", "1"),
            Ratio("lbfgs final validation loss", best, min(losses), "", f"official, best of {options.epochs} epochs",
                  min(losses) / best, "1", COMMAND),
            faster("one evaluation", one, plain_epoch, "plain loop, one epoch", "50"),
            faster("adam, one epoch", clock["adam"], plain_epoch, "plain loop, one epoch", "50"),
            faster("one evaluation, in reads", one, 2 * clock["read"], "two reads", "0.667"),
            faster(f"{probes} probes at once, evaluation", many, one, "one probe", "0.333"),
            faster(f"{probes} probes at once, adam epoch", many_adam, clock["adam"], "one probe", "0.333"),
            faster("a quarter of the memory, evaluation", clock["evaluation, streamed"], one, "all in memory", "0.5"),
            faster("a quarter of the memory, adam epoch", clock["adam, streamed"], clock["adam"], "all in memory",
                   "0.5"),
        ],
        facts,
    )  # fmt: skip


if __name__ == "__main__":
    main()

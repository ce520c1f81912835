"""What bench.probe measures against: the same clips as a store and as npz, and training in the official style."""

from __future__ import annotations

import statistics
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
from probes.featureset import FeatureSet

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
    train: Dataset[Any],
    val: Dataset[Any],
    width: int,
    epochs: int,
    workers: int,
    between: Callable[[], object] = lambda: None,
) -> tuple[list[float], list[float]]:
    """Train one clip a step; return seconds of each epoch's training and its validation loss.

    between: what else is measured, after each epoch, so that both sides see the same machine.
    """
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
        between()
        print(f"  epoch of {seconds[-1]:.1f} s, validation loss {losses[-1]:.5f}", flush=True)
    return seconds, losses

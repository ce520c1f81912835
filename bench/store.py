"""Reading and writing a feature: our store beside a plain file, npz per clip, HDF5 and zarr-python, in one run."""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import zarr
from numpy.typing import NDArray

from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import open_store, write_feature
from bench.report import Ratio, report

COMMAND = "python -m bench.store"
FEATURE = "bench"


Buffer = NDArray[Any]
Readers = tuple[Callable[[Buffer], object], Callable[[int, Buffer], object]]
"""All clips end to end into a buffer; one clip, by its number, to the buffer's beginning."""


@dataclass(frozen=True)
class Data:
    """Clips of float16 rows, each a stretch of the same noise; ``offsets`` say where they lie end to end."""

    rows: dict[str, NDArray[np.float16]]
    offsets: NDArray[np.int64]

    @property
    def megabytes(self) -> float:
        """Size of all rows."""
        return sum(rows.nbytes for rows in self.rows.values()) / 1e6


def make_data(megabytes: float, width: int) -> Data:
    random = np.random.default_rng(0)
    noise = random.standard_normal((1024, width)).astype(np.float16)
    lengths: list[int] = []
    while sum(lengths) * width * 2 < megabytes * 1e6:
        lengths.append(int(random.integers(50, 250)))
    starts = random.integers(0, 1024 - 250, len(lengths))
    rows = {
        f"fake/{number:06}": noise[start : start + length]
        for number, (start, length) in enumerate(zip(starts, lengths, strict=True))
    }
    return Data(rows, np.cumsum([0, *lengths]))


def write_store(folder: Path, data: Data) -> None:
    manifest = Manifest.from_rows([Row(clip_id, clip_id) for clip_id in data.rows], DatasetInfo("bench"))
    write_feature(folder / "store", manifest, FEATURE, data.rows, rate_hz=25, first_seconds=0.02, part_clips=500)


def read_store(folder: Path, data: Data) -> Readers:
    feature = open_store(folder / "store")["bench"][FEATURE]
    clip_ids = feature.index()["clip_id"].to_pylist()

    def read_clip(number: int, out: Buffer) -> None:
        rows = feature.clip(clip_ids[number])
        out[: len(rows)] = rows

    return lambda out: feature.frames(clip_ids, out=out), read_clip


def read_zarr(folder: Path, data: Data) -> Readers:
    """Read the same store through zarr-python, whole shards at a time where that helps it."""
    feature = open_store(folder / "store")["bench"][FEATURE]
    index = feature.index().to_pylist()
    arrays = [zarr.open_array(part / "frames", mode="r") for part in sorted(feature.path.glob("part-*"))]

    def read_all(out: Buffer) -> None:
        row = 0
        for array in arrays:
            for start in range(0, array.shape[0], 16_384):
                block = array[start : start + 16_384]
                out[row : row + len(block)] = block
                row += len(block)

    def read_clip(number: int, out: Buffer) -> None:
        clip = index[number]
        out[: clip["length"]] = arrays[clip["part"]][clip["start"] : clip["start"] + clip["length"]]

    return read_all, read_clip


def write_plain(folder: Path, data: Data) -> None:
    with (folder / "plain.bin").open("wb") as file:
        for rows in data.rows.values():
            file.write(rows)
        file.flush()
        os.fsync(file.fileno())


def read_plain(folder: Path, data: Data) -> Readers:
    """Read one file of all rows by one call: what disk and page cache can do."""
    file = (folder / "plain.bin").open("rb", buffering=0)

    def read_at(start: int, out: Buffer) -> None:
        file.seek(start)
        view = memoryview(out).cast("B")
        while len(view):
            view = view[file.readinto(view) or 0 :]

    def read_clip(number: int, out: Buffer) -> None:
        start, end = data.offsets[number : number + 2].tolist()
        read_at(start * out.shape[1] * 2, out[: end - start])

    return lambda out: read_at(0, out), read_clip


def write_npz(folder: Path, data: Data) -> None:
    (folder / "npz").mkdir()
    for number, rows in enumerate(data.rows.values()):
        np.savez(folder / "npz" / f"{number}.npz", rows)


def read_npz(folder: Path, data: Data) -> Readers:
    def read_clip(number: int, out: Buffer) -> None:
        with np.load(folder / "npz" / f"{number}.npz") as file:
            rows = file["arr_0"]
            out[: len(rows)] = rows

    def read_all(out: Buffer) -> None:
        for number, start in enumerate(data.offsets[:-1].tolist()):
            read_clip(number, out[start:])

    return read_all, read_clip


def write_hdf5(folder: Path, data: Data) -> None:
    with h5py.File(folder / "clips.h5", "w") as file:
        for number, rows in enumerate(data.rows.values()):
            file.create_dataset(str(number), data=rows)


def read_hdf5(folder: Path, data: Data) -> Readers:
    file = h5py.File(folder / "clips.h5", "r")

    def read_clip(number: int, out: Buffer) -> None:
        dataset = file[str(number)]
        dataset.read_direct(out[: len(dataset)])

    def read_all(out: Buffer) -> None:
        for number, start in enumerate(data.offsets[:-1].tolist()):
            read_clip(number, out[start:])

    return read_all, read_clip


LAYOUTS: dict[str, tuple[Callable[[Path, Data], None] | None, Callable[[Path, Data], Readers]]] = {
    "store": (write_store, read_store),
    "plain file": (write_plain, read_plain),
    "npz per clip": (write_npz, read_npz),
    "HDF5 per clip": (write_hdf5, read_hdf5),
    "zarr-python": (None, read_zarr),
}


def _seconds(action: Callable[..., object], *arguments: object) -> float:
    started = time.perf_counter()
    action(*arguments)
    return time.perf_counter() - started


def measure(folder: Path, data: Data, rounds: int, clips: int) -> dict[str, dict[str, float]]:
    """Return for each layout MB/s written, MB/s read in sequence into one reused buffer, and ms for one random clip.

    Store and plain file are on disk when their writing ends (fsync); the others are in the page cache.
    """
    write_store(folder / "warm-up", make_data(1, 16))  # zarr's imports and threads are not what is measured
    written = {name: _seconds(write, folder, data) for name, (write, _) in LAYOUTS.items() if write}
    readers = {name: reader(folder, data) for name, (_, reader) in LAYOUTS.items()}
    expected = np.concatenate(list(data.rows.values()))
    buffer = np.zeros_like(expected)
    for name, (read_all, _) in readers.items():
        read_all(buffer)
        assert np.array_equal(buffer, expected), name
        buffer[:] = 0
    random = np.random.default_rng(1)
    whole: dict[str, list[float]] = {name: [] for name in readers}
    single: dict[str, list[float]] = {name: [] for name in readers}
    for _ in range(rounds):
        numbers = random.integers(0, len(data.rows), clips).tolist()
        for name, (read_all, _) in readers.items():
            whole[name].append(_seconds(read_all, buffer))
        for name, (_, read_clip) in readers.items():
            single[name] += [_seconds(read_clip, number, buffer) for number in numbers]
    found = {
        name: {
            "read MB/s": data.megabytes / statistics.median(whole[name]),
            "clip ms": 1e3 * statistics.median(single[name]),
        }
        for name in readers
    }
    for name, seconds in written.items():
        found[name]["write MB/s"] = data.megabytes / seconds
    return found


def ratios(found: dict[str, dict[str, float]]) -> list[Ratio]:
    """Turn the figures into one line for each neighbour."""
    ours, lines = found["store"], []
    bars = {"plain file": ">= 0.6", "npz per clip": "> 1", "HDF5 per clip": "> 1", "zarr-python": "> 1"}
    for name, bar in bars.items():
        mine, theirs = ours["read MB/s"], found[name]["read MB/s"]
        lines.append(Ratio("store, read in sequence", mine, theirs, "MB/s", name, mine / theirs, bar, COMMAND))
    for name in ("npz per clip", "plain file", "HDF5 per clip", "zarr-python"):
        mine, theirs = ours["clip ms"], found[name]["clip ms"]
        lines.append(Ratio("store, one random clip", mine, theirs, "ms", name, theirs / mine, "<= 0.5 ms", COMMAND))
    for name in ("plain file", "npz per clip", "HDF5 per clip"):
        mine, theirs = ours["write MB/s"], found[name]["write MB/s"]
        lines.append(Ratio("store, write", mine, theirs, "MB/s", name, mine / theirs, "none", COMMAND))
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=400)
    parser.add_argument("--width", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--clips", type=int, default=50, help="random clips per round")
    parser.add_argument("--folder", type=Path, help="where to write, a temporary folder by default")
    options = parser.parse_args(arguments)
    data = make_data(options.megabytes, options.width)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        found = measure(Path(folder), data, options.rounds, options.clips)
    facts = {"clips": len(data.rows), "megabytes": data.megabytes, "width": options.width, "rounds": options.rounds}
    report(ratios(found), facts | {"page cache": "warm", "all": found})


if __name__ == "__main__":
    main()

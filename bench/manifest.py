"""A manifest of a million clips, without its media: seconds and memory to write, read, digest, check, split and plan.

Splits are dealt by person, and taken from a list that leaves out a leading folder and names a clip that is not there.
Planning makes the manifest's group in a store and finds what is missing of a feature of which half is there; counting
is the store's status. The baseline does write, read, digest and check as a lab's script would: csv, json and a
dictionary, row by row, for the first 100,000 clips. Another line builds the manifest from a release's list of as many
clips, in a process of its own.
"""

import argparse
import csv
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avfeat.datasets import av1m
from avfeat.datasets.base import release_info
from avfeat.manifest import SCHEMA, DatasetInfo, Manifest
from avfeat.manifest_build import build
from avfeat.manifest_check import check
from avfeat.manifest_split import SplitList, split_by, split_from
from avfeat.plan import Shard, choose
from avfeat.store import Feature, Group
from avfeat.store_status import status
from bench.report import Ratio, report

SECONDS_BAR = 30.0
GIGABYTES_BAR = 2.0
LIST_SECONDS_BAR = 60.0
SPLIT_SECONDS_BAR = 15.0
PLAIN_ROWS = 100_000
PART_CLIPS = 5_000
INFO = DatasetInfo("bench", root="/data")


def clips(rows: int, seed: int = 0) -> pa.Table:
    """Return a table of ``rows`` clips in random order, of 100 clips a speaker, with one segment in each fake."""
    random = np.random.default_rng(seed)
    number = random.permutation(rows)
    text = pc.utf8_lpad(pc.cast(pa.array(number), pa.string()), 7, "0")
    speaker = pc.binary_join_element_wise("id", pc.cast(pa.array(number // 100), pa.string()), "")
    ids = pc.binary_join_element_wise("clips", speaker, text, "/")
    label = (number % 2).astype(np.int8)
    ends = np.concatenate([[0], np.cumsum(label)]).astype(np.int32)
    starts = random.random(int(ends[-1])) * 3
    pairs = pa.StructArray.from_arrays([pa.array(starts), pa.array(starts + 0.5)], ["start_seconds", "end_seconds"])
    segments = pa.ListArray.from_arrays(pa.array(ends), pairs)
    columns = {field.name: pa.nulls(rows, field.type) for field in SCHEMA} | {
        "clip_id": ids,
        "path": pc.binary_join_element_wise(ids, "mp4", "."),
        "split": pa.array(["train", "val", "test"]).take(pa.array(number // 100 % 3)),
        "label": pa.array(label),
        "audio_label": pa.array(label),
        "video_label": pa.array(label),
        "segments": segments,
        "audio_segments": segments,
        "video_segments": segments,
        "method": pa.array(["real", "swap"]).take(pa.array(label)),
        "speaker": speaker,
        "duration_seconds": pa.array(3.5 + random.random(rows) * 10),
        "fps": pa.array(np.full(rows, 25.0)),
        "source_frames": pa.array(np.full(rows, 150)),
        "width": pa.array(np.full(rows, 224)),
        "height": pa.array(np.full(rows, 224)),
        "has_video": pa.array(np.full(rows, True)),
        "has_audio": pa.array(np.full(rows, True)),
        "audio_rate_hz": pa.array(np.full(rows, 16_000)),
    }
    return pa.table(columns)


def ours(table: pa.Table, folder: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Return the seconds of each step, and those of giving splits."""
    seconds: dict[str, float] = {}

    def timed(name: str, step: Callable[[], object]) -> object:
        start = time.perf_counter()
        result = step()
        seconds[name] = time.perf_counter() - start
        return result

    made = timed("make", lambda: Manifest(table, INFO))
    assert isinstance(made, Manifest)
    timed("write", lambda: made.write(folder / "bench.parquet"))
    read = timed("read", lambda: Manifest.read(folder / "bench.parquet"))
    assert isinstance(read, Manifest)
    timed("digest", lambda: read.digest)
    timed("check", lambda: check(read))
    timed("plan", lambda: choose(Group.ensure(folder / "store", read, PART_CLIPS).parts, Shard(1, 8), None))
    feature = half_done(Group.ensure(folder / "store", read))
    timed("plan the rest", feature.missing_parts)
    timed("status", lambda: status(folder / "store"))
    steps, seconds = seconds, {}
    timed("by speaker", lambda: split_by(read, "speaker", [8, 1, 1]))
    paths = [f"{clip_id.partition('/')[2]}.mp4" for clip_id in read.clip_ids[::40]]
    listed = SplitList("train", [*paths, "id0/gone.mp4"], [None] * (len(paths) + 1))
    timed("from a list", lambda: split_from(read, [listed]))
    return steps, seconds


def half_done(group: Group) -> Feature:
    """Return a feature of which every second part is committed, one row of four numbers for each clip."""
    attributes = {"rate_hz": 25.0, "first_seconds": 0.02, "identity": {}}
    feature = group.ensure_feature("bench", attributes, 4)
    row = np.zeros((1, 4), np.float16)
    for part in group.parts[::2]:
        with feature.part_writer(part.number) as writer:
            for clip_id in part.clip_ids:
                writer.add(clip_id, row, {})
            writer.commit()
    return feature


def from_list(rows: int, folder: Path) -> float:
    """Return the seconds to build a manifest from a list like AV-Deepfake1M's of ``rows`` clips."""
    with (folder / "train_metadata.json").open("w") as file:
        for number in range(rows):
            original = f"id{number // 400:05}/video{number // 8}/{number // 4 * 4:05}/real.mp4"
            fake = number % 4 > 0
            segments = [[1.2, 1.62]] if fake else []
            entry = {
                "file": f"id{number // 400:05}/video{number // 8}/{number:05}/{'fake' if fake else 'real'}.mp4",
                "original": original if fake else f"VoxCeleb2/{original}",
                "split": "train",
                "modify_type": ("real", "both_modified", "audio_modified", "visual_modified")[number % 4],
                "audio_model": "vits" if fake else None,
                "fake_segments": segments,
                "audio_fake_segments": segments,
                "visual_fake_segments": segments,
                "video_frames": 100 + number % 300,
                "audio_frames": 64_000,
            }
            file.write(("[" if number == 0 else ",\n") + json.dumps(entry))
        file.write("]")
    start = time.perf_counter()
    built = build(av1m.read(folder, look=False), release_info(av1m.ABOUT, folder), probe_media=False)
    built.manifest.write(folder / "av1m.parquet")
    return time.perf_counter() - start


def plain(table: pa.Table, folder: Path) -> float:
    """Return the seconds of the row-by-row way."""
    rows = table.to_pylist()
    start = time.perf_counter()
    rows.sort(key=lambda row: row["clip_id"])
    with (folder / "bench.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, SCHEMA.names)
        writer.writeheader()
        writer.writerows(rows)
    with (folder / "bench.csv").open(newline="") as file:
        read = list(csv.DictReader(file))
    state = hashlib.sha256()
    seen = set()
    splits = defaultdict(set)
    for row in read:
        state.update(json.dumps(row).encode())
        if row["clip_id"] in seen or row["path"].startswith("/") or row["label"] not in ("0", "1", ""):
            raise ValueError(row)
        seen.add(row["clip_id"])
        splits[row["speaker"]].add(row["split"])
    return time.perf_counter() - start


def peak_gigabytes() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--from-list", action="store_true", help="Measure the building from a release's list only.")
    asked = parser.parse_args()
    rows = asked.rows
    command = f"python -m bench.manifest --rows {rows}"
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.from_list:
            seconds = from_list(rows, folder)
            report(bars(f"manifest of {rows:,} clips from a list", seconds, LIST_SECONDS_BAR, f"{command} --from-list"))
            return
        table = clips(rows)
        steps, splits = ours(table, folder)
        ratios = bars(f"manifest of {rows:,} clips", sum(steps.values()), SECONDS_BAR, command)
        ratios += bars(f"splits of {rows:,} clips", sum(splits.values()), SPLIT_SECONDS_BAR, command)[:1]
        facts: dict[str, object] = {"rows": rows, "peak_rss_gb": peak_gigabytes(), "seconds": steps, "splits": splits}
        few = table.slice(0, PLAIN_ROWS)
        plain_rate = len(few) / plain(few, folder)
    rate = rows / sum(steps[name] for name in ("make", "write", "read", "digest", "check"))
    speed = Ratio(
        f"manifest of {rows:,} clips: speed", rate, plain_rate, "clips/s", "row by row", rate / plain_rate, "1", command
    )
    report([*ratios, speed], facts)
    subprocess.run([sys.executable, "-m", "bench.manifest", "--rows", str(rows), "--from-list"], check=True)


def bars(name: str, seconds: float, allowed: float, command: str) -> list[Ratio]:
    """Return time and memory of this process against what is allowed."""
    gigabytes = peak_gigabytes()
    return [
        Ratio(f"{name}: time", seconds, allowed, "s", "allowed", allowed / seconds, "1", command),
        Ratio(f"{name}: memory", gigabytes, GIGABYTES_BAR, "GB", "allowed", GIGABYTES_BAR / gigabytes, "1", command),
    ]


if __name__ == "__main__":
    main()

"""A manifest of a million clips: seconds and memory to write, read, digest and check it, without its media.

The baseline does the same as a lab's script would: csv, json and a dictionary, row by row, for the first 100,000 clips.
"""

import argparse
import csv
import hashlib
import json
import resource
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from avfeat.manifest import SCHEMA, DatasetInfo, Manifest
from avfeat.manifest_check import check
from bench.report import Ratio, report

SECONDS_BAR = 30.0
GIGABYTES_BAR = 2.0
PLAIN_ROWS = 100_000
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


def ours(table: pa.Table, folder: Path) -> dict[str, float]:
    """Return the seconds of each step."""
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
    return seconds


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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    table = clips(rows)
    with tempfile.TemporaryDirectory() as folder:
        steps = ours(table, Path(folder))
        gigabytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e9
        few = table.slice(0, PLAIN_ROWS)
        plain_rate = len(few) / plain(few, Path(folder))
    seconds = sum(steps.values())
    name = f"manifest of {rows:,} clips"
    command = f"python -m bench.manifest --rows {rows}"
    rate = rows / seconds
    facts: dict[str, object] = {"rows": rows, "plain_rows": len(few), "peak_rss_gb": gigabytes, "seconds": steps}
    report(
        [
            Ratio(f"{name}: time", seconds, SECONDS_BAR, "s", "allowed", SECONDS_BAR / seconds, "1", command),
            Ratio(
                f"{name}: memory", gigabytes, GIGABYTES_BAR, "GB", "allowed", GIGABYTES_BAR / gigabytes, "1", command
            ),
            Ratio(f"{name}: speed", rate, plain_rate, "clips/s", "row by row", rate / plain_rate, "1", command),
        ],
        facts,
    )


if __name__ == "__main__":
    main()

"""A small made dataset and stores of it, for the tests of extraction: sound, faces, and files that are broken."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.media import write_video
from avfeat.store import open_store
from tests.faces import admiral, astronaut

UNTOLD = ("attempt", "row", "start")
"""Columns of the index that say where a clip lies, not what it is."""

ROOT = Path(__file__).resolve().parents[1]


def tone(hz: float, seconds: float) -> np.ndarray:
    """A sine, int16 at 16 kHz."""
    return (9000 * np.sin(2 * np.pi * hz * np.arange(round(seconds * 16_000)) / 16_000)).astype(np.int16)


def make_dataset(folder: Path) -> Manifest:
    """Two clips with a face, one without, one silent, one without pictures, two that are no media; 0.4 to 1 s long."""
    folder.mkdir(parents=True, exist_ok=True)
    grey = [np.full((96, 128, 3), 90, np.uint8)] * 12
    write_video(folder / "face a.mp4", [astronaut()] * 10, fps=25, sound=tone(300, 0.4), sound_rate_hz=16_000)
    write_video(folder / "face_b.mp4", [admiral()] * 12, fps=30, sound=tone(500, 0.4), sound_rate_hz=16_000)
    write_video(folder / "no_face.mp4", grey, fps=25, sound=tone(200, 0.5), sound_rate_hz=16_000)
    write_video(folder / "no_sound.mp4", [astronaut()] * 8, fps=25)
    (folder / "text.mp4").write_text("this is not a film\n")
    (folder / "empty.mp4").write_bytes(b"")
    names = ["face a", "face_b", "no_face", "no_sound", "text", "empty", "gone"]
    return Manifest.from_rows([Row(name, f"{name}.mp4") for name in names], DatasetInfo("made"))


def make_tones(folder: Path, count: int) -> Manifest:
    """Short clips of sound and four grey pictures, each with a tone of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [np.full((32, 32, 3), 40 * k, np.uint8) for k in range(4)]
    for number in range(count):
        sound = tone(200 + 40 * number, 0.2 + 0.05 * (number % 5))
        write_video(folder / f"{number:03}.mp4", pictures, fps=25, sound=sound, sound_rate_hz=16_000)
    return Manifest.from_rows(
        [Row(f"{number:03}", f"{number:03}.mp4") for number in range(count)], DatasetInfo("tones", root=str(folder))
    )


def start_extract(manifest: Path, store: Path, *more: str) -> subprocess.Popen[str]:
    """Start ``avfeat extract`` of the log-mel feature as a user would."""
    command = [sys.executable, "-m", "avfeat", "extract", str(manifest), "--encoder", "logmel", "--store", str(store)]
    return subprocess.Popen(
        [*command, "--device", "cpu", *more], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def content(store: Path, name: str) -> dict[str, dict[str, object]]:
    """Return all that a store says of each feature's clips: bytes of the rows and the index row, clip by clip."""
    group = open_store(store)[name]
    found: dict[str, dict[str, object]] = {}
    for feature_name in group.features():
        feature = group[feature_name]
        table: pa.Table = feature.index()
        rows = {}
        for row in table.to_pylist():
            data = b"" if row["status"] == "failed" else feature.clip(row["clip_id"]).tobytes()
            rows[row["clip_id"]] = (data, {key: value for key, value in row.items() if key not in UNTOLD})
        found[feature_name] = rows
    return found

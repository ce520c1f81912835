"""Releases laid out on disk for tests: the lists as they are, and at each listed place a link to one tiny clip."""

from __future__ import annotations

import csv
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from avfeat.media import write_video

FRAMES = 4


def write_tiny(path: Path) -> Path:
    """Write a clip of 4 pictures of 32 x 32 at 25 Hz with a tone."""
    pictures = np.random.default_rng(0).integers(0, 255, (FRAMES, 32, 32, 3), dtype=np.uint8)
    tone = np.sin(np.arange(16_000 * FRAMES // 25) * 0.2).astype(np.float32) / 4
    write_video(path, pictures, 25, tone, 16_000)
    return path


def lay_out(root: Path, paths: Iterable[str], tiny: Path) -> Path:
    """Put the tiny clip at each of these places below ``root``."""
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        os.link(tiny, root / path)
    return root


def put(root: Path, name: str, content: Path | str) -> Path:
    """Write a list of the release, a copy of a file or a text."""
    root.mkdir(parents=True, exist_ok=True)
    if isinstance(content, Path):
        shutil.copyfile(content, root / name)
    else:
        (root / name).write_text(content, encoding="utf-8")
    return root


def lines_of(file: Path) -> list[dict[str, str]]:
    """Return the lines of a CSV file as the standard library reads them."""
    with file.open(encoding="utf-8-sig", newline="") as opened:
        return list(csv.DictReader(opened))


def table_of(lines: Sequence[Mapping[str, object]], ends: str = "\n") -> str:
    """Return lines as CSV text."""
    rows = [list(lines[0]), *(list(line.values()) for line in lines)]
    return ends.join(",".join(map(str, row)) for row in rows) + ends

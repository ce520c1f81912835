"""A CSV file with one line for each video: path, label, and any other column of the manifest."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from avfeat.datasets.base import Listing, ids_of_paths
from avfeat.errors import ManifestError
from avfeat.manifest import SCHEMA, Row, Segment
from avfeat.manifest_rules import LABELS, SEGMENTS, name_five

_LABEL_WORDS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1, "real": 0, "fake": 1}
_BOOLEAN_WORDS = {"true": True, "false": False, "1": True, "0": False}
_NUMBER = r"-?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PAIR = re.compile(rf"\s*({_NUMBER})\s*-\s*({_NUMBER})\s*")


def read(path: Path) -> Listing:
    """List the clips that a UTF-8 CSV file names; its first line names the columns.

    ``path`` is needed, relative to the dataset's root. Other columns of the manifest are taken where they are there,
    others are left out and named in the notes; an empty cell is null. Labels are 0, 1, real, fake; segments are JSON
    ``[[0.5, 1.2]]`` or ``0.5-1.2;2.0-2.4``, and ``[]`` says that there are none. Without a clip_id column, ids are the
    paths without suffix.

    Raises:
        ManifestError: the file is missing, not such a CSV file, or has cells that cannot be read; names five lines.
    """
    names, lines = _cells(path, ["path"])
    taken = [name for name in names if name in SCHEMA.names]
    clips = [line[names.index("path")] for line in lines]
    columns = {name: _column(path, name, [line[names.index(name)] for line in lines], clips) for name in taken}
    columns["path"] = [str(PurePosixPath(text)) if text else "" for text in columns["path"]]
    if "clip_id" not in columns:
        columns["clip_id"] = ids_of_paths(columns["path"])
    rows = [Row(**dict(zip(columns, cells, strict=True))) for cells in zip(*columns.values(), strict=True)]
    ignored = [name for name in names if name not in taken]
    return Listing(rows, [f"columns not used: {', '.join(ignored)}"] if ignored else [])


def records(path: Path, needed: Sequence[str]) -> list[dict[str, str]]:
    """Return the lines of a UTF-8 CSV file as columns by name, blanks around names and cells taken off.

    Raises:
        ManifestError: the file is missing, not such a CSV file, or lacks a column of ``needed``.
    """
    names, lines = _cells(path, needed)
    return [{name: cell.strip() for name, cell in zip(names, line, strict=True)} for line in lines]


def label_of(text: str) -> int | None:
    """Return the label that 0, 1, 0.0, 1.0, real or fake stands for, None for an empty text.

    Raises:
        KeyError: another word.
    """
    return _LABEL_WORDS[text.lower()] if text else None


def _cells(path: Path, needed: Sequence[str]) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns and the cells of all lines that are not empty."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [line for line in csv.reader(file, strict=True) if line]
    except FileNotFoundError:
        raise ManifestError(f"{path} does not exist.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ManifestError(f"{path} cannot be read as a CSV file in UTF-8: {error}.") from error
    names = [name.strip() for name in lines[0]] if lines else []
    lacking = [name for name in needed if name not in names]
    if lacking:
        raise ManifestError(
            f"{path} has no column named {', '.join(lacking)}; its first line is: {','.join(names) or '(empty)'}."
        )
    if len(set(names)) < len(names):
        raise ManifestError(f"{path} names a column twice: {', '.join(names)}.")
    if len(lines) == 1:
        raise ManifestError(f"{path} names columns but no clips.")
    uneven = [",".join(line) for line in lines[1:] if len(line) != len(names)]
    if uneven:
        raise ManifestError(f"{path} has {len(uneven)} lines without {len(names)} cells: {name_five(uneven)}.")
    return names, lines[1:]


def _column(path: Path, name: str, texts: Sequence[str], clips: Sequence[str]) -> list[Any]:
    """Return the values of one column; an empty text is null, except for paths and ids, which must not be empty."""
    if name in ("path", "clip_id"):
        return list(texts)
    parse, form = _parser(name)
    values: list[Any] = []
    wrong: list[str] = []
    for text, clip in zip(texts, clips, strict=True):
        try:
            values.append(parse(text.strip()) if text.strip() else None)
        except (ValueError, KeyError, TypeError):
            wrong.append(f"{text!r} ({clip})")
    if wrong:
        cells = "1 cell" if len(wrong) == 1 else f"{len(wrong)} cells"
        raise ManifestError(f"{path} has {cells} in column {name} that cannot be read as {form}: {name_five(wrong)}.")
    return values


def _parser(name: str) -> tuple[Callable[[str], Any], str]:
    """Return what reads a cell of this column, and the words for what it reads."""
    if name in LABELS:
        return lambda text: _LABEL_WORDS[text.lower()], "0, 1, real or fake"
    if name in SEGMENTS:
        return _segments, "segments such as [[0.5, 1.2]] or 0.5-1.2;2.0-2.4"
    kind = str(SCHEMA.field(name).type)
    if kind == "bool":
        return lambda text: _BOOLEAN_WORDS[text.lower()], "true or false"
    if kind.startswith("int"):
        return _whole_number, "a whole number"
    return (float, "a number") if kind == "double" else (str, "text")


def _whole_number(text: str) -> int:
    number = float(text)
    if not number.is_integer():
        raise ValueError(text)
    return int(number)


def _segments(text: str) -> list[Segment]:
    if text.startswith("["):
        return [(float(start), float(end)) for start, end in json.loads(text)]
    pairs = [_PAIR.fullmatch(part) for part in text.split(";")]
    if None in pairs:
        raise ValueError(text)
    return [(float(pair[1]), float(pair[2])) for pair in pairs if pair]

"""A JSON file that is one long list of objects, read one object at a time: releases have lists of hundreds of MB."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from avfeat.errors import ManifestError

_BETWEEN = re.compile(r"[\s,]*")


def read_objects(path: Path, chunk_characters: int = 4 << 20) -> Iterator[dict[str, Any]]:
    """Yield the objects of the list in ``path``, in order; never more than a chunk or an object is in memory.

    Raises:
        ManifestError: the file cannot be read, is not a JSON list of objects, or ends before the list does.
    """
    decoder = json.JSONDecoder()
    try:
        with path.open(encoding="utf-8-sig") as file:
            text = ""
            while not text and (more := file.read(chunk_characters)):
                text = more.lstrip()
            if not text.startswith("["):
                raise ManifestError(f"{path} is not a JSON list: it begins with {text[:20]!r}.")
            at, count = 1, 0
            while True:
                at = _end_of_gap(text, at)
                if text.startswith("]", at):
                    return
                try:
                    value, at = decoder.raw_decode(text, at)
                except json.JSONDecodeError as error:
                    more = file.read(max(chunk_characters, len(text) - at))
                    if not more:
                        raise ManifestError(
                            f"{path} breaks off or is damaged after {count} entries: {error}."
                        ) from None
                    text, at = text[at:] + more, 0
                    continue
                if not isinstance(value, dict):
                    raise ManifestError(f"{path}: entry {count} is {str(value)[:40]!r}, where an object is needed.")
                count += 1
                yield value
    except (OSError, UnicodeDecodeError) as error:
        raise ManifestError(f"{path} cannot be read as JSON in UTF-8: {error}.") from error


def read_object(path: Path) -> dict[str, Any]:
    """Return the one object that a JSON file is.

    Raises:
        ManifestError: the file cannot be read, or is not one JSON object.
    """
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path} cannot be read as JSON in UTF-8: {error}.") from error
    if not isinstance(value, dict):
        raise ManifestError(f"{path} is {str(value)[:40]!r}, where a JSON object is needed.")
    return value


def field_of(path: Path, entry: dict[str, Any], name: str) -> Any:
    """Return one field of an entry.

    Raises:
        ManifestError: the entry lacks it.
    """
    if name not in entry:
        raise ManifestError(f"{path}: the entry of {entry.get('file', str(entry)[:60])} has no field {name}.")
    return entry[name]


def odd_value(path: Path, file: object, error: Exception) -> ManifestError:
    """Return the error for an entry in which something is not of the kind that it always was."""
    return ManifestError(f"{path}: the entry of {file} has a value that cannot be read: {error}.")


def _end_of_gap(text: str, at: int) -> int:
    gap = _BETWEEN.match(text, at)
    return gap.end() if gap else at

"""What an export writes beside its arrays and an import reads there: provenance with licences, and facts of clips."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from avfeat import errors
from avfeat.datasets.csv import records
from avfeat.errors import AvfeatError, ClipError

PROVENANCE = "provenance.json"
CLIPS = "clips.csv"

KEPT = ("summary", "licence", "licence_note", "source", "citation", "self_supervised")
"""Attributes that say whose the numbers are; they go wherever the numbers go."""

_COLUMNS = ("name", "clip_id", "status", "rows", "first_seconds", "error", "detail")


@dataclass(frozen=True)
class Notes:
    """What is said of exported arrays; empty where nothing lies beside them.

    provenance: the feature's attributes in the store that it came from, and of which dataset.
    facts: for a clip what its index row said, by the name of its array.
    lengths: how many rows it had.
    failures: why a clip had no rows, by its clip_id.
    """

    provenance: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    lengths: Mapping[str, int] = field(default_factory=dict)
    failures: Mapping[str, ClipError] = field(default_factory=dict)

    @property
    def attributes(self) -> Mapping[str, Any]:
        """The feature's attributes, empty if not told."""
        told: Mapping[str, Any] = self.provenance.get("attributes", {})
        return told

    @property
    def dataset(self) -> str:
        """The name of the dataset, empty if not told."""
        return str(self.provenance.get("dataset", {}).get("name", ""))


def read_notes(folder: Path) -> Notes:
    """Return what an export left in ``folder``.

    Raises:
        AvfeatError: a file of it is damaged.
    """
    if not (folder / PROVENANCE).is_file():
        return Notes()
    try:
        provenance = json.loads((folder / PROVENANCE).read_bytes())
        attributes = provenance["attributes"]
        float(attributes["rate_hz"]), float(attributes["first_seconds"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise AvfeatError(f"{folder / PROVENANCE} is damaged: {error!r}; remove it to import without it.") from None
    facts: dict[str, Mapping[str, object]] = {}
    lengths: dict[str, int] = {}
    failures: dict[str, ClipError] = {}
    for line in records(folder / CLIPS, _COLUMNS) if (folder / CLIPS).is_file() else []:
        if line["status"] == "failed":
            kind = getattr(errors, f"{line['error']}Error", errors.UnreadableError)
            failures[line["clip_id"]] = (
                kind(line["detail"]) if issubclass(kind, ClipError) else ClipError(line["detail"])
            )
        else:
            facts[line["name"]], lengths[line["name"]] = _facts(folder / CLIPS, line)
    return Notes(provenance, facts, lengths, failures)


def write_notes(folder: Path, provenance: Mapping[str, Any], clips: Iterable[Mapping[str, object]]) -> None:
    """Write provenance and facts into ``folder``."""
    text = json.dumps(provenance, indent=2, ensure_ascii=False) + "\n"
    (folder / PROVENANCE).write_text(text, encoding="utf-8")
    with (folder / CLIPS).open("w", newline="", encoding="utf-8") as file:
        lines = csv.DictWriter(file, _COLUMNS)
        lines.writeheader()
        lines.writerows(clips)


def _facts(file: Path, line: Mapping[str, str]) -> tuple[dict[str, object], int]:
    """Return what the index row said of a clip, and how many rows it had."""
    try:
        first, length = float(line["first_seconds"]), int(line["rows"])
    except ValueError:
        raise AvfeatError(
            f"{file}: {line['name']} has first_seconds {line['first_seconds']!r} and rows {line['rows']!r}."
        ) from None
    return {"status": line["status"], "first_seconds": first, "detail": line["detail"] or None}, length

"""How ``avfeat encoders`` prints: a line for each encoder, or the whole card of one."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from avfeat.console import align

_HEADS = ("encoder", "reads", "width", "Hz", "layers", "licence", "lacks")

_LABELS = {"rate_hz": "rate, Hz", "first_seconds": "first row, s", "gflop_per_second": "GFLOP / s of video"}
"""What a card calls facts whose name in JSON would not do; the others are called by it."""

_SAID_BY_OTHERS = ("streams", "reads", "width", "available")
"""Facts that a reader of the whole card finds in others: input, output, missing."""

_TEXT_COLUMNS = 96


def table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return a line for each encoder of ``avfeat.encoders.catalogue()``."""
    return align([_HEADS, *map(_line, rows)])


def _line(row: Mapping[str, Any]) -> tuple[object, ...]:
    if "width" not in row:
        return (row["name"], "", "", "", "", "", row["missing"])
    streams = f".{{{','.join(row['streams'])}}}" if row["streams"] else ""
    kinds = dict.fromkeys(kind for each in row["reads"].values() for kind in each)
    widths = dict.fromkeys(map(str, row["width"].values()))
    layers = row["layers"] or ""
    return (row["name"] + streams, ", ".join(kinds), "/".join(widths), f"{row['rate_hz']:g}", layers, *_rest(row))


def _rest(row: Mapping[str, Any]) -> tuple[str, str]:
    licence = str(row["licence"]).partition(";")[0].partition(",")[0]
    return licence, "weights" if row["missing"] and row["weights"] else row["missing"]


def card(row: Mapping[str, Any]) -> str:
    """Return the card that ``avfeat.encoders.describe()`` gave, empty facts left out, long ones folded."""
    lines = []
    for key, fact in row.items():
        if key in _SAID_BY_OTHERS or fact in ("", {}, [], None):
            continue
        label = _LABELS.get(key, key.replace("_", " "))
        for text in _texts(fact):
            for line in textwrap.wrap(text, _TEXT_COLUMNS, break_long_words=False, break_on_hyphens=False):
                lines.append((label, line))
                label = ""
    return align(lines)


def _texts(fact: Any) -> Iterator[str]:
    """Yield a fact as a person would write it, one text for each entry of what has names; such may be settings."""
    if isinstance(fact, Mapping):
        for key, each in fact.items():
            if isinstance(each, Mapping):
                choices = f" of {', '.join(each['choices'])}" if each["choices"] else ""
                yield f"{key} = {each['default']}{choices}: {each['meaning']}"
                continue
            yield f"{key}: {_words(each)}" if key else _words(each)
    else:
        yield _words(fact)


def _words(fact: Any) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "no"
    if isinstance(fact, float):
        return f"{fact:g}"
    return "; ".join(map(str, fact)) if isinstance(fact, Sequence) and not isinstance(fact, str) else str(fact)

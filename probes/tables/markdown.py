"""Tables as Markdown, aligned so that they also read well as plain text."""

from __future__ import annotations

from collections.abc import Sequence


def table(heads: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table that ends with a newline; columns that hold nothing but numbers are set to the right."""
    lines = [[_cell(value) for value in row] for row in (heads, *rows)]
    columns = range(len(heads))
    widths = [max(3, *(len(line[k]) for line in lines)) for k in columns]
    right = [bool(rows) and all(isinstance(row[k], int | float) for row in rows) for k in columns]
    marks = ["-" * (widths[k] - 1) + ":" if right[k] else "-" * widths[k] for k in columns]
    laid = [[line[k].rjust(widths[k]) if right[k] else line[k].ljust(widths[k]) for k in columns] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in (laid[0], marks, *laid[1:])) + "\n"


def _cell(value: object) -> str:
    text = f"{value:.3f}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")

"""A grid as Markdown, LaTeX or CSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path

from probes.results import write_text
from probes.tables.grid import Entry, Grid
from probes.tables.markdown import table

EMPTY = "—"
_DIGITS = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")


def markdown(grid: Grid) -> str:
    """Return the grid as a Markdown page: title, table, how it was made, what is missing.

    A cell reads ``**97.8** [96.5, 98.9] · 97.1 +0.7``; italics stand for the paper's grey, a raised number for a note.
    """
    grouped = any(row.group for row in grid.rows)
    heads = ["features", *(["group"] if grouped else []), *(column.head for column in grid.columns)]
    rows = [
        [row.name, *([row.group] if grouped else []), *map(_markdown_cell, line)]
        for row, line in zip(grid.rows, grid.lines, strict=True)
    ]
    grey = ["In italics: what the paper greys."] if any(entry.grey for line in grid.lines for entry in line) else []
    parts = [f"## {grid.title}", table(heads, rows).rstrip(), " ".join([*grid.about, *grey])]
    if grid.notes:
        listed = [f"{number}. {note}" for number, note in enumerate(grid.notes, 1)]
        parts.append("\n".join(["Not filled:", "", *listed]))
    if grid.left_out:
        parts.append("\n".join(["Not all clips could be tested:", "", *(f"- {text}" for text in grid.left_out)]))
    return "\n\n".join(parts) + "\n"


def latex(grid: Grid) -> str:
    """Return the grid as a LaTeX table, for a document with the packages booktabs, xcolor and graphicx.

    Ours is above, in bold where it is the best of its column; below, smaller, its interval, the published number and
    the difference.
    """
    columns = "l" + "c" * len(grid.columns)
    heads = " & ".join(["", *(_escape(column.head) for column in grid.columns)])
    lines = []
    group = grid.rows[0].group
    for row, entries in zip(grid.rows, grid.lines, strict=True):
        if row.group != group:
            lines.append(r"\addlinespace")
        group = row.group
        lines.append(" & ".join([_escape(row.name), *map(_latex_cell, entries)]) + r" \\")
    notes = [f"$^{{{number}}}$ {_escape(note)}" for number, note in enumerate(grid.notes, 1)]
    left = [f"Not all clips could be tested: {_escape('; '.join(grid.left_out))}."] if grid.left_out else []
    small = "\n\n".join([" ".join(map(_escape, grid.about)), *notes, *left])
    return "\n".join(
        [
            r"% Needs \usepackage{booktabs,xcolor,graphicx}",
            r"\begin{table*}",
            r"\centering",
            rf"\caption{{{_escape(grid.title)}}}",
            rf"\label{{tab:{grid.name}}}",
            r"\resizebox{\ifdim\width>\textwidth\textwidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{columns}}}",
            r"\toprule",
            heads + r" \\",
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}}",
            "",
            rf"\raggedright\footnotesize {small}",
            r"\end{table*}",
            "",
        ]
    )


def comma_separated(grid: Grid) -> str:
    """Return the grid as CSV, one line for each cell, numbers in percent; ``missing`` says why ours is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("row", "group", "column", "ours", "low", "high", "published", "difference", "best", "grey", "missing")
    )
    for row, line in zip(grid.rows, grid.lines, strict=True):
        for column, entry in zip(grid.columns, line, strict=True):
            ours = ("", "", "") if entry.ours is None else (entry.ours.value, entry.ours.low, entry.ours.high)
            numbers = [f"{value:.1f}" if value != "" else "" for value in ours]
            paper = "" if entry.published is None else f"{entry.published:g}"
            difference = "" if entry.difference is None else f"{entry.difference:+.1f}"
            missing = " ".join(grid.notes[note - 1] for note in entry.notes)
            flags = (int(entry.best), int(entry.grey))
            writer.writerow((row.name, row.group, column.name, *numbers, paper, difference, *flags, missing))
    return text.getvalue()


FORMS: Mapping[str, Callable[[Grid], str]] = {"md": markdown, "tex": latex, "csv": comma_separated}
"""The forms, by the ending of their files."""


def write_forms(grid: Grid, folder: Path) -> list[Path]:
    """Write all forms of a grid and return their files, each written whole or not at all.

    Raises:
        ProbeError: nothing can be written there.
    """
    paths = []
    for ending, form in FORMS.items():
        path = folder / f"{grid.name}.{ending}"
        write_text(path, form(grid))
        paths.append(path)
    return paths


def _markdown_cell(entry: Entry) -> str:
    if not entry.applies:
        return "" if entry.published is None else f"· {entry.published:.1f}"
    marks = ",".join(map(str, entry.notes)).translate(_DIGITS)
    if entry.ours is None:
        text = EMPTY + marks
    else:
        value = f"{entry.ours.value:.1f}"
        text = f"{f'**{value}**' if entry.best else value} [{entry.ours.low:.1f}, {entry.ours.high:.1f}]"
    if entry.published is not None:
        text += f" · {entry.published:.1f}"
    if entry.difference is not None:
        text += f" {entry.difference:+.1f}"
    return f"*{text}*" if entry.grey else text


def _latex_cell(entry: Entry) -> str:
    paper = "" if entry.published is None else f"{entry.published:.1f}"
    if not entry.applies:
        text = paper and rf"\small {paper}"
    elif entry.ours is None:
        marks = ",".join(map(str, entry.notes))
        text = rf"---$^{{{marks}}}$" + (rf"\\ \scriptsize {paper}" if paper else "")
    else:
        value = f"{entry.ours.value:.1f}"
        text = rf"\textbf{{{value}}}" if entry.best else value
        text += rf"\\ \scriptsize [{entry.ours.low:.1f}, {entry.ours.high:.1f}]"
        if entry.difference is not None:
            text += rf"\\ \scriptsize {paper} (${entry.difference:+.1f}$)"
    if not text:
        return ""
    stack = rf"\begin{{tabular}}{{@{{}}c@{{}}}}{text}\end{{tabular}}"
    return rf"\textcolor{{gray}}{{{stack}}}" if entry.grey else stack


def _escape(text: str) -> str:
    """Return text with the characters that mean something to LaTeX made harmless."""
    text = re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", r"\textbackslash "))
    return (
        text.replace("→", r"$\to$")
        .replace("±", r"$\pm$")
        .replace("~", r"\textasciitilde ")
        .replace("^", r"\textasciicircum ")
    )

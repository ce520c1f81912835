"""A report of what is there: results of protocols as tables, drawn figures, audits, and clips with their scores."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avfeat.errors import ProbeError
from probes.loading import Choice, Source
from probes.protocol import Column as ProtocolColumn
from probes.protocol import Protocol, known_protocols, read_protocol
from probes.report.clips import shown_clips
from probes.report.content import Column, Facts, Number, Page, Picture, ShownClip, Table
from probes.results import Cell, Results, read_results
from probes.tables.grid import Entry, Grid, grid

CLIPS_PER_SET = 3
MOST_LINES = 4
"""More lines than this in one drawing cannot be told apart."""

KINDS = {".svg": "image/svg+xml", ".png": "image/png"}
"""Figures by the ending of their files; where a figure is there in both forms, the first is taken."""


def gather(
    stores: Sequence[Path],
    out: Path,
    protocols: Sequence[str] | None = None,
    *,
    audits: Sequence[Path] = (),
    clips: Sequence[str] = (),
    clips_per_set: int = CLIPS_PER_SET,
) -> Page:
    """Return the page of a folder that ``probes run`` and ``probes figure`` wrote to.

    Args:
        stores: hold the features, for the clips' frame scores.
        out: the folder of the results.
        protocols: names or files; None: those that the results have and the package knows.
        audits: files that ``avfeat manifest audit --json`` printed.
        clips: ids of clips to show; none: for each test set the first real one and the first of each kind of forgery.
        clips_per_set: at most so many then.

    Raises:
        ProbeError: the folder has no results, a clip is unknown, or an audit is no audit.
        ProtocolError: there is no such protocol.
    """
    results = read_results(out)
    names = [name for name in results.protocols if name in known_protocols()] if protocols is None else protocols
    read = [read_protocol(name) for name in names]
    if not read:
        raise ProbeError(f"{out} has no results to report: probes run PROTOCOL --stores STORE --out {out} makes them.")
    grids = [(protocol, grid(protocol, results)) for protocol in read if protocol.shows == "table"]
    tested = _tested(results, [protocol.name for protocol, _ in grids])
    shown = [
        clip for test, cells in tested.items() for clip in _clips(stores, results, test, cells, clips, clips_per_set)
    ]
    unknown = sorted(set(clips) - {clip.clip_id for clip in shown})
    if unknown:
        raise ProbeError(
            f"No test set of {', '.join(map(str, tested)) or 'these results'} has the clip {unknown[0]!r}."
        )
    return Page(
        title="Frozen features against audio-visual forgery",
        summary=[_summary(filled) for _, filled in grids if _filled(filled)],
        tables=sorted((_table(protocol, filled) for protocol, filled in grids), key=lambda table: not table.filled),
        figures=_figures(out / "figures"),
        audits=[_audit(path) for path in audits],
        clips=shown,
        facts={"protocols": ", ".join(protocol.name for protocol in read), "cells": str(len(results.cells))},
    )


def _filled(filled: Grid) -> bool:
    return any(entry.ours is not None for line in filled.lines for entry in line)


def _summary(filled: Grid) -> str:
    """What the numbers of one table come to, in a few sentences."""
    entries = [entry for line in filled.lines for entry in line if entry.applies]
    done = [entry for entry in entries if entry.ours is not None]
    sentences = [f"{filled.title}: {len(done)} of {len(entries)} cells are filled."]
    differences = [abs(entry.difference) for entry in done if entry.difference is not None]
    if differences:
        mean = sum(differences) / len(differences)
        sentences.append(
            f"Ours differ from the {len(differences)} published numbers beside them by {mean:.1f} points on average, "
            f"at most {max(differences):.1f}."
        )
    for k, column in enumerate(filled.columns):
        if column.mean_of:
            ranked = [(line[k].ours, row) for line, row in zip(filled.lines, filled.rows, strict=True)]
            known = [(ours.value, row.name) for ours, row in ranked if ours is not None]
            if known:
                value, name = max(known)
                sentences.append(f"Best {column.head}: {name}, {value:.1f}.")
    return " ".join(sentences)


def _table(protocol: Protocol, filled: Grid) -> Table:
    grouped = any(row.group for row in filled.rows)
    rows = [
        ([row.name, *([row.group] if grouped else [])], [_number(entry, filled) for entry in line])
        for row, line in zip(filled.rows, filled.lines, strict=True)
    ]
    heads = ["features", *(["group"] if grouped else [])]
    columns = [Column(column.head, _out_of_domain(protocol, column)) for column in filled.columns]
    about = (*filled.about, *(f"Not all clips could be tested: {text}." for text in filled.left_out))
    return Table(filled.title, heads, columns, rows, about, filled.notes)


def _out_of_domain(protocol: Protocol, column: ProtocolColumn) -> bool | None:
    if column.train is None or column.test is None:
        return None
    return protocol.datasets[column.train].manifest != protocol.datasets[column.test].manifest


def _number(entry: Entry, filled: Grid) -> Number:
    paper = "" if entry.published is None else f"paper {entry.published:.1f}"
    if entry.ours is None:
        missing = " ".join(filled.notes[note - 1] for note in entry.notes)
        return Number(None, "—" if entry.applies else "", paper, missing, grey=entry.grey)
    interval = f"[{entry.ours.low:.1f}, {entry.ours.high:.1f}]"
    difference = "" if entry.difference is None else f" ({entry.difference:+.1f})"
    small = f"{interval} {paper}{difference}".rstrip()
    return Number(entry.ours.value, f"{entry.ours.value:.1f}", small, best=entry.best, grey=entry.grey)


def _figures(folder: Path) -> list[Picture]:
    """All figures of a folder in the order of their names."""
    found: dict[str, Path] = {}
    for ending in KINDS:
        for path in sorted(folder.glob(f"*{ending}")):
            found.setdefault(path.stem, path)
    return [
        Picture(name, path.read_bytes(), KINDS[path.suffix], f"The figure {name}")
        for name, path in sorted(found.items())
    ]


def _audit(path: Path) -> Facts:
    """What ``avfeat manifest audit --json`` printed, as rows.

    Raises:
        ProbeError: the file is not that.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        balance = [f"{each['split']}: {each['real']} real, {each['fake']} fake" for each in found["balance"]]
        rows = [("clips", f"{found['clips']}, {found['measured']} measured; {'; '.join(balance)}", "")]
        rows += [_leak(leak) for leak in found["leaks"]]
        rows += [_nuisance(each) for each in found["nuisances"]]
        rows += [
            (each["what"], f"{len(each['clips'])} clips, e.g. {each['clips'][0]}", "") for each in found["warnings"]
        ]
        return Facts(found["manifest"], rows, found["notes"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProbeError(f"{path} is not what avfeat manifest audit --json prints: {error}.") from error


def _leak(leak: Mapping[str, Any]) -> tuple[str, str, str]:
    pairs = ", ".join(f"{count} in {one} and {other}" for one, other, count in leak["between"])
    return f"leak: {leak['what']}", pairs, "grave"


def _nuisance(found: Mapping[str, Any]) -> tuple[str, str, str]:
    medians = f"real {found['real']}, fake {found['fake']} {found['unit']}".rstrip()
    text = f"tells real from fake with AUC {found['auc']:.2f} ({medians})"
    return found["name"], text, "grave" if found["shortcut"] else ""


def _tested(results: Results, protocols: Sequence[str]) -> dict[str, list[Cell]]:
    """Return for each test set one cell of each row that one probe was tested for there, in-domain ones first."""
    found: dict[str, dict[str, Cell]] = {}
    done = [
        cell for cell in results.cells if cell.protocol in protocols and cell.status == "done" and len(cell.fits) == 1
    ]
    for cell in sorted(done, key=lambda cell: Choice.parse(cell.train).manifest != Choice.parse(cell.test).manifest):
        found.setdefault(cell.test, {}).setdefault(cell.row, cell)
    return {test: list(cells.values())[:MOST_LINES] for test, cells in sorted(found.items())}


def _clips(
    stores: Sequence[Path], results: Results, test: str, cells: Sequence[Cell], wanted: Sequence[str], most: int
) -> list[ShownClip]:
    choice = Choice.parse(test)
    table = Source(stores, cells[0].features).manifest(choice.manifest).select(choice.split).table
    rows = table.select(["clip_id", "label", "method"]).to_pylist()
    if wanted:
        chosen = [row["clip_id"] for row in rows if row["clip_id"] in set(wanted)]
    else:
        kinds: dict[tuple[Any, Any], str] = {}
        for row in rows:
            kinds.setdefault((row["label"], row["method"]), row["clip_id"])
        chosen = list(kinds.values())[:most]
    probes = {cell.row: results.probe_paths(cell)[0] for cell in cells}
    return list(shown_clips(stores, probes, choice, chosen)) if chosen else []

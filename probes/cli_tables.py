"""``probes run``, ``table`` and ``protocols``; mounted in cli.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avfeat.console import align, errors_to_exit

if TYPE_CHECKING:
    from probes.results import Cell
    from probes.run_book import Report

FINISHED_WITH_GAPS = 3

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PROTOCOL…]", help="Names, or .yaml files; none: all that probes protocols lists."),
]
Out = Annotated[Path, typer.Option("--out", "-o", help="The folder of the results.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("run", epilog="Example: probes run table2 figure5 --stores store --out results --jobs 8")
@errors_to_exit()
def run(
    out: Out,
    stores: Annotated[list[Path], typer.Option("--stores", help="A store; several, each with its own --stores.")],
    names: Names = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes at once.")] = 1,
    memory: Annotated[
        float | None,
        typer.Option(metavar="GB", help="For the frames of all jobs.", show_default="most of what is free"),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda:N, of the probes.")] = "cpu",
    as_json: Json = False,
) -> None:
    """Fit and test what protocols ask for and is not there yet; safe to kill and to run again.

    Exit code 3: finished, but cells are empty; the list says what is missing.
    """
    from probes.protocol import known_protocols
    from probes.run import run as go

    try:
        report = go(
            names or known_protocols(),
            stores,
            out,
            jobs=jobs,
            device=device,
            memory_bytes=None if memory is None else round(memory * 1e9),
        )
    except KeyboardInterrupt:
        print("Stopped: what was made is kept, the same command goes on.", file=sys.stderr)
        raise typer.Exit(1) from None
    print(json.dumps(_facts(report), indent=2) if as_json else "\n".join(_lines(report, out)))
    if report.gaps:
        raise typer.Exit(FINISHED_WITH_GAPS)


@app.command(epilog="Example: probes table table2 --out results")
@errors_to_exit()
def table(
    out: Out,
    names: Names = None,
) -> None:
    """Print tables of results, and write each into OUT/tables as Markdown, LaTeX and CSV."""
    from probes.protocol import known_protocols, read_protocol
    from probes.results import read_results
    from probes.tables.forms import markdown, write_forms
    from probes.tables.grid import grid

    results = read_results(out)
    for name in names or known_protocols():
        filled = grid(read_protocol(name), results)
        paths = write_forms(filled, out / "tables")
        print(markdown(filled))
        print(f"wrote {', '.join(map(str, paths))}", file=sys.stderr)


@app.command(epilog="Example: probes protocols")
@errors_to_exit()
def protocols(as_json: Json = False) -> None:
    """List the protocols that come with the package."""
    from probes.protocol import known_protocols, read_protocol

    known = [read_protocol(name) for name in known_protocols()]
    if as_json:
        print(json.dumps([{"name": each.name, "shows": each.shows, "title": each.title} for each in known], indent=2))
        return
    rows = [(each.name, each.shows, f"{len(each.rows)} by {len(each.columns)}", each.title) for each in known]
    print(align([("protocol", "shows", "cells", "title"), *rows]))


def _facts(report: Report) -> dict[str, object]:
    return {
        "filled": report.filled,
        "gaps": len(report.gaps),
        "fits": report.fits,
        "tests": report.tests,
        "failed": report.failed,
        "measured": report.measured,
        "cells": [_cell_facts(cell) for cell in report.cells],
    }


def _cell_facts(cell: Cell) -> dict[str, object]:
    measures = {name: [each.value, each.low, each.high] for name, each in cell.measures.items()}
    place = {"protocol": cell.protocol, "row": cell.row, "column": cell.column}
    return {**place, "status": cell.status, **measures, "reasons": cell.reasons}


def _lines(report: Report, out: Path) -> list[str]:
    """What a person reads after a run: cells by protocol, and each thing that is missing once."""
    names = list(dict.fromkeys(cell.protocol for cell in report.cells))
    lines = []
    for name in names:
        own = [cell for cell in report.cells if cell.protocol == name and cell.status != "none"]
        filled = sum(cell.status == "done" for cell in own)
        lines.append(f"{name}: {filled} of {len(own)} cells filled")
    reasons: dict[str, int] = {}
    for cell in report.gaps:
        for reason in cell.reasons:
            reasons[reason] = reasons.get(reason, 0) + 1
    lines += [f"  {count} empty: {reason}" for reason, count in reasons.items()]
    made = f"{report.fits} fits and {report.tests} tests made now, {report.measured} cells measured"
    return [*lines, f"{made}; wrote {out}/results.parquet"]

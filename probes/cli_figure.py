"""``probes figure``: parses, calls, prints, and nothing else; mounted in cli.py."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from avfeat.console import errors_to_exit

FINISHED_WITH_GAPS = 3

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog="Example: probes figure figure3 figure5 --out results --stores store")
@errors_to_exit()
def figure(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the results, of probes run.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROTOCOL…]", help="Names, or .yaml files; none: all with results and a figure."),
    ] = None,
    stores: Annotated[
        list[Path] | None, typer.Option("--stores", help="A store, for figures of single clips; may be repeated.")
    ] = None,
    root: Annotated[Path | None, typer.Option(help="Folder of the media.", show_default="as manifests say")] = None,
) -> None:
    """Draw the figures of protocols that were run into OUT/figures, each as PNG, SVG and PDF.

    Exit code 3: finished, but something could not be drawn; the list says what is missing.
    """
    from avfeat.errors import AvfeatError, ProbeError
    from probes.figures.from_results import draw, has_figure
    from probes.protocol import known_protocols, read_protocol
    from probes.results import read_results

    results = read_results(out)
    if not results.cells:
        raise ProbeError(f"{out} has no results: probes run makes them.")
    asked = names or [name for name in known_protocols() if name in results.protocols]
    protocols = [read_protocol(name) for name in asked]
    whole = True
    for protocol in [each for each in protocols if names or has_figure(each)]:
        try:
            paths, gaps = draw(protocol, results, stores or [], out / "figures", root)
        except AvfeatError as error:
            paths, gaps = [], [str(error)]
        for path in paths:
            print(f"wrote {path}")
        for gap in gaps:
            whole = False
            print(f"{protocol.name}: missing: {gap}", file=sys.stderr)
    if not whole:
        raise typer.Exit(FINISHED_WITH_GAPS)

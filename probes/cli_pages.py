"""``probes detect`` and ``probes report``: pages for people; parses, calls, prints, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from avfeat.console import errors_to_exit

FINISHED_WITH_FAILURES = 3


def mount(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(epilog="Example: probes detect talk.mp4 --probe probe.safetensors --html answer.html")(detect)


@errors_to_exit()
def detect(
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO…", help="Media files.")],
    probe: Annotated[list[Path], typer.Option(help="A probe's file; several are all asked.")],
    html: Annotated[Path | None, typer.Option(help="Write a page with players and frame scores.")] = None,
    weights: Annotated[Path | None, typer.Option(help="Where the encoder's weights are now.")] = None,
    device: Annotated[str, typer.Option(help="The encoder's device: auto, cpu or cuda:N.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Say of new videos how fake they look to chosen probes, and where; exit code 3 when a file has no score at all."""
    from avfeat.options import Options
    from probes.detect import WARNING, page
    from probes.detect import detect as ask
    from probes.report.page import write_page

    verdicts = ask(probe, videos, weights=weights, options=Options(device=device))
    if as_json:
        print(json.dumps({"warning": WARNING, "videos": [verdict.facts() for verdict in verdicts]}, indent=2))
    else:
        for verdict in verdicts:
            print("\n  ".join([str(verdict.path), *verdict.sentences()]))
        print(f"\n{WARNING}")
    if html is not None:
        write_page(page(probe, verdicts), html)
        if not as_json:
            print(f"wrote {html}")
    if any(not verdict.scored for verdict in verdicts):
        raise typer.Exit(FINISHED_WITH_FAILURES)

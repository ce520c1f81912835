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
    app.command(epilog="Example: probes report --stores store --out results --audit favc.audit.json")(report)


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


@errors_to_exit()
def report(
    out: Annotated[Path, typer.Option("--out", "-o", help="The folder of the results; gets report.html.")],
    stores: Annotated[list[Path], typer.Option("--stores", help="A store; several, each with its own --stores.")],
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[PROTOCOL…]", help="Names, or .yaml files; none: all that the results have."),
    ] = None,
    audit: Annotated[
        list[Path] | None, typer.Option(metavar="JSON", help="What avfeat manifest audit --json printed.")
    ] = None,
    clip: Annotated[
        list[str] | None,
        typer.Option(help="A clip to play beside its frame scores.", show_default="some of each test set"),
    ] = None,
    clips_per_set: Annotated[int, typer.Option(min=0, help="How many, where none is named.")] = 3,
) -> None:
    """Write one self-contained page: tables, figures of OUT/figures, audits, clips that play beside their scores."""
    from probes.report.gather import gather
    from probes.report.page import write_page

    page = gather(stores, out, names or None, audits=audit or (), clips=clip or (), clips_per_set=clips_per_set)
    write_page(page, out / "report.html")
    print(
        f"wrote {out / 'report.html'}: {len(page.tables)} tables, {len(page.figures)} figures, {len(page.clips)} clips"
    )

"""``probes import-checkpoint`` and ``probes fuse``: probes of other probes; parses, calls, prints, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from avfeat.console import errors_to_exit
from probes.cli_options import Json, Memory

if TYPE_CHECKING:
    from probes.heads import Head


def mount(app: typer.Typer) -> None:
    """Add the commands."""
    app.command(
        epilog="Example: probes import-checkpoint AVH-Align_AV1M.pt --feature avhubert-large.v "
        "--feature avhubert-large.a -o sync.safetensors"
    )(import_checkpoint)
    app.command(epilog="Example: probes fuse lips.safetensors sound.safetensors -o both.safetensors")(fuse)


@errors_to_exit()
def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A .ckpt of ssr-dfd or AVH-Align/sup, or a .pt of AVH-Align.")],
    feature: Annotated[list[str], typer.Option(help="The stored feature that it reads; if two, video before audio.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The probe's file.")],
    as_json: Json = False,
) -> None:
    """Make a probe of an official checkpoint, with identical scores; nothing in the checkpoint is run."""
    from probes.official import import_official

    probe = import_official(checkpoint, feature)
    probe.save(out)
    _print(out, probe, as_json)


@errors_to_exit()
def fuse(
    probes: Annotated[list[Path], typer.Argument(metavar="PROBE…", help="Two or more files of probes.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The fused probe's file.")],
    combine: Annotated[
        Literal["logits", "probabilities", "standardised"], typer.Option(help="What of the probes' scores is averaged.")
    ] = "logits",
    store: Annotated[list[Path] | None, typer.Option(help="For standardised: a store with all features.")] = None,
    over: Annotated[
        str | None,
        typer.Option(metavar="MANIFEST[:SPLIT]", help="For standardised: clips that give mean and deviation."),
    ] = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Make one probe of several by late fusion: the mean of their scores."""
    from probes.fuse import fuse_files

    fused = fuse_files(probes, combine, store or [], over, memory)
    fused.save(out)
    _print(out, fused, as_json)


def _print(out: Path, probe: Head, as_json: bool) -> None:
    """``wrote out: sync of lips.v (1024 wide) + lips.a (1024 wide)``, or the same as JSON."""
    if as_json:
        facts = {"probe": str(out), "head": probe.kind, "features": probe.features_, "widths": probe.widths_}
        print(json.dumps(facts, indent=2))
        return
    reads = [f"{name} ({width} wide)" for name, width in zip(probe.features_, probe.widths_, strict=True)]
    print(f"wrote {out}: {probe.kind} of {' + '.join(reads)}")

"""``probes eval``; mounted in cli.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avfeat.console import align, errors_to_exit
from probes.cli_options import Device, IntervalsBy, Json, Metric, NeededTest, Stores

if TYPE_CHECKING:
    from probes.evaluation import Tested

Probe = Annotated[Path, typer.Argument(help="A probe's file.")]


def mount(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(
        "eval", epilog="Example: probes eval probe.safetensors store --test av1m:test --metric tpr@0.01 --frames"
    )(evaluate)


@errors_to_exit()
def evaluate(
    probe: Probe,
    stores: Stores,
    test: NeededTest,
    metric: Metric = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="Frame scores against the manifest's fake stretches too.")
    ] = False,
    intervals_by: IntervalsBy = "clip",
    device: Device = "cpu",
    as_json: Json = False,
) -> None:
    """Test a finished probe on stored features."""
    from probes.evaluation import evaluate as run
    from probes.metrics import METRICS
    from probes.probe_file import load_probe

    tests = run(load_probe(probe), stores, test, tuple(metric or METRICS), intervals_by, device=device, frames=frames)
    if as_json:
        print(json.dumps({tested.name: tested.facts() for tested in tests}, indent=2))
    else:
        print("\n".join([f"test {tested.name}: {tested.count}" for tested in tests]))
        print(metrics_table(tests))
        for tested in tests:
            if tested.frames is not None:
                print(f"\nframes of {tested.name}: {tested.frames}")
                print(align([["measure", "value"], *tested.frames.measures.items()]))


def metrics_table(tests: Sequence[Tested]) -> str:
    """Return the metrics of each test set in aligned columns."""
    names = list(tests[0].measures)
    rows = [[tested.name, *(str(tested.measures[name]) for name in names)] for tested in tests]
    return align([["test set", *(name.upper() for name in names)], *rows])

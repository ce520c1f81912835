"""``probes eval``, ``compare`` and ``calibrate``; mounted in cli.py."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avfeat.console import align, errors_to_exit
from probes.cli_options import Device, IntervalsBy, Json, Memory, Metric, NeededTest, Stores

if TYPE_CHECKING:
    from probes.evaluation import Tested
    from probes.intervals import Measure

Probe = Annotated[Path, typer.Argument(help="A probe's file.")]


def mount(app: typer.Typer) -> None:
    """Add the commands of this file."""
    app.command("eval", epilog="Example: probes eval probe.safetensors store --test av1m:test --frames")(evaluate)
    app.command(epilog="Example: probes compare sound.safetensors lips.safetensors store --test av1m:test")(compare)
    app.command(epilog="Example: probes calibrate probe.safetensors store --on favc:val --reliability reliability.png")(
        calibrate
    )


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
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Test a finished probe on stored features."""
    from probes.evaluation import evaluate as run
    from probes.metrics import METRICS
    from probes.probe_file import load_probe

    asked = tuple(metric or METRICS), intervals_by
    tests = run(load_probe(probe), stores, test, *asked, device=device, frames=frames, memory=memory)
    if as_json:
        print(json.dumps({tested.name: tested.facts() for tested in tests}, indent=2))
    else:
        print("\n".join([f"test {tested.name}: {tested.count}" for tested in tests]))
        print(metrics_table(tests))
        for tested in tests:
            if tested.frames is not None:
                print(f"\nframes of {tested.name}: {tested.frames}")
                print(align([["measure", "value"], *tested.frames.measures.items()]))


@errors_to_exit()
def compare(
    first: Annotated[Path, typer.Argument(metavar="A", help="A probe's file.")],
    second: Annotated[Path, typer.Argument(metavar="B", help="Another; it may read other features.")],
    stores: Stores,
    test: NeededTest,
    metric: Metric = None,
    intervals_by: IntervalsBy = "clip",
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Say whether probe A is better than probe B on the clips that both can score."""
    from probes.compare import compare_probes
    from probes.metrics import METRICS
    from probes.probe_file import load_probe

    both = load_probe(first), load_probe(second)
    found = compare_probes(*both, stores, test, tuple(metric or METRICS), intervals_by, memory=memory)
    if as_json:
        print(json.dumps({each.name: each.facts() for each in found}, indent=2))
        return
    for each in found:
        only = f"; left out: {each.left_out} that only one can" if each.left_out else ""
        print(f"{each.name}: {each.clips} clips that both can score{only}")
        rows = [
            (name.upper(), str(each.first[name]), str(each.second[name]), f"{value.value:+.4f} {interval(value)}")
            for name, value in each.difference.items()
        ]
        print(align([("metric", "A", "B", "A - B"), *rows]))
        told = "p < 0.0001" if each.delong.p < 1e-4 else f"p = {each.delong.p:.4f}"
        print(f"DeLong's test of the AUCs: z = {each.delong.z:.2f}, {told}")


@errors_to_exit()
def calibrate(
    probe: Probe,
    stores: Stores,
    chosen_on: Annotated[str, typer.Option("--on", metavar="MANIFEST[:SPLIT]", help="Clips it has not learned from.")],
    shift: Annotated[
        bool, typer.Option("--shift", help="Move the score from which on a clip is called fake, too.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write a copy.", show_default="into the probe's file")
    ] = None,
    reliability: Annotated[Path | None, typer.Option(help="Draw the reliability diagram: .png, .svg or .pdf.")] = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Make a probe's probabilities mean what they say: fit their temperature and write it into the probe's file.

    Scores stay as they are, and without --shift also which clips are called fake.
    """
    from probes.calibrate import calibrate as run
    from probes.figures.reliability import draw
    from probes.figures.style import check_suffix

    if reliability is not None:
        check_suffix(reliability)
    done = run(probe, stores, chosen_on, shift=shift, out=out, memory=memory)
    if reliability is not None:
        curves = {"before": done.before.reliability, "after": done.after.reliability}
        draw(curves, reliability, f"{probe.stem} on {done.chosen_on}, {done.clips} clips")
    if as_json:
        print(json.dumps({"probe": str(out or probe), **done.facts()}, indent=2))
        return
    rows = [
        (name, f"{each.line:.4f}", f"{each.unit:.4f}", f"{each.loss:.4f}", f"{each.reliability.error:.4f}")
        for name, each in (("before", done.before), ("after", done.after))
    ]
    print(f"{done.chosen_on}: {done.clips} clips")
    print(align([("", "line", "temperature", "cross-entropy", "calibration error"), *rows]))
    print("The probability of fake is sigmoid(2 (score - line) / temperature).")
    print("\n".join(f"wrote {path}" for path in (out or probe, reliability) if path is not None))


def interval(measure: Measure) -> str:
    """``[-0.0123, 0.0456]``."""
    return f"[{measure.low:.4f}, {measure.high:.4f}]"


def metrics_table(tests: Sequence[Tested]) -> str:
    """Return the metrics of each test set in aligned columns."""
    names = list(tests[0].measures)
    rows = [[tested.name, *(str(tested.measures[name]) for name in names)] for tested in tests]
    return align([["test set", *(name.upper() for name in names)], *rows])

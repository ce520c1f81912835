"""``probes``: parses, calls, prints, and nothing else. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avfeat.console import errors_to_exit
from probes import cli_eval, cli_explain, cli_figure, cli_made, cli_pages, cli_sweep, cli_tables
from probes.cli_eval import metrics_table
from probes.cli_options import (
    ClassWeight,
    Device,
    Head,
    IntervalsBy,
    Json,
    Manifest,
    Memory,
    Metric,
    Patience,
    Pool,
    Seed,
    Setting,
    Solver,
    Steps,
    Stores,
    Test,
    Train,
    Val,
    WeightDecay,
    given_once,
    given_settings,
    tell_progress,
)

if TYPE_CHECKING:
    from probes.study import Result

app = typer.Typer(
    help="Small heads over stored features, fitted in seconds.\n\n"
    "Exit codes: 0 all done, 1 stopped or found something wrong (an interrupted fit still writes its best probe), "
    "2 wrong command, 3 finished, but some files could not be scored or some cells not filled.",
    no_args_is_help=True,
    rich_markup_mode=None,  # drawing help with rich takes longer than all the rest of it
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"max_content_width": 120},
)
app.add_typer(cli_tables.app)
app.add_typer(cli_figure.app)
app.add_typer(cli_explain.app, name="explain")

FINISHED_WITH_FAILURES = 3


@app.callback()
def main() -> None:
    """Small heads over stored features, fitted in seconds."""


@app.command(epilog="Example: probes fit store --manifest favc --feature logmel --test av1m:test -o probe.safetensors")
@errors_to_exit()
def fit(
    stores: Stores,
    manifest: Manifest,
    feature: Annotated[list[str], typer.Option(help="A stored feature; several are joined by time.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The probe's file.")],
    head: Head = "linear",
    setting: Setting = None,
    train: Train = "train",
    val: Val = "val",
    test: Test = None,
    pool: Pool = None,
    solver: Solver = None,
    weight_decay: WeightDecay = None,
    class_weight: ClassWeight = None,
    seeds: Annotated[int, typer.Option(min=1, help="So many initial weights, fitted at once.")] = 1,
    seed: Seed = None,
    steps: Steps = None,
    patience: Patience = None,
    metric: Metric = None,
    intervals_by: IntervalsBy = "clip",
    device: Device = "cpu",
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Fit a probe, test it, and write it; Ctrl-C ends the fit early and keeps the best so far."""
    from probes.fit import PAPER_SEED
    from probes.metrics import METRICS
    from probes.study import Plan, run, save, with_head

    plan = Plan(
        manifest=manifest,
        features=tuple(feature),
        train=train,
        val=None if val == "none" else val,
        tests=None if test is None else tuple(test),
        metrics=tuple(metric or METRICS),
        intervals_by=intervals_by,
        device=device,
        memory=memory,
    )
    first = PAPER_SEED if seed is None else seed
    flags: dict[str, Any] = {
        "pool": pool,
        "weight_decay": weight_decay,
        "seed": None if seed is None and seeds == 1 else range(first, first + seeds),
        **given_once(solver=solver, class_weight=class_weight, steps=steps, patience=patience),
    }
    plan = with_head(plan, head, given_settings(setting), flags)
    result = run(stores, plan, tell_progress())
    save(out, stores, plan, result)
    print(json.dumps({"probe": str(out), **result.facts()}, indent=2) if as_json else "\n".join(_lines(result, out)))
    if result.interrupted:
        print("Interrupted: the best probe so far was written.", file=sys.stderr)
        raise typer.Exit(1)


cli_sweep.mount(app)
cli_eval.mount(app)


@app.command(epilog="Example: probes score probe.safetensors talk.mp4 --frames --json")
@errors_to_exit()
def score(
    probe: Annotated[Path, typer.Argument(help="A probe's file.")],
    videos: Annotated[list[Path], typer.Argument(metavar="VIDEO…", help="New media files.")],
    frames: Annotated[bool, typer.Option("--frames", help="The score of every frame too.")] = False,
    weights: Annotated[Path | None, typer.Option(help="Where the encoder's weights are now.")] = None,
    device: Annotated[str, typer.Option(help="The encoder's device: auto, cpu or cuda:N.")] = "auto",
    as_json: Json = False,
) -> None:
    """Score new files: higher is more likely fake, and from the probe's line on (0, unless calibrated) called fake."""
    from avfeat.options import Options
    from probes.score import score_files

    rows = []
    for scored in score_files(probe, videos, weights=weights, options=Options(device=device)):
        rows.append(scored)
        if not as_json:
            print("\n".join(_score_lines(scored.facts(frames))), flush=True)
    if as_json:
        print(json.dumps([scored.facts(frames) for scored in rows], indent=2))
    if any(scored.score is None for scored in rows):
        raise typer.Exit(FINISHED_WITH_FAILURES)


cli_made.mount(app)
cli_pages.mount(app)


def _lines(result: Result, out: Path) -> list[str]:
    """What a person reads after a fit."""
    lines = [f"train {result.train.choice}: {result.train.count}"]
    if result.val:
        lines.append(f"val {result.val.choice}: {result.val.count}")
    lines += [f"test {tested.name}: {tested.count}" for tested in result.tests]
    lines.append(_ending(result))
    if result.tests:
        lines.append(metrics_table(result.tests))
    if len(result.fits) > 1:
        for tested in result.tests:
            low, high = min(tested.spread), max(tested.spread)
            mean = sum(tested.spread) / len(tested.spread)
            lines.append(
                f"AUC of all {len(tested.spread)} probes on {tested.name}: {mean:.4f} ({low:.4f} to {high:.4f})"
            )
    return [*lines, f"wrote {out}"]


def _ending(result: Result) -> str:
    """``linear: pool lse, solver lbfgs, …, loss 0.12345 at step 17, ended by patience``."""
    chosen = {name: value for name, value in result.probe.get_params().items() if value is not None}
    settings = ", ".join(f"{name.replace('_', ' ')} {str(value).strip('()')}" for name, value in chosen.items())
    fit = result.probe.facts_
    loss = f", loss {fit['loss']:.5f} at step {fit['best_step']}" if fit.get("loss") is not None else ""
    ended = f"{loss}, ended by {fit['stopped']}" if "stopped" in fit else ""
    return f"{result.probe.kind}: {settings}{ended}"


def _score_lines(facts: dict[str, Any]) -> list[str]:
    if "error" in facts:
        return [f"{facts['path']}  {facts['error']}: {facts['detail']}"]
    how = "calibrated" if facts["calibrated"] else "not calibrated"
    lines = [f"{facts['path']}  score {facts['score']:.4f}  probability of fake {facts['probability']:.4f} ({how})"]
    frames = facts.get("frames")
    if frames:
        for k, value in enumerate(frames["scores"]):
            lines.append(f"  {frames['first_seconds'] + k * frames['step_seconds']:9.3f} s  {value:.4f}")
    return lines

"""``probes``: parses, calls, prints, and nothing else. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from avfeat.console import align, errors_to_exit
from probes import cli_explain, cli_pages, cli_tables
from probes.heads import HEADS

if TYPE_CHECKING:
    from probes.evaluation import Tested
    from probes.solving import Progress
    from probes.study import Result

app = typer.Typer(
    help="Small heads over stored features, fitted in seconds.\n\n"
    "Exit codes: 0 all done, 1 stopped or found something wrong (an interrupted fit still writes its best probe), "
    "2 wrong command, 3 finished, but some files could not be scored.",
    no_args_is_help=True,
    rich_markup_mode=None,  # drawing help with rich takes longer than all the rest of it
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"max_content_width": 120},
)
app.add_typer(cli_tables.app)
app.add_typer(cli_explain.app, name="explain")

FINISHED_WITH_FAILURES = 3

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback()
def main() -> None:
    """Small heads over stored features, fitted in seconds."""


@app.command(epilog="Example: probes fit store --manifest favc --feature logmel --test av1m:test -o probe.safetensors")
@errors_to_exit()
def fit(
    stores: Annotated[list[Path], typer.Argument(metavar="STORE…", help="One or several stores.")],
    manifest: Annotated[str, typer.Option(help="Key or name of a manifest in the store, or a manifest file.")],
    feature: Annotated[list[str], typer.Option(help="A stored feature; several are joined by time.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The probe's file.")],
    head: Annotated[str, typer.Option(help=f"{', '.join(HEADS)}.")] = "linear",
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One of the head's own settings.")
    ] = None,
    train: Annotated[str, typer.Option(help="The split to learn from.")] = "train",
    val: Annotated[str, typer.Option(help="The split that chooses the best epoch; none: the solver's last.")] = "val",
    test: Annotated[
        list[str] | None,
        typer.Option(metavar="MANIFEST[:SPLIT]", help="A test set.", show_default="the manifest's split test, if any"),
    ] = None,
    pool: Annotated[
        list[str] | None,
        typer.Option(help="lse[:T], lse-mean[:T], max, mean, min or top:K; several are all tried.", show_default="lse"),
    ] = None,
    solver: Annotated[
        Literal["lbfgs", "adam"] | None,
        typer.Option(help="lbfgs: to the optimum. adam: step by step as in the paper.", show_default="lbfgs"),
    ] = None,
    weight_decay: Annotated[
        list[float] | None,
        typer.Option(min=0, help="½·wd·|w|² joins the loss; several are all tried.", show_default="0"),
    ] = None,
    class_weight: Annotated[
        Literal["none", "balanced"] | None, typer.Option(help="How clips weigh in training.", show_default="none")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="So many initial weights, fitted at once.")] = 1,
    seed: Annotated[int | None, typer.Option(help="The first seed.", show_default="43, the paper's")] = None,
    steps: Annotated[
        int | None, typer.Option(min=1, help="At most so many passes.", show_default="adam 100, lbfgs 300")
    ] = None,
    patience: Annotated[
        int | None, typer.Option(min=1, help="End so many passes after the best.", show_default="adam 10, lbfgs 20")
    ] = None,
    metric: Annotated[
        list[str] | None, typer.Option(help="auc, ap, eer or tpr@X.", show_default="auc, ap and eer")
    ] = None,
    intervals_by: Annotated[Literal["clip", "speaker"], typer.Option(help="What the bootstrap draws.")] = "clip",
    device: Annotated[str, typer.Option(help="cpu or cuda:N.")] = "cpu",
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
    )
    first = PAPER_SEED if seed is None else seed
    flags: dict[str, Any] = {
        "pool": pool,
        "weight_decay": weight_decay,
        "seed": None if seed is None and seeds == 1 else range(first, first + seeds),
        "solver": None if solver is None else [solver],
        "class_weight": None if class_weight is None else [class_weight],
        "steps": None if steps is None else [steps],
        "patience": None if patience is None else [patience],
    }
    plan = with_head(plan, head, _settings(setting or []), flags)
    result = run(stores, plan, tell_progress())
    save(out, stores, plan, result)
    print(json.dumps({"probe": str(out), **result.facts()}, indent=2) if as_json else "\n".join(_lines(result, out)))
    if result.interrupted:
        print("Interrupted: the best probe so far was written.", file=sys.stderr)
        raise typer.Exit(1)


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
    """Score new files; higher is more likely fake, above 0 is called fake."""
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


@app.command("eval", epilog="Example: probes eval probe.safetensors store --test av1m:test --metric tpr@0.01")
@errors_to_exit()
def evaluate(
    probe: Annotated[Path, typer.Argument(help="A probe's file.")],
    stores: Annotated[list[Path], typer.Argument(metavar="STORE…", help="One or several stores.")],
    test: Annotated[list[str], typer.Option(metavar="MANIFEST[:SPLIT]", help="A test set.")],
    metric: Annotated[
        list[str] | None, typer.Option(help="auc, ap, eer or tpr@X.", show_default="auc, ap and eer")
    ] = None,
    intervals_by: Annotated[Literal["clip", "speaker"], typer.Option(help="What the bootstrap draws.")] = "clip",
    as_json: Json = False,
) -> None:
    """Test a finished probe on stored features."""
    from probes.evaluation import evaluate as run
    from probes.metrics import METRICS
    from probes.probe_file import load_probe

    tests = run(load_probe(probe), stores, test, tuple(metric or METRICS), intervals_by)
    if as_json:
        print(json.dumps({tested.name: tested.facts() for tested in tests}, indent=2))
    else:
        print("\n".join([f"test {tested.name}: {tested.count}" for tested in tests]))
        print(_table(tests))


@app.command(epilog="Example: probes import-checkpoint model.ckpt --feature xlsr-2b -o probe.safetensors")
@errors_to_exit()
def import_checkpoint(
    checkpoint: Annotated[Path, typer.Argument(help="A Lightning .ckpt of the official linear trainer.")],
    feature: Annotated[str, typer.Option(help="The stored feature that it reads.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The probe's file.")],
) -> None:
    """Make a probe of an official checkpoint, with identical scores; nothing in the checkpoint is run."""
    from probes.official import import_linear

    probe = import_linear(checkpoint, feature)
    probe.save(out)
    print(f"wrote {out}: {feature}, {probe.widths_[0]} wide")


cli_pages.mount(app)


def tell_progress() -> Any:
    """Return what prints the progress of a fit on stderr: one line that changes on a terminal, else now and then."""
    import time

    terminal = sys.stderr.isatty()
    last = -10.0

    def tell(progress: Progress) -> None:
        nonlocal last
        ended = progress.going == 0 or progress.done == progress.most
        if not terminal and not ended and time.monotonic() - last < 10:
            return
        last = time.monotonic()
        loss = float(progress.best_loss.min())
        text = f"{progress.unit} {progress.done}  best loss {loss:.5f}  probes going {progress.going}"
        print(f"\r{text}" if terminal else text, end="\n" if ended or not terminal else "", file=sys.stderr, flush=True)

    return tell


def _settings(texts: Sequence[str]) -> dict[str, str]:
    parts = [text.partition("=") for text in texts]
    for name, equals, _ in parts:
        if not equals:
            raise typer.BadParameter(f"--set {name}: write NAME=VALUE.")
    return {name: value for name, _, value in parts}


def _lines(result: Result, out: Path) -> list[str]:
    """What a person reads after a fit."""
    lines = [f"train {result.train.choice}: {result.train.count}"]
    if result.val:
        lines.append(f"val {result.val.choice}: {result.val.count}")
    lines += [f"test {tested.name}: {tested.count}" for tested in result.tests]
    lines.append(_ending(result))
    if result.tests:
        lines.append(_table(result.tests))
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
    settings = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in chosen.items())
    fit = result.probe.facts_
    ended = f", loss {fit['loss']:.5f} at step {fit['best_step']}, ended by {fit['stopped']}" if "loss" in fit else ""
    return f"{result.probe.kind}: {settings}{ended}"


def _table(tests: Sequence[Tested]) -> str:
    names = list(tests[0].measures)
    rows = [[tested.name, *(str(tested.measures[name]) for name in names)] for tested in tests]
    return align([["test set", *(name.upper() for name in names)], *rows])


def _score_lines(facts: dict[str, Any]) -> list[str]:
    if "error" in facts:
        return [f"{facts['path']}  {facts['error']}: {facts['detail']}"]
    lines = [f"{facts['path']}  score {facts['score']:.4f}  probability of fake {facts['probability']:.4f}"]
    frames = facts.get("frames")
    if frames:
        for k, value in enumerate(frames["scores"]):
            lines.append(f"  {frames['first_seconds'] + k * frames['step_seconds']:9.3f} s  {value:.4f}")
    return lines

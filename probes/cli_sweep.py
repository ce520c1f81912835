"""``probes sweep``; mounted in cli.py."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avfeat.console import errors_to_exit
from probes.cli_options import (
    ClassWeight,
    Device,
    Head,
    IntervalsBy,
    Json,
    Manifest,
    Memory,
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
    from probes.sweep import Row


def mount(app: typer.Typer) -> None:
    """Add the command of this file."""
    app.command(
        epilog="Example: probes sweep store --manifest favc --feature xlsr-2b@9 --feature xlsr-2b@24 --pool lse "
        "--pool max --seeds 5 --fraction 0.1 --fraction 1 --test av1m:test -o sweep.csv"
    )(sweep)


@errors_to_exit()
def sweep(
    stores: Stores,
    manifest: Manifest,
    feature: Annotated[list[str], typer.Option(help="A stored feature, or several as one: A+B. Each is loaded once.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Save the rows too: .csv, .parquet or .json.")] = None,
    head: Head = "linear",
    setting: Setting = None,
    train: Train = "train",
    val: Val = "val",
    test: Test = None,
    pool: Pool = None,
    solver: Solver = None,
    weight_decay: WeightDecay = None,
    class_weight: ClassWeight = None,
    share: Annotated[
        list[float] | None,
        typer.Option("--fraction", help="Learn from this share of the clips, drawn by each seed.", show_default="1"),
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="So many, for the mean and its spread.")] = 1,
    seed: Seed = None,
    steps: Steps = None,
    patience: Patience = None,
    metric: Annotated[list[str] | None, typer.Option(help="auc, ap, eer or tpr@X.", show_default="auc")] = None,
    intervals_by: IntervalsBy = "clip",
    device: Device = "cpu",
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """Fit every combination of features, poolings, weight decays and fractions, and print one table.

    A row has the mean ± standard deviation over seeds and the bootstrap interval on each test set, and the loss on
    validation to choose by. Ctrl-C ends it; rows that are finished are printed and saved.
    """
    from probes.fit import PAPER_SEED
    from probes.rows_file import check_suffix, write_rows
    from probes.study import Plan, with_head
    from probes.sweep import sweep as run

    if out is not None:
        check_suffix(out)
    first = PAPER_SEED if seed is None else seed
    plan = Plan(
        manifest=manifest,
        features=(),
        train=train,
        val=None if val == "none" else val,
        tests=None if test is None else tuple(test),
        seeds=tuple(range(first, first + seeds)),
        metrics=tuple(metric or ["auc"]),
        intervals_by=intervals_by,
        device=device,
        memory=memory,
    )
    once = given_once(solver=solver, class_weight=class_weight, steps=steps, patience=patience)
    plan = with_head(plan, head, given_settings(setting), {"pool": pool, "weight_decay": weight_decay, **once})
    features = [tuple(names.split("+")) for names in feature]
    rows: list[Row] = []
    tell = tell_progress() if sys.stderr.isatty() else lambda progress: None
    try:
        for row in run(stores, plan, features, tuple(share or [1.0]), tell, _say):
            rows.append(row)
            if out is not None:
                write_rows(out, [each.flat() for each in rows])
    except KeyboardInterrupt:
        _print(rows, as_json)
        print(f"Interrupted: {len(rows)} rows were finished.", file=sys.stderr)
        raise typer.Exit(1) from None
    _print(rows, as_json)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _print(rows: Sequence[Row], as_json: bool) -> None:
    from probes.tables.markdown import table

    if as_json:
        print(json.dumps([row.flat() for row in rows], indent=2))
    elif rows:
        columns = [(test, metric) for test, measures in rows[0].measures.items() for metric in measures]
        heads = ["feature", "pool", "weight decay", "fraction", "clips", "loss", *(f"{t} {m}" for t, m in columns)]
        print(table(heads, [_cells(row, columns) for row in rows]), end="")


def _cells(row: Row, columns: Sequence[tuple[str, str]]) -> list[object]:
    decay = "" if row.weight_decay is None else f"{row.weight_decay:g}"
    loss = "" if row.loss is None else f"{row.loss:.5f}"
    settings = [row.feature, row.pool or "", decay, f"{row.share:g}", row.clips, loss]
    return [*settings, *(str(row.measures[test][metric]) for test, metric in columns)]

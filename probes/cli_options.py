"""What several commands share: options with their help, ``--set``, the progress of a fit."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from probes.heads import HEADS

if TYPE_CHECKING:
    from probes.solving import Progress

Stores = Annotated[list[Path], typer.Argument(metavar="STORE…", help="One or several stores.")]
Manifest = Annotated[str, typer.Option(help="Key or name of a manifest in the store, or a manifest file.")]
Head = Annotated[str, typer.Option(help=f"{', '.join(HEADS)}.")]
Setting = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="One of the head's own settings; a wrong name lists them."),
]
Train = Annotated[str, typer.Option(help="The split to learn from.")]
Val = Annotated[str, typer.Option(help="The split that chooses the best epoch; none: the solver's last.")]
Test = Annotated[
    list[str] | None,
    typer.Option(metavar="MANIFEST[:SPLIT]", help="A test set.", show_default="the manifest's split test, if any"),
]
NeededTest = Annotated[list[str], typer.Option("--test", metavar="MANIFEST[:SPLIT]", help="A test set.")]
Pool = Annotated[
    list[str] | None,
    typer.Option(help="lse[:T], lse-mean[:T], max, mean, min or top:K; several are all tried.", show_default="lse"),
]
WeightDecay = Annotated[
    list[float] | None,
    typer.Option(min=0, help="½·wd·|w|² joins the loss; several are all tried.", show_default="0"),
]
Solver = Annotated[
    Literal["lbfgs", "adam"] | None,
    typer.Option(help="lbfgs: to the optimum. adam: step by step as in the paper.", show_default="lbfgs"),
]
ClassWeight = Annotated[
    Literal["none", "balanced"] | None, typer.Option(help="How clips weigh in training.", show_default="none")
]
Steps = Annotated[int | None, typer.Option(min=1, help="At most so many passes.", show_default="adam 100, lbfgs 300")]
Patience = Annotated[
    int | None, typer.Option(min=1, help="End so many passes after the best.", show_default="adam 10, lbfgs 20")
]
Seed = Annotated[int | None, typer.Option(help="The first seed.", show_default="43, the paper's")]
Metric = Annotated[list[str] | None, typer.Option(help="auc, ap, eer or tpr@X.", show_default="auc, ap and eer")]
IntervalsBy = Annotated[Literal["clip", "speaker"], typer.Option(help="What the bootstrap draws.")]
Device = Annotated[str, typer.Option(help="cpu or cuda:N.")]
Memory = Annotated[
    str | None,
    typer.Option(
        metavar="SIZE",
        help="What frames may take of it, like 1GB: sets beyond half of that are read from TMPDIR in every pass.",
        show_default="no limit",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def given_settings(texts: Sequence[str] | None) -> dict[str, str]:
    """Return what ``--set NAME=VALUE`` was given.

    Raises:
        typer.BadParameter: no ``=``.
    """
    parts = [text.partition("=") for text in texts or []]
    for name, equals, _ in parts:
        if not equals:
            raise typer.BadParameter(f"--set {name}: write NAME=VALUE.")
    return {name: value for name, _, value in parts}


def given_once(**flags: Any) -> dict[str, list[Any] | None]:
    """Return flags that take one value in the form of those that take several; None stays None."""
    return {name: None if value is None else [value] for name, value in flags.items()}


def tell_progress() -> Callable[[Progress], None]:
    """Return what prints the progress of a fit on stderr: one line that changes on a terminal, else now and then."""
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

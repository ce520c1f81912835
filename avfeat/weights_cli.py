"""``avfeat weights``: find, fetch, convert and check the files that encoders need."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Annotated

import typer

from avfeat.console import align, errors_to_exit
from avfeat.errors import WeightsError

if TYPE_CHECKING:
    from avfeat.encoders.base import Card

app = typer.Typer(
    help="Find, fetch, convert and check the weights of encoders.", no_args_is_help=True, rich_markup_mode=None
)

Name = Annotated[str, typer.Argument(metavar="ENCODER", help="An encoder with weights, see avfeat weights list.")]


@app.command("list", epilog="Example: avfeat weights list")
@errors_to_exit()
def list_() -> None:
    """List the weight files of all encoders: which are here, what they weigh, where they come from."""
    from avfeat.encoders import card_of, known_encoders

    rows: list[tuple[object, ...]] = [("encoder", "file", "MB", "here", "licence", "address")]
    for name in known_encoders():
        module, card = _module(name), card_of(name)
        here = "no" if hasattr(module, "missing") and module.missing(name) else "yes"
        for file in card.weights:
            size = round(file.size_bytes / 1e6) if file.size_bytes else ""
            rows.append((name, file.name, size, here, card.licence, file.address))
    print(align(rows))


@app.command(epilog="Example: avfeat weights get avhubert-large")
@errors_to_exit()
def get(name: Name) -> None:
    """Fetch an encoder's weights from their published address, and convert them where they are pickles."""
    module, card = _with_weights(name, "fetch")
    for file in card.weights:
        print(f"fetching {file.address}; {card.licence_note or card.licence}", file=sys.stderr)
    print(module.fetch(name))


@app.command(epilog="Example: avfeat weights path avhubert-large")
@errors_to_exit()
def path(name: Name) -> None:
    """Print where an encoder's weights are, or where its file belongs."""
    module, _ = _with_weights(name, "where")
    print(module.where(name))


@app.command(epilog="Example: avfeat weights check")
@errors_to_exit()
def check(
    name: Annotated[str | None, typer.Argument(metavar="[ENCODER]", help="Only this one's files.")] = None,
) -> None:
    """Hash the weight files on this machine anew; exit code 1 when one is not what it should be."""
    from avfeat.encoders import known_encoders

    seen: dict[str, None] = {}
    for each in [name] if name else known_encoders():
        module = _with_weights(each, "check")[0] if name else _module(each)
        if hasattr(module, "check"):
            seen |= dict.fromkeys(module.check(each))
    print("\n".join(seen) or "no weight files that we keep are on this machine")


@app.command(epilog="Example: avfeat weights convert self_large_vox_433h.pt")
@errors_to_exit()
def convert(
    file: Annotated[Path, typer.Argument(help="An official AV-HuBERT file.")],
    encoder: Annotated[
        str, typer.Option(help="The encoder that the file is; by default the one whose file has this name.")
    ] = "",
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The .safetensors file to write; by default where the encoder looks for it."),
    ] = None,
) -> None:
    """Read an official file without running anything in it, and write its encoder as safetensors and JSON."""
    from avfeat.encoders.avhubert import loading, published

    named = published.find(encoder, file.name)
    target = out or (named.converted if named else file.with_suffix(".safetensors"))
    weights = loading.convert(file, target, named)
    net = weights.architecture
    place = "before" if net.norm_first else "after"
    print(
        f"{target}: {len(weights.tensors)} tensors, width {net.width}, {net.layers} blocks, {net.heads} heads, "
        f"norms {place} attention and feed-forward"
    )
    if weights.inert:
        print(f"objects in the file that were left out, none of them run: {', '.join(weights.inert)}", file=sys.stderr)
    print(published.LICENCE_NOTE, file=sys.stderr)


def _module(name: str) -> ModuleType:
    from avfeat.encoders import known_encoders

    return importlib.import_module(known_encoders()[name])


def _with_weights(name: str, function: str) -> tuple[ModuleType, Card]:
    """Return an encoder's module, which has ``function``, and its card."""
    from avfeat.encoders import card_of

    card = card_of(name)
    if not card.weights:
        raise WeightsError(f"{name} has no weights: there is nothing to fetch.")
    module = _module(name)
    if not hasattr(module, function):
        raise WeightsError(f"{name} keeps its weights elsewhere: avfeat encoders {name} says where they come from.")
    return module, card

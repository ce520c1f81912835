"""``avfeat import`` and ``avfeat export``: features that were made elsewhere, and features for use elsewhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from avfeat.console import errors_to_exit
from avfeat.progress import Progress

if TYPE_CHECKING:
    from avfeat.convert import Imported

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

FINISHED_WITH_FAILURES = 3

Store = Annotated[Path, typer.Option(help="The store's folder.")]
Feature = Annotated[str, typer.Option(help="The feature's name in the store.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("import", epilog="Example: avfeat import npz/av1m --manifest av1m.parquet --feature xlsr-2b --store store")
@errors_to_exit()
def import_arrays(
    arrays: Annotated[Path, typer.Argument(help="A folder of npz or npy files, one a clip, or an HDF5 file.")],
    manifest: Annotated[Path, typer.Option(help="The manifest of the clips.")],
    feature: Feature,
    store: Store,
    key: Annotated[str | None, typer.Option(help="Which array of an npz file: audio, visual, multimodal, …")] = None,
    rate_hz: Annotated[float | None, typer.Option(min=0.001, help="Rows per second.", show_default="25")] = None,
    first_seconds: Annotated[
        float | None, typer.Option(help="Time of row 0.", show_default="middle of the first step")
    ] = None,
    dtype: Annotated[
        Literal["float16", "float32"] | None, typer.Option(help="How rows are stored.", show_default="as they are")
    ] = None,
    licence: Annotated[str | None, typer.Option(help="Terms of the numbers; an export's own travel along.")] = None,
    source: Annotated[str | None, typer.Option(help="Where they come from.")] = None,
    part_clips: Annotated[int | None, typer.Option(min=1, help="Clips per part.", show_default="by size")] = None,
    retry: Annotated[Literal["failed"] | None, typer.Option(help="Do again the clips that failed.")] = None,
    as_json: Json = False,
) -> None:
    """Bring your own features; pickles are never loaded. Exit code 3 when clips failed."""
    from avfeat.convert import Provenance, import_features
    from avfeat.manifest import Manifest

    clips = Manifest.read(manifest)
    about = Provenance(rate_hz, first_seconds, dtype, licence, source)
    with Progress(len(clips)) as progress:
        report = import_features(
            clips,
            arrays,
            store,
            feature,
            key=key,
            provenance=about,
            part_clips=part_clips,
            retry_failed=retry == "failed",
            advance=progress.advance,
        )
    print(_json(report) if as_json else _text(report, store))
    if report.failures:
        raise typer.Exit(FINISHED_WITH_FAILURES)


@app.command("export", epilog="Example: avfeat export av1m out --feature xlsr-2b --store store --form hdf5")
@errors_to_exit()
def export_arrays(
    manifest: Annotated[str, typer.Argument(help="A manifest of the store, by its key or name.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not be there.")],
    feature: Feature,
    store: Store,
    form: Annotated[Literal["npz", "npy", "hdf5"], typer.Option(help="A file for each clip, or one of all.")] = "npz",
    key: Annotated[str, typer.Option(help="The array's name in npz files.")] = "arr_0",
    drop_folders: Annotated[int, typer.Option(min=0, help="Leave out so many leading folders of each name.")] = 0,
    as_json: Json = False,
) -> None:
    """Write a feature for use elsewhere, with its provenance, its licences and lists of labels."""
    from avfeat.convert_export import export_feature
    from avfeat.store import open_store

    with Progress(open_store(store)[manifest][feature].index().num_rows) as progress:
        done = export_feature(
            store, manifest, feature, out, form=form, key=key, drop_folders=drop_folders, advance=progress.advance
        )
    if as_json:
        print(json.dumps({"out": str(out), "clips": done.clips, "failures": dict(done.failures)}, indent=2))
        return
    print(f"{done.clips} clips written to {out}")
    for kind, count in sorted(done.failures.items()):
        print(f"{count} without rows ({kind}): why is in clips.csv")


def _text(report: Imported, store: Path) -> str:
    from avfeat.manifest_rules import name_five

    lines = [f"{report.clips} clips imported to {store}"]
    lines += [f"{count} failed ({kind})" for kind, count in sorted(report.failures.items())]
    if report.failures:
        lines.append(f"Reasons: avfeat status {store} --why. To do them again: the same command with --retry failed.")
    elif not report.clips:
        lines.append(f"Nothing was left to do; avfeat status {store} counts what is there.")
    if report.strangers:
        lines.append(f"note: {len(report.strangers)} arrays belong to no clip: {name_five(report.strangers)}")
    return "\n".join([*lines, *([f"note: {report.note}"] if report.note else [])])


def _json(report: Imported) -> str:
    facts = {"clips": report.clips, "failures": dict(report.failures), "strangers": report.strangers}
    return json.dumps(facts | {"note": report.note}, indent=2, ensure_ascii=False)

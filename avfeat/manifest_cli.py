"""``avfeat manifest``: make, check and show manifests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from avfeat.console import align, errors_to_exit
from avfeat.progress import Progress, duration

if TYPE_CHECKING:
    from avfeat.datasets.base import Listing
    from avfeat.manifest import DatasetInfo
    from avfeat.manifest_build import Built
    from avfeat.manifest_check import Report
    from avfeat.manifest_summary import Summary

app = typer.Typer(help="Make, check and show manifests: tables of clips.", no_args_is_help=True)
build_app = typer.Typer(help="Make a manifest of a dataset: list its clips and probe each file.", no_args_is_help=True)
app.add_typer(build_app, name="build")

Out = Annotated[Path, typer.Option("--out", "-o", help="The Parquet file to write.")]
Name = Annotated[str, typer.Option(help="Dataset name, a-z 0-9 . _ -; by default that of the output file.")]
Version = Annotated[str, typer.Option(help="Version of the dataset.")]
Source = Annotated[str, typer.Option(help="Where the dataset comes from.")]
Licence = Annotated[str, typer.Option(help="Terms of the dataset.")]
Probe = Annotated[bool, typer.Option("--probe/--no-probe", help="Open each file for its duration, size and streams.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads that read files.", show_default="by processors")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ManifestFile = Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest file.")]


@build_app.command(epilog="Example: avfeat manifest build folder /data/clips -o clips.parquet")
@errors_to_exit()
def folder(
    root: Annotated[Path, typer.Argument(help="The folder that holds the videos.")],
    out: Out,
    labels_from_folders: Annotated[
        bool, typer.Option("--labels-from-folders", help="Folders named real or fake tell the label.")
    ] = False,
    name: Name = "",
    version: Version = "",
    source: Source = "",
    licence: Licence = "",
    probe: Probe = True,
    workers: Workers = None,
) -> None:
    """List every video below a folder; labels and splits stay unknown."""
    from avfeat.datasets.folder import read
    from avfeat.manifest import DatasetInfo

    info = DatasetInfo(name or out.stem, version, str(root.resolve()), source, licence)
    _build(read(root, labels_from_folders=labels_from_folders), info, out, probe, workers)


@build_app.command(epilog="Example: avfeat manifest build csv /data/clips/clips.csv -o clips.parquet")
@errors_to_exit()
def csv(
    file: Annotated[
        Path, typer.Argument(help="A CSV file with a column path; label, split, segments, … are optional.")
    ],
    out: Out,
    root: Annotated[
        Path | None, typer.Option(help="What paths are relative to.", show_default="the file's folder")
    ] = None,
    name: Name = "",
    version: Version = "",
    source: Source = "",
    licence: Licence = "",
    probe: Probe = True,
    workers: Workers = None,
) -> None:
    """Take the clips that a CSV file lists, one line each, with any columns that a manifest has."""
    from avfeat.datasets.csv import read
    from avfeat.manifest import DatasetInfo

    info = DatasetInfo(name or out.stem, version, str((root or file.parent).resolve()), source, licence)
    _build(read(file), info, out, probe, workers)


@app.command(epilog="Example: avfeat manifest check clips.parquet --root /data/clips")
@errors_to_exit()
def check(
    manifest: ManifestFile,
    root: Annotated[Path | None, typer.Option(help="The folder with the media.", show_default="as built")] = None,
    media: Annotated[bool, typer.Option("--media/--no-media", help="Look at the files, not only at the table.")] = True,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Say whether a manifest is true of its files and in itself; exit code 1 when it finds an error."""
    from avfeat.manifest import Manifest
    from avfeat.manifest_check import check as check_manifest

    clips = Manifest.read(manifest)
    where = clips.media_root(root) if media else None
    with Progress(len(clips) if media else 0, unit="files") as progress:
        report = check_manifest(clips, where, workers=workers, advance=progress.advance)
    print(_report_json(clips.key, report) if as_json else _report_text(report))
    raise typer.Exit(1 if report.has_errors else 0)


@app.command(epilog="Example: avfeat manifest show clips.parquet")
@errors_to_exit()
def show(manifest: ManifestFile, as_json: Json = False) -> None:
    """Print what a manifest holds: name, digest, clips by split and label, duration, media facts."""
    from dataclasses import asdict

    from avfeat.manifest import Manifest
    from avfeat.manifest_summary import summarise

    summary = summarise(Manifest.read(manifest))
    print(json.dumps(asdict(summary), indent=2, ensure_ascii=False) if as_json else _summary_text(summary))


def _build(listing: Listing, info: DatasetInfo, out: Path, probe: bool, workers: int | None) -> None:
    from avfeat.manifest_build import build

    with Progress(len(listing.rows) if probe else 0, unit="files") as progress:
        built = build(listing, info, probe_media=probe, workers=workers, advance=progress.advance)
    built.manifest.write(out)
    print(_built_text(built, listing.notes, out))


def _built_text(built: Built, notes: list[str], out: Path) -> str:
    from avfeat.manifest_rules import name_five

    rows: list[tuple[object, ...]] = [
        ("clips", len(built.manifest), ""),
        ("missing", len(built.missing), name_five(built.missing)),
        ("unreadable", len(built.unreadable), name_five(list(built.unreadable))),
    ]
    reasons = [f"  {clip_id}: {sentence}" for clip_id, sentence in list(built.unreadable.items())[:5]]
    return "\n".join([f"{out} is {built.manifest.key}", align(rows), *reasons, *(f"note: {note}" for note in notes)])


def _report_text(report: Report) -> str:
    from avfeat.manifest_rules import name_five

    counts = [("", name, count, "") for name, count in report.counts.items()]
    found = [(f.level, f.kind, len(f.names), name_five(f.names)) for f in report.findings]
    return align([*counts, *found])


def _report_json(key: str, report: Report) -> str:
    from dataclasses import asdict

    facts = {"manifest": key, "has_errors": report.has_errors, **asdict(report)}
    return json.dumps(facts, indent=2, ensure_ascii=False)


def _summary_text(summary: Summary) -> str:
    about = [(name, value) for name, value in summary.info.items() if value and name != "name"]
    head = [("manifest", summary.key), ("digest", summary.digest), *about]
    splits = [("split", "real", "fake", "unknown", "duration")] + [
        (split["split"] or "(none)", split["real"], split["fake"], split["unknown"], duration(split["seconds"]))
        for split in summary.splits
    ]
    counts = [
        ("clips", f"{summary.clips:,}".replace(",", " ")),
        ("speakers", summary.speakers),
        ("methods", summary.methods),
        ("duration", duration(summary.duration_seconds)),
    ]
    facts = [
        (name, ", ".join(f"{'unknown' if value is None else value} ({count})" for value, count in common))
        for name, common in summary.facts.items()
    ]
    return "\n\n".join([align(head), align(splits), align([(n, str(v)) for n, v in counts] + facts)])

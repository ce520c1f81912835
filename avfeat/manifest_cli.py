"""``avfeat manifest``: make, check and show manifests."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from avfeat.console import align, errors_to_exit
from avfeat.manifest_build_cli import Out, Workers
from avfeat.manifest_build_cli import app as build_app
from avfeat.progress import Progress, duration

if TYPE_CHECKING:
    from avfeat.audit import Audit
    from avfeat.manifest_check import Report
    from avfeat.manifest_split import Resplit
    from avfeat.manifest_summary import Summary

app = typer.Typer(
    help="Make, split, check and audit manifests: tables of clips.", no_args_is_help=True, rich_markup_mode=None
)
app.add_typer(build_app, name="build")

_MOST_COPIES = 3

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ManifestFile = Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest file.")]


@app.command(epilog="Example: avfeat manifest check clips.parquet --root /data/clips")
@errors_to_exit()
def check(
    manifest: ManifestFile,
    root: Annotated[Path | None, typer.Option(help="The folder with the media.", show_default="as built")] = None,
    media: Annotated[bool, typer.Option("--media/--no-media", help="Look at the files, not only at the table.")] = True,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Say whether a manifest is true of its files. Exit code 1 when it is not, or contradicts itself."""
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
    """Print what a manifest holds. Name, digest, clips by split and label, duration, media facts."""
    from dataclasses import asdict

    from avfeat.manifest import Manifest
    from avfeat.manifest_summary import summarise

    summary = summarise(Manifest.read(manifest))
    print(json.dumps(asdict(summary), indent=2, ensure_ascii=False) if as_json else _summary_text(summary))


@app.command(epilog="Example: avfeat manifest split favc.parquet --from csv_metadata/favc -o favc-split.parquet")
@errors_to_exit()
def split(
    manifest: ManifestFile,
    out: Out,
    lists: Annotated[
        list[str] | None,
        typer.Option(
            "--from",
            help="A CSV list whose name begins with the split's (train_labels.csv), NAME=list, or a folder of lists; "
            "may be repeated.",
        ),
    ] = None,
    only_listed: Annotated[bool, typer.Option("--only-listed", help="Leave out the clips that no list names.")] = False,
    by: Annotated[
        Literal["speaker", "original"] | None, typer.Option(help="Deal whole groups of clips to the splits.")
    ] = None,
    ratio: Annotated[str, typer.Option(help="Shares for --by, on average over groups.")] = "0.8,0.1,0.1",
    names: Annotated[
        str | None, typer.Option(help="Splits for --by.", show_default="train,test or train,val,test")
    ] = None,
    seed: Annotated[int, typer.Option(help="Another seed deals anew.")] = 0,
    as_json: Json = False,
) -> None:
    """Give clips their splits. From published lists (--from), or dealt so that nobody is in two splits (--by).

    The new manifest has another digest, so split before you extract.
    """
    from avfeat.manifest import Manifest
    from avfeat.manifest_split import read_lists, split_by, split_from

    if (by is None) == (not lists):
        raise typer.BadParameter("give either --from or --by.")
    clips = Manifest.read(manifest)
    if by is None:
        result = split_from(clips, read_lists(lists or []), only_listed=only_listed)
    else:
        result = split_by(clips, by, _shares(ratio), seed=seed, names=names.split(",") if names else None)
    result.manifest.write(out)
    print(_split_json(result) if as_json else _split_text(result, out))


def _shares(text: str) -> list[float]:
    try:
        return [float(share) for share in text.split(",")]
    except ValueError:
        raise typer.BadParameter(f"--ratio {text!r}: write shares with commas, e.g. 0.8,0.1,0.1.") from None


def _split_text(result: Resplit, out: Path) -> str:
    heads = ("split", "listed", "found", "real", "fake")
    lines = [(each.split, each.listed, each.found, each.real, each.fake) for each in result.counts]
    notes = [f"note: {note}" for note in result.notes]
    return "\n".join([f"{out} is {result.manifest.key}", align([heads, *lines]), *notes])


def _split_json(result: Resplit) -> str:
    from dataclasses import asdict

    facts = {"manifest": result.manifest.key, "splits": [asdict(each) for each in result.counts], "notes": result.notes}
    return json.dumps(facts, indent=2, ensure_ascii=False)


@app.command(epilog="Example: avfeat manifest audit favc.parquet --figures audit --json")
@errors_to_exit()
def audit(
    manifests: Annotated[
        list[Path], typer.Argument(metavar="MANIFEST", help="Manifest files; each is audited on its own.")
    ],
    root: Annotated[Path | None, typer.Option(help="The folder with the media.", show_default="as built")] = None,
    media: Annotated[
        bool, typer.Option("--media/--no-media", help="Decode the files, or read the table alone.")
    ] = True,
    sample: Annotated[int | None, typer.Option(min=1, help="Decode so many clips only.", show_default="all")] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for one PNG of each finding.")] = None,
    workers: Workers = None,
    as_json: Json = False,
) -> None:
    """Find leaks between splits, and shortcuts. A shortcut tells the label without looking at any forgery.

    Exit code 1 when something leaks.
    """
    from avfeat.audit import audit as audit_manifest
    from avfeat.manifest import Manifest

    leaks = 0
    for number, clips in enumerate(map(Manifest.read, manifests)):
        where = clips.media_root(root) if media else None
        with Progress(min(sample or len(clips), len(clips)) if media else 0) as progress:
            found = audit_manifest(clips, where, sample=sample, workers=workers, advance=progress.advance)
        if figures is not None:
            from avfeat.audit_figures import draw

            for path in draw(found, figures):
                print(path, file=sys.stderr)
        if as_json:
            print(found.to_json())
        else:
            print("\n" * (number > 0) + _audit_text(found))
        leaks += len(found.leaks)
    raise typer.Exit(1 if leaks else 0)


def _audit_text(found: Audit) -> str:
    from avfeat.manifest_rules import name_five

    heads = ("split", "real", "fake", "unknown")
    balance = align([heads, *((each["split"], each["real"], each["fake"], each["unknown"]) for each in found.balance)])
    lines: list[tuple[object, ...]] = [("alone it tells the label", "AUC", "p", "real", "fake", "")]
    for each in found.nuisances:
        name = f"{each.name} ({each.unit})" if each.unit else each.name
        mark = "SHORTCUT" if each.shortcut else ""
        lines.append((name, f"{each.auc:.3f}", f"{each.p_value:.1g}", each.real, each.fake, mark))
    odd = [("LEAK", leak.what, len(leak.names), name_five(list(map(_group, leak.names)))) for leak in found.leaks]
    odd += [("warning", each.what, len(each.clips), name_five(each.clips)) for each in found.warnings]
    if found.unreadable:
        odd.append(
            ("warning", "clips that cannot be decoded", len(found.unreadable), name_five(list(found.unreadable)))
        )
    blocks = [f"{found.manifest}: {found.measured} of {found.clips} clips measured", balance]
    blocks += [align(lines)] if found.nuisances else []
    blocks += [align(odd)] if odd else []
    blocks += ["\n".join(f"note: {note}" for note in found.notes)] if found.notes else []
    return "\n\n".join(blocks)


def _group(name: str) -> str:
    """Return the first three of many clips that are one, and how many they are; JSON has them all."""
    clips = name.split(" = ")
    return name if len(clips) <= _MOST_COPIES else f"{' = '.join(clips[:_MOST_COPIES])} = … ({len(clips)} clips)"


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

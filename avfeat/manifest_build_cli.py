"""``avfeat manifest build``: one command for each release, and for folders and CSV files."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from avfeat.console import align, errors_to_exit
from avfeat.progress import Progress

if TYPE_CHECKING:
    from avfeat.datasets.base import FolderCount, Listing
    from avfeat.manifest import DatasetInfo
    from avfeat.manifest_build import Built

app = typer.Typer(
    help="Make a manifest of a dataset. Its clips are listed, and each file is probed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Out = Annotated[Path, typer.Option("--out", "-o", help="The Parquet file to write.")]
Name = Annotated[str, typer.Option(help="Dataset name, a-z 0-9 . _ -; by default that of the output file.")]
Version = Annotated[str, typer.Option(help="Version of the dataset.")]
Source = Annotated[str, typer.Option(help="Where the dataset comes from.")]
Licence = Annotated[str, typer.Option(help="Terms of the dataset.")]
Probe = Annotated[bool, typer.Option("--probe/--no-probe", help="Look for each file and open it for its media facts.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Threads that read files.", show_default="by processors")]
ReleaseName = Annotated[str, typer.Option(help="Dataset name, by default that of the release.")]
Root = Annotated[Path, typer.Argument(metavar="ROOT", help="The folder that the release was unpacked to.")]


@app.command(epilog="Example: avfeat manifest build folder /data/clips -o clips.parquet")
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
    """List every video below a folder. Labels and splits stay unknown."""
    from avfeat.datasets.folder import read
    from avfeat.manifest import DatasetInfo

    info = DatasetInfo(name or out.stem, version, str(root.resolve()), source, licence)
    _build(read(root, labels_from_folders=labels_from_folders), info, out, probe, workers)


@app.command(epilog="Example: avfeat manifest build csv /data/clips/clips.csv -o clips.parquet")
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
    """Take the clips that a CSV file lists. One line is one clip, with any columns that a manifest has."""
    from avfeat.datasets.csv import read
    from avfeat.manifest import DatasetInfo

    info = DatasetInfo(name or out.stem, version, str((root or file.parent).resolve()), source, licence)
    _build(read(file), info, out, probe, workers)


@app.command(epilog="Example: avfeat manifest build dfe2024 /data/DFE2024 -o dfe2024.parquet")
@errors_to_exit()
def dfe2024(
    root: Root,
    out: Out,
    label: Annotated[
        Literal["either", "video", "audio"],
        typer.Option(help="either: fake if one stream is fake, real if both are real; or the label of one stream."),
    ] = "either",
    name: ReleaseName = "",
    probe: Probe = True,
    workers: Workers = None,
) -> None:
    """Deepfake-Eval-2024: from social media.

    ROOT holds video-metadata-publish.csv and video-data. What nobody could label stays null.
    """
    from avfeat.datasets import dfe2024

    _build_release(dfe2024.read(root, look=probe, rule=label), dfe2024.ABOUT, root, name, out, probe, workers)


@app.command(epilog="Example: avfeat manifest build voxceleb2 /data/voxceleb2 --list vox-en.id.gz -o vox2-en.parquet")
@errors_to_exit()
def voxceleb2(
    root: Root,
    out: Out,
    clips: Annotated[
        Path | None, typer.Option("--list", help="Only the clips of this list, one path a line; gzip too.")
    ] = None,
    name: ReleaseName = "",
    probe: Probe = True,
    workers: Workers = None,
) -> None:
    """VoxCeleb2: real clips of many people.

    ROOT holds dev/mp4 and test/mp4, or one of them; vox2_meta.csv is compared where it is there.
    """
    from avfeat.datasets import voxceleb2

    listing = voxceleb2.read(root, look=probe, clips=clips)
    _build_release(listing, voxceleb2.ABOUT, root, name, out, probe, workers)


@app.command(epilog="Example: avfeat manifest build avlips /data/AVLips -o avlips.parquet")
@errors_to_exit()
def avlips(root: Root, out: Out, name: ReleaseName = "", probe: Probe = True, workers: Workers = None) -> None:
    """AVLips: lip-synced fakes and real clips.

    ROOT holds 0_real and 1_fake, which are the labels.
    """
    from avfeat.datasets import avlips

    _build_release(avlips.read(root), avlips.ABOUT, root, name, out, probe, workers)


def _add_release(release: str, summary: str, holds: str) -> None:
    """Add the command of a release whose reader has no options of its own."""

    @errors_to_exit()
    def command(root: Root, out: Out, name: ReleaseName = "", probe: Probe = True, workers: Workers = None) -> None:
        reader = import_module(f"avfeat.datasets.{release}")
        _build_release(reader.read(root, look=probe), reader.ABOUT, root, name, out, probe, workers)

    example = f"Example: avfeat manifest build {release} /data/{release} -o {release}.parquet"
    app.command(release, help=f"{summary}\n\n{holds}", epilog=example)(command)


for _release, _summary, _holds in (
    (
        "favc",
        "FakeAVCeleb v1.2: fakes of each stream.",
        "ROOT holds meta_data.csv and the folders of the four types. There are no official splits.",
    ),
    (
        "av1m",
        "AV-Deepfake1M, and its ++ edition.",
        "ROOT holds train_metadata.json, val_metadata.json and *_files.txt, or some of them, beside the folders of the "
        "splits. Without such a list, train and val are read from the JSON files of single clips. Labels of test clips "
        "are hidden: null.",
    ),
    (
        "lavdf",
        "LAV-DF: words replaced in clips.",
        "ROOT holds metadata.min.json or metadata.json, and train, dev and test.",
    ),
    (
        "exddv",
        "ExDDV: fakes that people explained.",
        "ROOT holds ExDDV.csv and, at any depth, the videos of the four datasets that it is about.",
    ),
):
    _add_release(_release, _summary, _holds)


def _build_release(
    listing: Listing, about: DatasetInfo, root: Path, name: str, out: Path, probe: bool, workers: int | None
) -> None:
    from avfeat.datasets.base import release_info

    _build(listing, release_info(about, root, name), out, probe, workers)


def _build(listing: Listing, info: DatasetInfo, out: Path, probe: bool, workers: int | None) -> None:
    from avfeat.manifest_build import build

    with Progress(len(listing.rows) if probe else 0, unit="files") as progress:
        built = build(listing, info, probe_media=probe, workers=workers, advance=progress.advance)
    built.manifest.write(out)
    print(_built_text(built, listing, out))


def _built_text(built: Built, listing: Listing, out: Path) -> str:
    from avfeat.manifest_rules import name_five

    rows: list[tuple[object, ...]] = [("clips", len(built.manifest), "")]
    # Of a release, the table of its folders tells what is missing; the manifest has only what is there.
    rows += [] if listing.folders else [("missing", len(built.missing), name_five(built.missing))]
    rows += [("unreadable", len(built.unreadable), name_five(list(built.unreadable)))]
    reasons = [f"  {clip_id}: {sentence}" for clip_id, sentence in list(built.unreadable.items())[:5]]
    notes = [f"note: {note}" for note in listing.notes]
    return "\n".join([f"{out} is {built.manifest.key}", *_folders(listing.folders), align(rows), *reasons, *notes])


def _folders(counts: list[FolderCount]) -> list[str]:
    """Return the table of what a release lists and what of it is there; nothing where no release was read."""
    lines: list[tuple[object, ...]] = [
        (
            each.folder,
            "no list" if each.listed is None else each.listed,
            "not looked for" if each.found is None else each.found,
            "unknown" if each.missing is None else each.missing,
        )
        for each in counts
    ]
    return [align([("folder", "listed", "found", "missing"), *lines])] if lines else []

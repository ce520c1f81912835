"""``avfeat``: parses, calls, prints, and nothing else. Nothing heavy is imported until a command needs it."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from avfeat.console import align, errors_to_exit
from avfeat.convert_cli import app as convert_app
from avfeat.manifest_cli import app as manifest_app
from avfeat.progress import duration
from avfeat.weights_cli import app as weights_app

if TYPE_CHECKING:
    from avfeat.options import Report, Spent
    from avfeat.run import Estimate

app = typer.Typer(
    help="Frozen audio-visual features of talking-face videos, extracted once and stored whole.\n\n"
    "Exit codes: 0 all done, 1 stopped or found something wrong, 2 wrong command, 3 finished with failed clips.",
    no_args_is_help=True,
    rich_markup_mode=None,  # drawing help with rich takes longer than all the rest of it
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"max_content_width": 120},
)
app.add_typer(manifest_app, name="manifest")
app.add_typer(weights_app, name="weights")
app.add_typer(convert_app)

FINISHED_WITH_FAILURES = 3
STATUS_HEADS = {
    False: ("manifest", "feature", "clips", "done", "truncated", "failed", "missing", "frames", "MB"),
    True: ("manifest", "feature", "clip", "status", "error", "why"),
}

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
StorePath = Annotated[Path, typer.Argument(metavar="STORE", help="The store's folder.")]


@app.command(epilog="Example: avfeat doctor --device cuda:0")
@errors_to_exit()
def doctor(
    device: Annotated[str, typer.Option(help="The torch device to try: auto, cpu, cuda:0, …")] = "auto",
    as_json: Json = False,
) -> None:
    """Say whether this machine is able to run, and what to install where it is not."""
    from avfeat.doctor import examine

    findings = examine(device)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    else:
        print(align([("ok" if each.works else "FAILS", each.part, each.sentence) for each in findings]))
    if not all(finding.works for finding in findings):
        raise typer.Exit(1)


@app.command(epilog="Example: avfeat encoders xlsr-2b")
@errors_to_exit()
def encoders(
    name: Annotated[str | None, typer.Argument(help="Show the whole card of this encoder.")] = None,
    as_json: Json = False,
) -> None:
    """List the encoders: what each reads and gives, its licence, and what this machine lacks to run it."""
    from avfeat.encoders import catalogue, describe
    from avfeat.encoders_cli import card, table

    rows = [describe(name)] if name else catalogue()
    if as_json:
        print(json.dumps(rows[0] if name else rows, indent=2))
    elif name:
        print(card(rows[0]))
    else:
        print(table(rows))
        print("its whole card, and where its weights come from: avfeat encoders NAME; NAME-random needs none")
        print("any other checkpoint that transformers can load: hf:OWNER/NAME or hf:/path/to/folder")


@app.command(epilog="Example: avfeat views talk.mp4 -o sheet.png")
@errors_to_exit()
def views(
    clip: Annotated[Path, typer.Argument(help="A video.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The PNG to write.")],
    on_no_face: Annotated[Literal["fail", "center"], typer.Option(help="What to cut where no face is.")] = "fail",
) -> None:
    """Draw what the encoders see of one video: whole frames with landmarks, face crops, mouth crops."""
    from avfeat.sheet import draw_views
    from avfeat.views import ViewSettings

    draw_views(clip, out, ViewSettings(on_no_face=on_no_face))
    print(out)


@app.command(epilog="Example: avfeat extract mine.parquet --root videos --encoder logmel --store store")
@errors_to_exit()
def extract(
    manifest: Annotated[Path, typer.Argument(metavar="MANIFEST", help="A manifest file.")],
    encoder: Annotated[
        list[str], typer.Option(help="A feature, <encoder>[.<stream>][@<layer>]; repeat it for several, in one decode.")
    ],
    store: Annotated[Path, typer.Option(help="The store's folder, made when it is not there.")],
    root: Annotated[
        Path | None, typer.Option(help="The folder of the videos.", show_default="the one in the manifest")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu or cuda:N.")] = "auto",
    dtype: Annotated[Literal["float16", "float32"], typer.Option(help="How rows are stored.")] = "float16",
    codec: Annotated[Literal["none", "zstd"], typer.Option(help="zstd: smaller by some 6 %, slower to read.")] = "none",
    dtype_compute: Annotated[
        Literal["fp32", "bf16", "fp16"], typer.Option(help="What networks compute in; rows differ by about 1 %.")
    ] = "fp32",
    compiled: Annotated[
        bool, typer.Option("--compile", help="Compile networks before they run; see docs/encoders.md.")
    ] = False,
    part_clips: Annotated[
        int | None, typer.Option(min=1, help="Clips per part, the unit of commit.", show_default="16 to 500 by size")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that read clips.", show_default="one per CPU")
    ] = None,
    shard: Annotated[str, typer.Option(metavar="I/N", help="Do every N-th part only, from the I-th.")] = "0/1",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after this many clips, in whole parts.")] = None,
    retry: Annotated[
        Literal["failed"] | None, typer.Option(help="Do again the clips that failed, and nothing else.")
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="PATH|random[:SEED]", help="An encoder's own file or folder, or seeded random weights."),
    ] = None,
    setting: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=VALUE", help="One of an encoder's settings, see avfeat encoders NAME."),
    ] = None,
    trim_silence: Annotated[
        bool,
        typer.Option("--trim-silence", help="Leave out leading silence: features NAME-trimmed in place of NAME."),
    ] = False,
    on_no_face: Annotated[
        Literal["fail", "center"],
        typer.Option(help="Without a face: fail the clip (face and mouth views), or crop the middle as the reference."),
    ] = "fail",
    landmarks: Annotated[
        Literal["mediapipe", "dlib"],
        typer.Option(
            help="Who finds the face: MediaPipe, or dlib frame by frame as the paper did (pip: avfeat[dlib])."
        ),
    ] = "mediapipe",
    landmarker: Annotated[Path | None, typer.Option(help="MediaPipe's face_landmarker.task.")] = None,
    clip_timeout: Annotated[float, typer.Option(min=1, help="Give up a clip silent for so many seconds.")] = 120.0,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done and how long it takes.")] = False,
    as_json: Json = False,
) -> None:
    """Extract what is missing; safe to run again, from any number of machines at once."""
    from avfeat.encoders import trimmed
    from avfeat.manifest import Manifest
    from avfeat.options import Options
    from avfeat.plan import Shard
    from avfeat.run import estimate
    from avfeat.run import extract as run
    from avfeat.views import ViewSettings

    clips = Manifest.read(manifest)
    folder = clips.media_root(root)
    file, seed = _weights(weights)
    options = Options(
        device=device,
        dtype=dtype,
        codec=codec,
        dtype_compute=dtype_compute,
        compile=compiled,
        part_clips=part_clips,
        workers=workers,
        shard=Shard.parse(shard),
        limit=limit,
        retry_failed=retry == "failed",
        landmarker=landmarker,
        silent_seconds=clip_timeout,
        views=ViewSettings(on_no_face=on_no_face, landmarks=landmarks),
    )
    encoder = trimmed(encoder) if trim_silence else encoder
    how: dict[str, Any] = {"weights": file, "seed": seed, "settings": _settings(setting or [])}
    if dry_run:
        _print_estimate(estimate(clips, folder, encoder, store, options, **how), as_json)
        return
    report = run(clips, folder, encoder, store, options, **how)
    _print_report(report, store, as_json)
    if report.stopped:
        raise typer.Exit(1)
    if report.failed:
        raise typer.Exit(FINISHED_WITH_FAILURES)


@app.command(epilog="Example: avfeat status store --json")
@errors_to_exit()
def status(
    store: StorePath,
    why: Annotated[bool, typer.Option("--why", help="List each clip that failed or was cut short, and why.")] = False,
    as_json: Json = False,
) -> None:
    """Count what is done, failed and missing of each feature; works from any machine that sees the disk."""
    from avfeat.store_status import reasons
    from avfeat.store_status import status as read_status

    rows = reasons(store) if why else read_status(store)
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
    elif not rows:
        print("nothing failed" if why else "nothing is extracted yet")
    else:
        print(align([STATUS_HEADS[why], *(row.cells() for row in rows)]))


@app.command(epilog="Example: avfeat check store --repair")
@errors_to_exit()
def check(
    store: StorePath,
    quick: Annotated[bool, typer.Option("--quick", help="All but the frames themselves.")] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Drop bad parts, so that the next extract does them again.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say whether a store is whole and true, byte by byte, and drop what is not."""
    from avfeat.store_check import check_store

    report = check_store(store, deep=not quick, repair=repair)
    print(report.to_json() if as_json else "\n".join(report.lines()))
    if not report.ok:
        raise typer.Exit(1)


def _weights(text: str | None) -> tuple[Path | None, int | None]:
    """Return (file or folder, seed), one of them or none."""
    if text is None:
        return None, None
    if text == "random" or (text.startswith("random:") and text.removeprefix("random:").isdigit()):
        return None, int(text.removeprefix("random").removeprefix(":") or 0)
    return Path(text), None


def _settings(texts: list[str]) -> dict[str, str]:
    parts = [text.partition("=") for text in texts]
    for name, equals, _ in parts:
        if not equals:
            raise typer.BadParameter(f"--set {name}: write NAME=VALUE.")
    return {name: value for name, _, value in parts}


def _print_report(report: Report, store: Path, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(report), indent=2))
        return
    rate = f", {report.spent.media / report.seconds:.1f} s of media per second" if report.spent.media else ""
    print(f"{report.clips} clips in {duration(report.seconds)}{rate}; {report.parts} parts committed to {store}")
    if report.spent.media:
        print(_split(report.spent))
    for feature, kinds in sorted(report.failures.items()):
        print(f"{feature}: " + ", ".join(f"{count} failed ({kind})" for kind, count in sorted(kinds.items())))
    if report.failed:
        print(f"Reasons: avfeat status {store} --why. To do them again: the same command with --retry failed.")
    if report.stopped:
        print(f"Stopped as asked with {report.parts_left} parts left. To go on: the same command.", file=sys.stderr)


def _split(spent: Spent) -> str:
    workers = f"{spent.workers} process{'es' if spent.workers > 1 else ''}"
    return (
        f"encode {spent.encode:.1f} s, write {spent.write:.1f} s; beside it in {workers}: "
        f"decode {spent.decode:.1f} s, landmarks {spent.landmarks:.1f} s, crop {spent.crop:.1f} s"
    )


def _print_estimate(plan: Estimate, as_json: bool) -> None:
    if as_json:
        print(json.dumps(asdict(plan), indent=2))
        return
    print(f"{plan.parts} parts, {plan.clips} clips, {plan.media_seconds / 3600:.2f} hours of media")
    for feature, size in plan.bytes_per_feature.items():
        print(f"{feature}: about {size / 1e6:.1f} MB")
    if plan.seconds is None:
        print("no estimate of time: the sample or the manifest says nothing about durations")
    elif plan.clips:
        how = f"{plan.sample_clips} clips took {plan.sample_seconds:.1f} s"
        print(f"about {duration(plan.seconds)} on this machine ({how})")

"""``probes explain``: when and where in a clip a score comes from."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from avfeat.console import align, errors_to_exit
from probes.cli_options import Memory

if TYPE_CHECKING:
    from probes.explain.silence import Silence

app = typer.Typer(
    help="When and where in a clip a probe's score comes from.", no_args_is_help=True, rich_markup_mode=None
)

FINISHED_WITH_FAILURES = 3

ProbeFile = Annotated[Path, typer.Argument(help="A probe's file.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Weights = Annotated[Path | None, typer.Option(help="Where the encoder's weights are now.")]
Device = Annotated[str, typer.Option(help="The encoder's device: auto, cpu or cuda:N.")]
Root = Annotated[Path | None, typer.Option(help="Folder of the media.", show_default="as the manifest says")]


@app.command(epilog="Example: probes explain temporal probe.safetensors store --clip fake/003 --root videos -o fig.png")
@errors_to_exit()
def temporal(
    probe: ProbeFile,
    stores: Annotated[list[Path], typer.Argument(metavar="STORE…", help="One or several stores.")],
    clip: Annotated[list[str], typer.Option(help="A clip_id; several are drawn side by side.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .png, .svg or .pdf.")],
    manifest: Annotated[
        str | None, typer.Option(help="The clips' manifest.", show_default="the one that has them")
    ] = None,
    root: Root = None,
) -> None:
    """Draw frame scores over time, above the sound or three pictures of each clip; print how well fakes are located."""
    from probes.explain.columns import columns
    from probes.figures.figure3 import compose
    from probes.figures.style import check_suffix, save
    from probes.frame_measures import by_rank, measure_tracks
    from probes.probe_file import load_probe

    check_suffix(out)
    head = load_probe(probe)
    found = columns({probe.stem: head}, stores, clip, manifest, root)
    save(compose(found, decision=head.learns_from == "real and fake"), out)
    for column in found:
        if column.missing:
            print(f"{column.trace.clip_id}: {column.missing}, so its curves stand alone; give --root.", file=sys.stderr)
    tracks = [column.trace.track() for column in found if column.trace.segments is not None]
    if any(track.labels().any() for track in tracks):
        measures = measure_tracks(by_rank(tracks), replicates=0)
        print(align([["over these clips", "value"], *([name, f"{each.value:.4f}"] for name, each in measures.items())]))
    print(f"wrote {out}")


@app.command(epilog="Example: probes explain silence probe.safetensors store --test av1m:test --root videos")
@errors_to_exit()
def silence(
    probe: ProbeFile,
    stores: Annotated[list[Path], typer.Argument(metavar="STORE…", help="One or several stores.")],
    test: Annotated[str, typer.Option(metavar="MANIFEST[:SPLIT]", help="The test set.")],
    root: Root = None,
    memory: Memory = None,
    as_json: Json = False,
) -> None:
    """How often the highest frame lies before speech starts, and the AUC with and without that silence."""
    from probes.explain.silence import leading_silence
    from probes.loading import Choice, Source
    from probes.probe_file import load_probe

    head, choice = load_probe(probe), Choice.parse(test)
    source = Source(stores, head.features_, memory)
    loaded = source.load(choice, labelled=False)
    listed = source.manifest(choice.manifest)
    folder = listed.media_root(root)
    found = leading_silence(head, loaded, {each: folder / listed.row(each).path for each in loaded.data.clip_ids})
    print(json.dumps(found.facts(), indent=2) if as_json else "\n".join(_silence_lines(found)))


@app.command(epilog="Example: probes explain spatial probe.safetensors talk.mp4 -o map.png")
@errors_to_exit()
def spatial(
    probe: ProbeFile,
    video: Annotated[Path, typer.Argument(help="A media file.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A .png, .svg or .pdf.")],
    frame: Annotated[
        list[int] | None,
        typer.Option(min=0, help="A frame, 25 a second; several are all drawn.", show_default="the highest"),
    ] = None,
    weights: Weights = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Draw which patches of a picture a linear probe's score comes from; for CLIP, DINOv2 and FSFM."""
    from avfeat.options import Options
    from probes.explain.spatial import explainer, facts
    from probes.figures.heat import draw
    from probes.figures.style import check_suffix
    from probes.probe_file import load_probe

    check_suffix(out)
    taking = explainer(load_probe(probe), weights=weights, options=Options(device=device))
    maps = taking.explain(video, frame)
    draw(maps, out, video.name)
    told = [facts(found) for found in maps]
    print(json.dumps(told, indent=2) if as_json else "\n".join([*map(_spatial_line, told), f"wrote {out}"]))


@app.command(epilog="Example: probes explain clicks probe.safetensors exddv.parquet --split test -o clicks")
@errors_to_exit()
def clicks(
    probe: ProbeFile,
    manifest: Annotated[Path, typer.Argument(help="The manifest of ExDDV, of avfeat manifest build exddv.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="A folder for clicks.csv and the figure.")],
    split: Annotated[str | None, typer.Option(help="A split.", show_default="all clips")] = None,
    root: Root = None,
    annotations: Annotated[
        Path | None, typer.Option(help="Folder of ExDDV.csv.", show_default="that of the media")
    ] = None,
    weights: Weights = None,
    device: Device = "auto",
) -> None:
    """Hold maps against human clicks: their error, that of the frame's and the face's middle, and draw figure 4.

    Exit code 3: finished, but some clips could not be judged.
    """
    from avfeat.manifest import Manifest
    from avfeat.options import Options
    from probes.explain.click_study import examples, judge_all
    from probes.explain.clicks import write_errors
    from probes.explain.spatial import explainer
    from probes.figures import figure4
    from probes.probe_file import load_probe

    listed = Manifest.read(manifest)
    folder = listed.media_root(root)
    taking = explainer(load_probe(probe), weights=weights, options=Options(device=device))
    judged, failed = judge_all(taking, listed.select(split), folder, annotations or folder, _tell)
    for each in failed:
        print(each.detail, file=sys.stderr)
    write_errors(out / "clicks.csv", judged)
    paths = figure4.draw(judged, out, examples=examples(taking, listed, judged, folder))
    print(align(figure4.table(judged)))
    print(f"wrote {', '.join(map(str, [out / 'clicks.csv', *paths]))}")
    if failed:
        raise typer.Exit(FINISHED_WITH_FAILURES)


def _tell(done: int, of: int) -> None:
    if done % 20 == 0 or done == of:
        print(f"{done} of {of} clips", file=sys.stderr, flush=True)


def _spatial_line(told: Mapping[str, Any]) -> str:
    rest = ", ".join(f"{name} {part:+.3f}" for name, part in told["rest"].items())
    x, y = told["highest"]["shares"]
    return (
        f"frame {told['frame']} ({told['seconds']:.2f} s): probability {told['probability']:.4f}, score "
        f"{told['score']:.4f} = patches {told['patches']:+.3f}, {rest}; highest patch at x {x:.3f}, y {y:.3f}"
    )


def _silence_lines(found: Silence) -> list[str]:
    lines = [f"{found.clips} clips" + (f"; left out: {len(found.left_out)}" if found.left_out else "")]
    if found.left_out:
        lines[0] += f" (e.g. {next(iter(found.left_out.values()))})"
    every, real, fake = ("—" if math.isnan(share) else f"{100 * share:.1f} %" for share in found.tops)
    lines.append(f"highest frame before speech starts: {every} of all, {real} of real, {fake} of fake clips")
    real, fake = ("—" if math.isnan(median) else f"{median:.2f} s" for median in found.silent_seconds)
    lines.append(f"median silence: {real} real, {fake} fake")
    if found.auc and found.auc_trimmed:
        lines += [f"AUC of whole clips:  {found.auc}", f"AUC without silence: {found.auc_trimmed}"]
    else:
        lines.append("AUC: needs real and fake clips")
    return lines

"""Figures of what ``probes run`` found: each protocol's own, drawn from its cells, probes and scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from avfeat.datasets.exddv import METADATA
from avfeat.errors import AvfeatError, ManifestError, ProbeError, StoreError
from avfeat.manifest import Manifest
from avfeat.options import Options
from avfeat.patches import PatchExplainer
from probes.complementarity import complementarity
from probes.explain.click_study import examples, judge_all
from probes.explain.clicks import ClickError, read_errors, write_errors
from probes.explain.columns import columns
from probes.explain.spatial import explainer
from probes.explain.temporal import Trace, stretches_for, traces
from probes.figures import ablations, figure3, figure4, figure5
from probes.figures.style import write
from probes.heads import Head
from probes.loading import Choice, Source
from probes.protocol import FOLDER, Column, Protocol
from probes.results import Cell, Results

CLIPS_OF_A_KIND = 2
"""Clips that figure 3 shows of each group of rows, where the protocol names none."""


def has_figure(protocol: Protocol) -> bool:
    """Whether anything of a protocol is drawn."""
    return protocol.shows != "table" or ablations.kind_of(protocol) is not None


def draw(
    protocol: Protocol, results: Results, stores: Sequence[Path], folder: Path, root: Path | None = None
) -> tuple[list[Path], list[str]]:
    """Write the figures of one protocol.

    Args:
        stores: hold the features; only figures of single clips read them.
        folder: gets a PNG, an SVG and a PDF for each figure.
        root: where the media are; None: where the manifests say.

    Returns:
        The files, and sentences on what the figures lack.

    Raises:
        ProbeError: nothing can be drawn; says what is missing.
    """
    cells = results.of(protocol.name)
    gaps = list(dict.fromkeys(reason for cell in cells for reason in cell.reasons))
    if protocol.shows == "table":
        return write(ablations.compose(protocol, results), folder, protocol.name), gaps
    paths: list[Path] = []
    several = len(protocol.columns) > 1
    for column in protocol.columns:
        done = [cell for cell in cells if cell.column == column.name and cell.status == "done"]
        name = f"{protocol.name}-{column.name}" if several else protocol.name
        if not done:
            gaps.append(f"{name}: no probe is there to be drawn.")
            continue
        try:
            paths += _DRAWN[protocol.shows](_Task(protocol, column, results, done, stores, folder, name, root))
        except AvfeatError as error:
            gaps.append(f"{name}: {error}")
    if not paths:
        raise ProbeError(f"{protocol.name} cannot be drawn: {'; '.join(gaps)}")
    return paths, gaps


@dataclass(frozen=True)
class _Task:
    """One column of a protocol: the cells that are ``done``, and where its figure goes."""

    protocol: Protocol
    column: Column
    results: Results
    done: Sequence[Cell]
    stores: Sequence[Path]
    folder: Path
    name: str
    root: Path | None

    @property
    def title(self) -> str:
        """What stands above the figure."""
        return f"{self.protocol.title}: {self.column.head}"


def _frame_scores(task: _Task) -> list[Path]:
    groups = {row.name: row.group for row in task.protocol.rows}
    shown: list[figure3.Column] = []
    decision = True
    for group in dict.fromkeys(groups[cell.row] for cell in task.done):
        own = [cell for cell in task.done if groups[cell.row] == group]
        heads: dict[str, Head] = {cell.row: task.results.probes(cell)[0] for cell in own}
        decision &= all(head.learns_from == "real and fake" for head in heads.values())
        clip_ids = list(task.protocol.clips) or _telling(heads, own[0], task.stores)
        shown += columns(heads, task.stores, clip_ids, own[0].test_key, task.root)
    return figure3.draw(shown, task.folder, task.name, task.title, decision=decision)


def _telling(heads: Mapping[str, Head], cell: Cell, stores: Sequence[Path]) -> list[str]:
    """Return the first clips that are fake in part, in what these probes read where the manifest tells that apart.

    Raises:
        ProbeError: no clip is fake in part.
    """
    head = next(iter(heads.values()))
    source = Source(stores, head.features_)
    loaded = source.load(Choice.parse(cell.test))
    found = traces(head, loaded, stretches_for(loaded, source.attributes(cell.test_key)))
    partly = [trace.clip_id for trace in found if _is_partly_fake(trace)]
    if not partly:
        raise ProbeError(f"no clip of {cell.test} is known to be fake in part: name some under clips.")
    return partly[:CLIPS_OF_A_KIND]


def _is_partly_fake(trace: Trace) -> bool:
    if not trace.segments:
        return False
    labels = trace.track().labels()
    return bool(labels.any() and not labels.all())


def _complementarity(task: _Task) -> list[Path]:
    scores = {cell.row: task.results.scores(cell) for cell in task.done}
    first = next(iter(scores.values()))
    common = set(first.clip_ids).intersection(*(each.clip_ids for each in scores.values()))
    clip_ids = [clip_id for clip_id in first.clip_ids if clip_id in common]
    if not clip_ids:
        raise ProbeError("the features have no test clip in common.")
    chosen = {row: each.of(clip_ids) for row, each in scores.items()}
    found = complementarity({row: each.mean for row, each in chosen.items()}, first.of(clip_ids).labels)
    paper = figure5.read_published(FOLDER / "published" / "figure5.csv") if task.protocol.name == figure5.NAME else None
    return figure5.draw(found, task.folder, paper, f"{task.title}, {found.clips} clips", task.name)


def _heat_maps(task: _Task) -> list[Path]:
    paths: list[Path] = []
    for cell in task.done:
        head = task.results.probes(cell)[0]
        listed, media = _clicked(task, Source(task.stores, head.features_))
        taking = explainer(head, options=Options())
        judged = _judged(taking, listed, media, task.results.out / "clicks" / f"{cell.inputs}-{listed.digest[:8]}.csv")
        name = f"{task.name}-{_word(cell.row)}"
        kept = examples(taking, listed, judged, media)
        paths += figure4.draw(judged, task.folder, name, kept, title=f"{cell.row}: {task.title}")
    return paths


def _clicked(task: _Task, source: Source) -> tuple[Manifest, Path]:
    """Return the test clips of the protocol's dataset that people have clicked on, and where its media are.

    Raises:
        ProbeError: no dataset of the protocol has clicks beside its media; says for each why.
    """
    why = []
    for name, dataset in task.protocol.datasets.items():
        try:
            manifest = source.manifest(dataset.manifest)
            media = manifest.media_root(task.root)
            if (media / METADATA).is_file():
                return manifest.select(dataset.test), media
            why.append(f"{name} has no {METADATA} in {media}")
        except (ManifestError, StoreError) as error:
            why.append(str(error).rstrip("."))
    raise ProbeError(f"no dataset has clicks: {'; '.join(why)}.")


def _judged(taking: PatchExplainer, listed: Manifest, media: Path, kept: Path) -> list[ClickError]:
    """Return the errors of the clicks; they are judged once and kept."""
    if not kept.is_file():
        judged, _ = judge_all(taking, listed, media, media)
        write_errors(kept, judged)
    return read_errors(kept)


_DRAWN: Mapping[str, Callable[[_Task], list[Path]]] = {
    "frame-scores": _frame_scores,
    "complementarity": _complementarity,
    "heat-maps": _heat_maps,
}


def _word(text: str) -> str:
    return "".join(each if each.isalnum() else "-" for each in text.lower()).strip("-")

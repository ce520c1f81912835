"""Judge the clicks of a whole manifest, and choose a few frames to be drawn above the curve of figure 4."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from avfeat.datasets.exddv import read_annotations
from avfeat.errors import ProbeError
from avfeat.manifest import Manifest
from avfeat.patches import PatchExplainer
from probes.explain.clicks import ClickError, Example, Failed, judge

EXAMPLES = 4


def judge_all(
    explainer: PatchExplainer,
    listed: Manifest,
    root: Path,
    annotations: Path,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[ClickError], list[Failed]]:
    """Return the errors of all clicks, and the clips that could not be judged.

    Args:
        listed: the clips.
        root: the folder of their media.
        annotations: the folder of ExDDV.csv.
        tell: is told how many clips are done, of how many.

    Raises:
        ManifestError: the annotations cannot be read.
        ProbeError: not one click could be judged; says why for one clip.
    """
    said = read_annotations(annotations)
    rows = [row for row in listed.rows() if row.clip_id in said]
    judged: list[ClickError] = []
    failed: list[Failed] = []
    for done, row in enumerate(rows, 1):
        for each in judge(explainer, [row], root, said):
            if isinstance(each, Failed):
                failed.append(each)
            else:
                judged.append(each)
        tell(done, len(rows))
    if not judged:
        why = failed[0].detail if failed else f"no clip of {listed.info.name} has clicks in {annotations}"
        raise ProbeError(f"Not one click could be judged: {why}")
    return judged, failed


def examples(explainer: PatchExplainer, listed: Manifest, judged: Sequence[ClickError], root: Path) -> list[Example]:
    """Return the surest click of each of the surest clips, with its map, the surest first."""
    surest: dict[str, ClickError] = {}
    for each in judged:
        if each.clip_id not in surest or each.probability > surest[each.clip_id].probability:
            surest[each.clip_id] = each
    chosen = sorted(surest.values(), key=lambda each: (-each.probability, each.clip_id))[:EXAMPLES]
    found = []
    for each in chosen:
        (seen,) = explainer.explain(root / listed.row(each.clip_id).path, [each.frame])
        found.append(Example(each.clip_id, seen, (each.x, each.y)))
    return found

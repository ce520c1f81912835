"""Judge the clicks of a whole manifest, and keep a few frames to be drawn above the curve of figure 4."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from avfeat.datasets.exddv import read_annotations
from avfeat.errors import ProbeError
from avfeat.manifest import Manifest
from avfeat.patches import PatchExplainer, PatchMap
from probes.explain.clicks import ClickError, Example, Failed, Place, judge

EXAMPLES = 4


def judge_and_keep(
    explainer: PatchExplainer,
    listed: Manifest,
    root: Path,
    annotations: Path,
    tell: Callable[[int, int], None] = lambda done, of: None,
) -> tuple[list[ClickError], list[Failed], list[Example]]:
    """Return the errors of all clicks, the clips that could not be judged, and the first frames of the surest clips.

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
    surest: dict[str, Example] = {}

    def see(clip_id: str, found: PatchMap, click: Place) -> None:
        known = surest.get(clip_id)
        if known is None or found.score > known.found.score:
            surest[clip_id] = Example(clip_id, found, click)
            for other in sorted(surest, key=lambda name: surest[name].found.score)[:-EXAMPLES]:
                del surest[other]

    for done, row in enumerate(rows, 1):
        for each in judge(explainer, [row], root, said, see):
            if isinstance(each, Failed):
                failed.append(each)
            else:
                judged.append(each)
        tell(done, len(rows))
    if not judged:
        why = failed[0].detail if failed else f"no clip of {listed.info.name} has clicks in {annotations}"
        raise ProbeError(f"Not one click could be judged: {why}")
    return judged, failed, sorted(surest.values(), key=lambda example: -example.found.score)

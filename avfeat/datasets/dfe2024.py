"""Deepfake-Eval-2024: videos found on social media, labelled by fact checkers for picture and sound apart."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Literal

from avfeat.datasets.base import Disk, Listing, id_of_path, metadata_file, settle
from avfeat.datasets.csv import records
from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Row

ABOUT = DatasetInfo(
    "dfe2024",
    source="https://huggingface.co/datasets/nuriachandra/Deepfake-Eval-2024",
    licence="CC BY-SA 4.0, and the promise of its card",
)

METADATA = "video-metadata-publish.csv"
MEDIA = "video-data"
TRUTHS = {"Real": 0, "Fake": 1, "Unknown": None}

Rule = Literal["either", "video", "audio"]
RULES: dict[Rule, str] = {
    "either": "fake if picture or sound is fake, real if both are real, else null",
    "video": "the label of the picture",
    "audio": "the label of the sound",
}


def read(root: Path, *, look: bool = True, rule: Rule = "either") -> Listing:
    """List the clips of ``video-metadata-publish.csv``; splits are its finetuning sets, train and test.

    ``audio_label`` and ``video_label`` are as given; how ``label`` follows from them changes the task, so the notes
    state the rule. Unknown is null. Nothing says where a fake is forged: its segments are null.

    Args:
        root: the folder that holds the metadata and ``video-data``.
        look: False lists every clip, whether its file is there or not.
        rule: how the two labels make one; see ``RULES``.

    Raises:
        ManifestError: the metadata are missing or not as expected, or no clip is there.
    """
    path = metadata_file(root, METADATA)
    columns = ("Filename", "Video Ground Truth", "Audio Ground Truth", "Finetuning Set")
    rows = [_row(path, rule, *(line[name] for name in columns)) for line in records(path, columns)]
    count = Counter(row.label for row in rows)
    notes = [f"label is {RULES[rule]}; listed are {count[1]} fake, {count[0]} real, {count[None]} null"]
    return settle(rows, notes, Disk.below(root) if look else None, _find)


def _row(path: Path, rule: Rule, name: str, video_truth: str, audio_truth: str, split: str) -> Row:
    for truth in (video_truth, audio_truth):
        if truth not in TRUTHS:
            raise ManifestError(f"{path}: {name} has ground truth {truth!r}; known are {', '.join(TRUTHS)}.")
    video, audio = TRUTHS[video_truth], TRUTHS[audio_truth]
    either = 1 if 1 in (video, audio) else 0 if (video, audio) == (0, 0) else None
    label = {"either": either, "video": video, "audio": audio}[rule]
    return Row(
        clip_id=id_of_path(f"{MEDIA}/{name}"),
        path=f"{MEDIA}/{name}",
        split=split or None,
        label=label,
        audio_label=audio,
        video_label=video,
        segments=() if either == 0 else None,
        audio_segments=() if audio == 0 else None,
        video_segments=() if video == 0 else None,
    )


def _find(disk: Disk, path: str) -> str | None:
    return disk.find(path) or disk.find(path.removeprefix(f"{MEDIA}/"))

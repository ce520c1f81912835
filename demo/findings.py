"""What the demo makes of its store: probes, a cross-dataset table, a figure, two sentences on what they show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demo.cast import Release
from demo.dataset import plan
from probes.figures.frame_scores import Line, Panel, draw
from probes.heads.linear import LinearProbe
from probes.intervals import measure
from probes.loading import Choice, Loaded, Source
from probes.tables.cross_dataset import Cell

WEIGHT_DECAY = 1e-5
METHOD_WORDS = {"sound": "sound replaced", "mouth": "mouth re-animated", "both": "both", "real": "real"}


@dataclass(frozen=True)
class Study:
    """Probes and test clips, each by (feature, dataset's letter), and the cells of the table."""

    probes: Mapping[tuple[str, str], LinearProbe]
    tests: Mapping[tuple[str, str], Loaded]
    cells: Sequence[Cell]

    def auc(self, feature: str, train: str, test: str) -> float:
        """Return one number of the table."""
        return next(
            cell.measure.value for cell in self.cells if (cell.feature, cell.train, cell.test) == (feature, train, test)
        )


def study(store: Path, features: Sequence[str], letters: Mapping[str, str], folder: Path) -> Study:
    """Fit one linear probe for each feature and dataset to the optimum and test it on all datasets.

    Args:
        store: holds ``features`` of all datasets.
        features: their names.
        letters: manifest's name → the letter that stands for it in the table.
        folder: gets one probe file each.
    """
    probes, tests, cells = {}, {}, []
    for feature in features:
        source = Source([store], [feature])
        for name, letter in letters.items():
            train, val = (source.load(Choice(name, split)).data for split in ("train", "val"))
            probe = LinearProbe(weight_decay=WEIGHT_DECAY).fit(train, validation=val)
            probe.save(folder / f"{feature}-{letter}.safetensors")
            probes[feature, letter] = probe
            tests[feature, letter] = source.load(Choice(name, "test"))
        for train_letter in letters.values():
            for test_letter in letters.values():
                data = tests[feature, test_letter].data
                scores = probes[feature, train_letter].decision_function(data)
                auc = measure(scores, data.labels, ["auc"])["auc"]
                cells.append(Cell(feature, train_letter, test_letter, auc))
    return Study(probes, tests, cells)


def silences(release: Release) -> dict[str, float]:
    """Return for each forged clip how long it is silent at first, in seconds."""
    return {clip.path.removesuffix(release.suffix): clip.silence_seconds for clip in plan(release) if clip.method}


def tops_in_silence(found: Study, feature: str, letter: str, silent: Mapping[str, float]) -> tuple[int, int]:
    """Return in how many forged test clips the highest frame is in the leading silence, and how many there are."""
    test = found.tests[feature, letter]
    first, step = test.times
    tops = {
        clip_id: first + step * int(np.argmax(scores))
        for clip_id, scores in zip(
            test.data.clip_ids, found.probes[feature, letter].frame_scores(test.data), strict=True
        )
    }
    forged = [clip_id for clip_id in tops if clip_id in silent]
    return sum(tops[clip_id] < silent[clip_id] for clip_id in forged), len(forged)


def reading(found: Study, tops: tuple[int, int]) -> str:
    """Return two sentences on what the numbers show, computed from them.

    Args:
        found: with the features logmel and landmarks and the datasets A and B.
        tops: of A's forged test clips, those whose highest logmel frame is in the leading silence, and all.
    """
    home, away = (found.auc("logmel", "A", letter) for letter in "AB")
    other = found.auc("landmarks", "A", "A") - found.auc("landmarks", "A", "B")
    moved = "falls" if home - away > 0.1 else "rises" if away - home > 0.1 else "hardly moves"
    first = (
        f"Trained on A and tested on B instead of A, the AUC of logmel {moved} from {home:.2f} to {away:.2f}, "
        f"and that of landmarks changes by {-other:+.2f}."
    )
    inside, forged = tops
    where = f"in {inside} of A's {forged} forged test clips the highest frame of logmel lies in the leading silence"
    if 2 * inside > forged and moved == "falls":
        better = found.auc("logmel", "B", "B")
        second = (
            f"{where[0].upper()}{where[1:]}, which every forgery of A begins with and none of B: the probe has learned "
            f"that shortcut rather than the forgery"
            + (
                f", for the same feature trained on B reaches {better:.2f} on the same clips of B."
                if better > away
                else "."
            )
        )
    else:
        second = f"The planted shortcut does not explain it: only {where}."
    return f"{first} {second}"


def untrained(found: Study, features: tuple[str, str]) -> str:
    """Return a sentence on what an encoder with random weights comes to at home, by sound and by lips."""
    (a_sound, b_sound), (a_lips, b_lips) = ([found.auc(each, home, home) for home in "AB"] for each in features)
    encoder = features[0].partition(".")[0]
    return (
        f"{encoder} has random weights: what its probes find on their own dataset ({a_sound:.2f} on A and "
        f"{b_sound:.2f} on B by sound, {a_lips:.2f} and {b_lips:.2f} by lips) comes from the probe and from how the "
        "network is wired, not from anything learned before."
    )


def draw_figure(found: Study, releases: Mapping[str, Release], features: Sequence[str], train: str, path: Path) -> None:
    """Draw the frame scores of a few test clips of each dataset, by the probes that were trained on ``train``.

    Args:
        found: probes and test clips.
        releases: by letter, one column each.
        features: one line each.
        train: the letter of the training set.
        path: the PNG to write.
    """
    scales = {feature: _scale(found, feature, train) for feature in features}
    kinds = ("sound", "mouth", "real")
    columns = [
        [_panel(found, release, letter, kind, scales, train) for kind in kinds] for letter, release in releases.items()
    ]
    heads = [f"test clips of {letter}" + (" (at home)" if letter == train else "") for letter in releases]
    title = f"Frame scores of linear probes trained on {train}"
    draw([list(row) for row in zip(*columns, strict=True)], path, heads, title, "frame score (sd)")


def _scale(found: Study, feature: str, letter: str) -> tuple[float, float]:
    """Return mean and standard deviation of a probe's frame scores over its own dataset's test clips."""
    scores = np.concatenate(found.probes[feature, letter].frame_scores(found.tests[feature, letter].data))
    return float(scores.mean()), float(scores.std())


def _panel(
    found: Study, release: Release, letter: str, kind: str, scales: Mapping[str, tuple[float, float]], train: str
) -> Panel:
    clip = next(
        clip
        for clip in plan(release)
        if clip.speaker.split == "test"
        and (clip.method or "real") == kind
        and (clip.segment is None or clip.segment[0] > 0)
    )
    clip_id = clip.path.removesuffix(release.suffix)
    lines = {}
    for feature, (mean, deviation) in scales.items():
        test = found.tests[feature, letter]
        data = test.data.select([test.data.clip_ids.index(clip_id)])
        scores = found.probes[feature, train].frame_scores(data)[0]
        first, step = test.times
        lines[feature] = Line(first + step * np.arange(len(scores)), (scores - mean) / deviation)
    forged = {"sound": clip.sound_segment, "mouth": clip.mouth_segment}
    segments = {name: [segment] for name, segment in forged.items() if segment}
    marks = {"silence": (0.0, clip.silence_seconds)} if clip.silence_seconds else {}
    return Panel(f"{clip_id} · {METHOD_WORDS[kind]}", clip.seconds, lines, segments, marks)

"""What the demo says about its numbers, and what ``make real`` says about a folder of files."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from avfeat import store_write
from avfeat.datasets import csv
from avfeat.manifest import DatasetInfo, Manifest
from avfeat.media import write_video
from demo import real
from demo.cast import A, B
from demo.dataset import plan, write_labels
from demo.findings import Study, draw_figure, reading, silences, study, tops_in_silence, untrained
from probes.intervals import Measure
from probes.tables.cross_dataset import Cell
from tests.extracting import tone
from tests.faces import admiral

LETTERS = {A.name: "A", B.name: "B"}
WIDTH = 8


def study_of(**aucs: float) -> Study:
    """A study with these AUCs, e.g. ``logmel_AB=0.5``, and 0.8 elsewhere."""
    pairs = [(feature, train, test) for feature in ("logmel", "landmarks") for train in "AB" for test in "AB"]
    values = {pair: aucs.get(f"{pair[0]}_{pair[1]}{pair[2]}", 0.8) for pair in pairs}
    return Study({}, {}, [Cell(*pair, Measure(value, value, value)) for pair, value in values.items()])


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Noise in which logmel tells forgeries of A by their silence, forgeries of B by their segments, landmarks by both
    datasets' segments."""
    folder = tmp_path_factory.mktemp("findings")
    random = np.random.default_rng(4)
    for release in (A, B):
        clips = {clip.path.removesuffix(release.suffix): clip for clip in plan(release)}
        write_labels(folder / "labels.csv", list(clips.values()))
        manifest = Manifest.from_rows(csv.read(folder / "labels.csv").rows, DatasetInfo(release.name))
        for feature in ("logmel", "landmarks"):
            rows = {}
            for clip_id, clip in clips.items():
                times = 0.02 + np.arange(int(clip.seconds * 25)) / 25
                frames = random.standard_normal((len(times), WIDTH))
                start, end = clip.segment or (9, 9)
                if feature == "logmel" and release is A:
                    frames[times < clip.silence_seconds, 0] = 25
                elif feature == "landmarks":
                    frames[(times > start) & (times < end), 1] = 25
                else:
                    frames[(times > start) & (times < end), 2] = 25
                rows[clip_id] = frames.astype(np.float32)
            store_write.write_feature(folder / "store", manifest, feature, rows, rate_hz=25.0, first_seconds=0.02)
    return folder / "store"


def test_the_planted_shortcut_is_found_in_the_table_in_the_frames_and_in_the_words(store, tmp_path):
    found = study(store, ("logmel", "landmarks"), LETTERS, tmp_path)
    assert found.auc("logmel", "A", "A") == 1.0 and found.auc("logmel", "A", "B") < 0.8
    assert found.auc("landmarks", "A", "A") == found.auc("landmarks", "A", "B") == 1.0
    tops = tops_in_silence(found, "logmel", "A", silences(A))
    assert tops == (12, 12)
    assert tops_in_silence(found, "logmel", "B", silences(B))[0] == 0
    text = reading(found, tops)
    assert f"falls from 1.00 to {found.auc('logmel', 'A', 'B'):.2f}" in text
    assert "In 12 of A's 12 forged test clips" in text and "learned that shortcut" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{feature}-{letter}.safetensors" for feature in ("landmarks", "logmel") for letter in "AB"
    ]


def test_the_figure_is_drawn_from_the_same_store(store, tmp_path):
    found = study(store, ("logmel", "landmarks"), LETTERS, tmp_path)
    draw_figure(found, {"A": A, "B": B}, ("logmel", "landmarks"), "A", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes()[1:4] == b"PNG"


@pytest.mark.parametrize(
    ("aucs", "tops", "words"),
    [
        ({"logmel_AA": 0.98, "logmel_AB": 0.51, "logmel_BA": 0.83}, (11, 12), "learned that shortcut"),
        ({"logmel_AA": 0.98, "logmel_AB": 0.51}, (3, 12), "does not explain it"),
        ({"logmel_AA": 0.80, "logmel_AB": 0.78}, (11, 12), "does not explain it"),
    ],
)
def test_the_words_follow_the_numbers(aucs, tops, words):
    assert words in reading(study_of(**aucs), tops)


def test_the_words_say_when_a_feature_rises_and_by_how_much_the_other_changes():
    text = reading(study_of(logmel_AA=0.6, logmel_AB=0.9, landmarks_AA=0.8, landmarks_AB=0.75), (0, 12))
    assert "rises from 0.60 to 0.90" in text and "landmarks changes by -0.05" in text


def test_the_words_on_random_weights_are_the_tables_numbers() -> None:
    names = ("tiny-random.a", "tiny-random.v")
    values = dict(zip([(name, home) for name in names for home in "AB"], (0.61, 0.62, 0.53, 0.54), strict=True))
    cells = [Cell(name, home, home, Measure(value, 0, 1)) for (name, home), value in values.items()]
    text = untrained(Study({}, {}, cells), names)
    assert text.startswith("tiny-random has random weights")
    assert "0.61 on A and 0.62 on B by sound, 0.53 and 0.54 by lips" in text


def cells(text: str) -> list[list[str]]:
    """The cells of each line of Markdown tables."""
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.split("\n")]


def test_real_files_become_a_table_of_done_and_failed_with_reasons(tmp_path):
    folder = tmp_path / "clips"
    (folder / "broken").mkdir(parents=True)
    write_video(folder / "face.mp4", [admiral()] * 12, fps=25, sound=tone(300, 0.5), sound_rate_hz=16_000)
    write_video(folder / "grey.mp4", [np.full((64, 64, 3), 90, np.uint8)] * 12, fps=25, sound=tone(200, 0.5))
    (folder / "clips.csv").write_text("path,label\nface.mp4,0\ngrey.mp4,1\n")
    (folder / "broken" / "text.mp4").write_text("this is not a film\n")
    (folder / "broken" / "broken.csv").write_text("path\ntext.mp4\n")
    lines = cells(real.main(folder, tmp_path / "out"))
    counts = {(line[0].partition("-")[0], line[1]): line[2:] for line in lines if len(line) == 7}
    assert counts["real", "logmel"] == ["2", "2", "0", "0", "0"]
    assert counts["real", "landmarks"] == ["2", "1", "0", "1", "0"]
    assert counts["broken", "logmel"] == counts["broken", "landmarks"] == ["1", "0", "0", "1", "0"]
    why = {(line[0], line[1]): line[2:4] for line in lines if len(line) == 5}
    assert why["grey", "landmarks"] == ["failed", "NoFace"] and why["text", "logmel"] == ["failed", "Unreadable"]
    assert (tmp_path / "out" / "status.md").is_file()
    shutil.rmtree(folder / "broken")
    again = cells(real.main(folder, tmp_path / "out"))
    assert [line[1] for line in again if len(line) == 7][2:] == ["landmarks", "logmel"]


def test_a_folder_without_a_listing_is_refused_with_its_name(tmp_path):
    from avfeat.errors import ManifestError

    with pytest.raises(ManifestError, match=r"clips\.csv"):
        real.main(tmp_path, tmp_path / "out")

"""``probes detect``: low tones are real, high ones fake, so the answer and its place in time are known."""

import json
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_media import numbered
from typer.testing import CliRunner

from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.media import write_video
from avfeat.options import Options
from avfeat.run import extract
from avfeat.store import open_store, write_feature
from probes.cli import app
from probes.detect import WARNING, stretches
from probes.explain.temporal import fake_stretches
from probes.loading import Choice
from probes.report.clips import shown_clips
from probes.score import Scored


def tone(hz: float, seconds: float) -> np.ndarray:
    return (8_000 * np.sin(2 * np.pi * hz * np.arange(round(16_000 * seconds)) / 16_000)).astype(np.int16)


def write_wav(path: Path, sound: np.ndarray) -> None:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(sound.astype("<i2").tobytes())


def call(*arguments: object):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of tones, a probe over each of two splits of them, and a video whose second half is high."""
    folder = tmp_path_factory.mktemp("tones")
    rows = []
    for k in range(12):
        write_wav(folder / f"t{k:02}.wav", tone(2000 + 30 * k if k % 2 else 300 + 10 * k, 0.6))
        forged = {"segments": [(0.0, 0.6)], "method": "tone"} if k % 2 else {"segments": []}
        rows.append(Row(f"t{k:02}", f"t{k:02}.wav", "train", k % 2, **forged))
    manifest = Manifest.from_rows(rows, DatasetInfo("tones", root=str(folder)))
    extract(manifest, folder, ["logmel"], folder / "store", Options(device="cpu", workers=1))
    for name in ("first", "second"):
        done = call("fit", folder / "store", "--manifest", "tones", "--feature", "logmel", "--pool", "mean",
                    "--val", "none", "--steps", "40", "-o", folder / f"{name}.safetensors")  # fmt: skip
        assert done.exit_code == 0, done.output
    # Two clips whose labels contradict their tones: scores that separate all clips cannot be calibrated.
    mixed = [replace(row, label=1 - row.label) if k < 2 else row for k, row in enumerate(rows)]
    features = open_store(folder / "store")[manifest.key]["logmel"]
    write_feature(folder / "store", Manifest.from_rows(mixed, DatasetInfo("mixed")), "logmel",
                  {row.clip_id: features.clip(row.clip_id) for row in rows}, rate_hz=25.0,
                  first_seconds=features.first_seconds)  # fmt: skip
    half = np.concatenate([tone(350, 1.0), tone(2200, 1.0)])
    write_video(folder / "half.mp4", [numbered(k) for k in range(50)], 25, half)
    return folder


def test_the_answer_says_which_way_and_where_in_time_and_what_it_does_not_mean(folder: Path) -> None:
    done = call("detect", folder / "half.mp4", folder / "t00.wav", "--probe", folder / "first.safetensors", "--json")
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    assert facts["warning"] == WARNING
    half, low = (video["probes"]["first"] for video in facts["videos"])
    [(start, end)] = half["stretches"]
    assert (start, end) == (pytest.approx(1.0, abs=0.1), pytest.approx(2.0, abs=0.1))
    assert low["stretches"] == []
    assert low["score"] < 0


def test_every_probe_is_asked_and_what_cannot_be_read_is_a_sentence(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("not media")
    probes = ("--probe", folder / "first.safetensors", "--probe", folder / "second.safetensors")
    done = call("detect", tmp_path / "text.mp4", folder / "t01.wav", *probes, "--html", tmp_path / "answer.html")
    assert done.exit_code == 3
    assert done.output.count("no score. ") == 2
    assert "leans fake" in done.output and WARNING in done.output
    page = (tmp_path / "answer.html").read_text()
    assert "Nothing to play" in page and "audio/wav" in page
    assert "first was trained on tones:train, 12 clips." in page


def test_two_probes_of_one_name_are_refused(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "first.safetensors").write_bytes((folder / "first.safetensors").read_bytes())
    done = call("detect", folder / "t00.wav", "--probe", folder / "first.safetensors",
                "--probe", tmp_path / "first.safetensors")  # fmt: skip
    assert done.exit_code == 1
    assert "two are the same: first, first" in done.stderr


def test_stretches_reach_from_the_start_of_a_frame_to_the_end_of_the_last() -> None:
    scores = np.array([1, 1, -1, -1, 0, 2], np.float32)
    assert stretches(Scored(Path("a"), 1.0, 0.9, scores, 0.02, 0.04)) == [(0.0, 0.08), (0.16, 0.24)]
    assert stretches(Scored(Path("a"), 1.0, 0.9, scores, 0.02, 0.04, line=1.5)) == [(0.2, 0.24)]


def test_a_calibrated_probe_states_its_probability_and_another_does_not(folder: Path, tmp_path: Path) -> None:
    probe = tmp_path / "first.safetensors"
    probe.write_bytes((folder / "first.safetensors").read_bytes())
    assert "probability" not in call("detect", folder / "t01.wav", "--probe", probe).output
    done = call("calibrate", probe, folder / "store", "--on", "mixed")
    assert done.exit_code == 0, done.output
    assert (
        "leans fake with calibrated probability of fake 0."
        in call("detect", folder / "t01.wav", "--probe", probe).output
    )


def test_stored_clips_are_shown_with_what_the_manifest_knows(folder: Path) -> None:
    probes = {name: folder / f"{name}.safetensors" for name in ("first", "second")}
    [high, low] = shown_clips([folder / "store"], probes, Choice("tones"), ["t03", "t00"])
    assert (high.clip_id, high.segments) == ("t03", {"fake": [(0.0, 0.6)]})
    assert high.verdict[0] == "fake · tone · split train"
    assert [line.feature for line in high.lines] == ["first", "second"]
    assert high.lines[0].scores.mean() > 0 > low.lines[0].scores.mean()
    assert high.preview is not None and high.preview.seconds == pytest.approx(0.6)


def test_finer_segments_take_the_place_of_those_of_the_whole_clip() -> None:
    each = {"start_seconds": 1.0, "end_seconds": 2.0}
    empty = {"segments": None, "audio_segments": None, "video_segments": []}
    assert fake_stretches(empty) == {}
    assert fake_stretches(empty | {"segments": [each]}) == {"fake": [(1.0, 2.0)]}
    assert fake_stretches(empty | {"segments": [each], "audio_segments": [each]}) == {"sound": [(1.0, 2.0)]}

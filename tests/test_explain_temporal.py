"""When in a clip a score comes from: traces, leading silence, the spectrogram, and the command that draws them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from typer.testing import CliRunner

from avfeat.errors import NoSoundError, ProbeError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.media import write_video
from avfeat.store import open_store, write_feature
from probes.cli import app
from probes.explain.columns import columns, find_manifest
from probes.explain.media import BANDS, band_of, look, mel_spectrogram
from probes.explain.silence import compare, dropped_until, leading_silence, speech_start, without_silence
from probes.explain.temporal import stretches_for, traces
from probes.figures import figure3
from probes.figures.from_results import draw
from probes.heads.linear import LinearProbe
from probes.loading import Choice, Loaded, Source
from probes.probe_file import load_probe
from probes.protocol import read_protocol
from probes.results import Cell, Results, probe_path
from tests.test_figures import words

FRAMES = 50
SPEECH = 0.31
FAKES = ("c1", "c3", "c5", "c7")


def sound_of(start: float, seconds: float = 2.0, hertz: float = 1000.0) -> np.ndarray:
    times = np.arange(int(seconds * 16000)) / 16000
    return (0.3 * np.sin(2 * np.pi * hertz * times) * (times >= start)).astype(np.float32)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight clips of two seconds; the fakes are silent at first and fake from 1.0 to 1.4 s; media of four of them."""
    folder = tmp_path_factory.mktemp("temporal")
    rows, arrays = [], {}
    for k in range(8):
        fake = f"c{k}" in FAKES
        stretch = [(1.0, 1.4)] if fake else []
        rows.append(
            Row(f"c{k}", f"c{k}.mkv", "test", int(fake), segments=stretch, audio_segments=stretch, video_segments=[])
        )
        frames = np.tile([0.0, 1.0, 0.0], (FRAMES, 1))
        frames[:, 2] = 0.1 * np.sin(np.arange(FRAMES) + k)
        frames[25:35, 0] = 1.0 if fake else 0.0
        frames[2, 0] = 3.0 if fake else 0.0  # the highest frame lies in the silence
        arrays[f"c{k}"] = frames.astype(np.float32)
    manifest = Manifest.from_rows(rows, DatasetInfo("two", root=str(folder)))
    write_feature(folder / "store", manifest, "made", arrays, rate_hz=25.0, first_seconds=0.02)
    pictures = [np.full((48, 64, 3), 4 * k, np.uint8) for k in range(FRAMES)]
    for name, start in (("c0", 0.0), ("c1", SPEECH), ("c2", 0.0), ("c3", SPEECH)):
        write_video(folder / f"{name}.mkv", pictures, 25, sound_of(start), audio_codec="pcm_s16le")
    probe = LinearProbe().set_weights(np.array([5.0, -1.0, 0.0]), -0.5, ("made",), (3,), {})
    probe.save(folder / "probe.safetensors")
    return folder


@pytest.fixture(scope="module")
def probe(root: Path) -> LinearProbe:
    loaded: LinearProbe = load_probe(root / "probe.safetensors")
    return loaded


@pytest.fixture(scope="module")
def loaded(root: Path) -> Loaded:
    return Source([root / "store"], ["made"]).load(Choice("two", "test"))


def test_a_trace_has_the_probes_frame_scores_and_what_is_fake_when(probe: LinearProbe, loaded: Loaded) -> None:
    real, fake = traces(probe, loaded)[:2]
    x = np.array([1.0, 1.0, 0.1 * np.sin(30 + 1)])
    assert fake.scores[30] == pytest.approx((5 - 1) / np.linalg.norm(x) - 0.5, abs=1e-3)
    assert fake.probabilities[30] == pytest.approx(1 / (1 + np.exp(-2 * fake.scores[30])))
    assert fake.times_seconds[[0, 49]] == pytest.approx([0.02, 1.98]) and fake.top_seconds == pytest.approx(0.1)
    assert (fake.label, fake.segments, fake.kinds) == (1, [(1.0, 1.4)], {"sound": [(1.0, 1.4)]})
    assert (real.label, real.segments, real.kinds) == (0, [], {})
    assert fake.score == pytest.approx(np.log(np.exp(fake.scores.astype(float)).sum()), abs=1e-3)


def test_fake_frames_are_those_of_what_the_probe_reads(probe: LinearProbe, loaded: Loaded) -> None:
    sound = {"made": {"identity": {"reads": [{"kind": "sound"}]}}}
    assert stretches_for(loaded, sound) == "audio_segments"
    assert traces(probe, loaded, "audio_segments")[1].segments == [(1.0, 1.4)]
    assert traces(probe, loaded, "video_segments")[1].segments == []
    real = replace(loaded, rows={name: [None] * 8 for name in loaded.rows})
    assert stretches_for(real, sound) == "segments"


def test_speech_starts_at_the_first_loud_sample(root: Path) -> None:
    # The sine that begins at 0.31 s is above 5e-4 from its second sample on.
    assert speech_start(root / "c1.mkv", "c1") == pytest.approx(SPEECH, abs=1.5 / 16000)
    assert speech_start(root / "c0.mkv", "c0") == pytest.approx(0.0, abs=1.5 / 16000)
    write_video(
        root / "quiet.mkv",
        [np.zeros((48, 64, 3), np.uint8)] * 5,
        25,
        np.zeros(3200, np.float32),
        audio_codec="pcm_s16le",
    )
    write_video(root / "mute.mkv", [np.zeros((48, 64, 3), np.uint8)] * 5, 25)
    assert speech_start(root / "quiet.mkv", "quiet") is None
    with pytest.raises(NoSoundError):
        speech_start(root / "mute.mkv", "mute")


def test_a_probe_that_listens_to_the_silence_is_found_out(root: Path, probe: LinearProbe, loaded: Loaded) -> None:
    paths = {clip_id: root / f"{clip_id}.mkv" for clip_id in loaded.data.clip_ids}
    found = leading_silence(probe, loaded, paths)
    assert found.clips == 4 and sorted(found.left_out) == ["c4", "c5", "c6", "c7"]
    assert found.tops == (0.5, 0.0, 1.0)
    assert found.silent_seconds == pytest.approx((0.0, SPEECH), abs=1e-3)
    assert found.facts()["tops_in_silence"] == {"all": 0.5, "real": 0.0, "fake": 1.0}


def test_trimming_drops_the_frames_of_the_silence_and_no_other(probe: LinearProbe, loaded: Loaded) -> None:
    starts = dict.fromkeys(loaded.data.clip_ids, 0.0) | dict.fromkeys(FAKES, SPEECH)
    found = compare(probe, loaded, starts, {})
    assert found.auc is not None and found.auc_trimmed is not None and found.auc.value == 1.0
    whole = {trace.clip_id: trace for trace in traces(probe, loaded)}
    trimmed = compare(probe, loaded, {**starts, "c1": 1.99}, {})
    assert "c1: no frame is left" in trimmed.left_out["c1"] and trimmed.clips == 7
    kept = whole["c1"].scores[8:]  # int(25 * 0.31) + 1 frames are dropped
    assert dropped_until(SPEECH) == pytest.approx(8 / 25)
    (scores,) = probe.frame_scores(without_silence(loaded, [1], [dropped_until(SPEECH)]))
    assert np.array_equal(scores, kept)


@settings(max_examples=50, deadline=None)
@given(st.floats(0, 30))
def test_trimming_drops_at_least_the_silence_and_at_most_a_frame_more(start: float) -> None:
    until = dropped_until(start)
    assert until == 0 if start == 0 else start < until + 1e-9 and until - start <= 1 / 25 + 1e-9


def test_a_tone_is_the_darkest_band_of_its_frequency() -> None:
    for hertz in (500.0, 1000.0, 3000.0):
        mel = mel_spectrogram(sound_of(0.5, 1.0, hertz))
        assert mel.shape[0] == BANDS and mel.max() == 0.0 and mel.min() == -80.0
        assert abs(int(mel[:, 80].argmax()) + 0.5 - band_of(hertz)) < 1.5
        assert mel[:, :40].max() == -80.0


def test_looking_takes_pictures_from_where_it_is_told(root: Path) -> None:
    seen = look(root / "c0.mkv", "c0", sound=True, shares=(0.0, 0.5, 1.0))
    assert [seconds for seconds, _ in seen.pictures] == pytest.approx([0.02, 1.02, 1.98])
    assert [round(float(picture.mean()) / 4) for _, picture in seen.pictures] == [0, 25, 49]
    assert seen.seconds == pytest.approx(2.0) and seen.mel is not None


def test_the_figure_names_its_clips_and_shades_what_is_fake(root: Path, probe: LinearProbe, tmp_path: Path) -> None:
    found = columns({"one": probe}, [root / "store"], ["c1", "c0"])
    png, svg, _ = figure3.draw(found, tmp_path)
    shown = words(svg)
    assert {"c1", "c0", "fake sound", "seconds", "kHz (mel)"} <= set(shown)
    assert any(text.startswith("fake, clip score") and text.endswith("frame AUC 0.97") for text in shown)
    pixels = np.asarray(Image.open(png).convert("RGB")).astype(int)
    shade = np.abs(pixels - [0xE4, 0xE0, 0xD4]).max(-1) < 3
    # c1 is in the left half of the figure, its fake stretch in the right half of that; c0 is real.
    width = shade.shape[1]
    assert shade.sum() > 5000 and shade[:, : width // 4].sum() + shade[:, width // 2 :].sum() < 500


def test_several_probes_share_a_clip_and_a_probe_without_decision_has_no_probability(
    root: Path, probe: LinearProbe, tmp_path: Path
) -> None:
    found = columns({"one": probe, "other": probe}, [root / "store"], ["c1"])
    shown = words(figure3.draw(found, tmp_path, decision=False)[1])
    assert {"one", "other"} <= set(shown) and not any("probability" in text for text in shown)


PROTOCOL = """\
title: When
shows: frame-scores
datasets: {two: {manifest: two, train: test, val: null}}
rows:
  - {group: audio, name: made up, features: [made]}
  - {group: audio, name: absent, features: [absent]}
columns:
  - {name: home, title: two to two, train: two, test: two}
"""


def test_the_figure_of_a_protocol_shows_the_first_clips_that_are_fake_in_part(
    root: Path, probe: LinearProbe, tmp_path: Path
) -> None:
    (tmp_path / "when.yaml").write_text(PROTOCOL)
    (key,) = open_store(root / "store").keys()
    probe.save(probe_path(tmp_path, "f", 43))
    done = Cell("when", "made up", "home", "done", seeds=(43,), fits=("f",), test="two:test", test_key=key)
    results = Results(tmp_path, (done, Cell("when", "absent", "home", "gap", ("absent is not stored.",))))
    protocol = read_protocol(tmp_path / "when.yaml")
    paths, gaps = draw(protocol, results, [root / "store"], tmp_path / "figures")
    assert [path.name for path in paths] == ["when.png", "when.svg", "when.pdf"] and gaps == ["absent is not stored."]
    assert {"c1", "c3", "When: two to two", "fake sound"} <= set(words(paths[1]))
    with pytest.raises(ProbeError, match="when cannot be drawn: absent is not stored"):
        draw(protocol, Results(tmp_path, results.cells[1:]), [root / "store"], tmp_path)


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["explain", *map(str, arguments)])
    return done.exit_code, done.output


def test_the_command_draws_and_prints_measures(root: Path, tmp_path: Path) -> None:
    out = tmp_path / "fig.svg"
    code, said = call("temporal", root / "probe.safetensors", root / "store", "--clip", "c3", "-o", out)
    assert code == 0, said
    assert "frame AUC" in said and f"wrote {out}" in said
    assert "c3" in words(out)
    code, said = call(
        "temporal", root / "probe.safetensors", root / "store", "--clip", "c3", "-o", tmp_path / "fig.gif"
    )
    assert code == 1 and "ends in .png, .svg, .pdf" in said


def test_clips_without_media_are_drawn_alone_with_a_word_about_it(root: Path, probe: LinearProbe) -> None:
    with pytest.raises(ProbeError, match=r"No manifest has c9; there are: two-\w+ \(e\.g\. c0\)"):
        find_manifest([root / "store"], ["c9"])
    manifest = Manifest.from_rows([Row("x", "x.mkv", "test", 1, segments=[(0.5, 1.0)])], DatasetInfo("far"))
    arrays = {"x": np.random.default_rng(0).standard_normal((FRAMES, 3)).astype(np.float32)}
    write_feature(root / "far", manifest, "made", arrays, rate_hz=25.0, first_seconds=0.02)
    (column,) = columns({"one": probe}, [root / "far"], ["x"])
    assert column.seen is None and column.missing == "media not at hand"
    assert column.trace.kinds == {"fake": [(0.5, 1.0)]}


def test_the_silence_command_says_what_was_left_out(root: Path) -> None:
    asked = "silence", root / "probe.safetensors", root / "store", "--test", "two:test"
    code, said = call(*asked)
    assert code == 0, said
    assert call(*asked, "--memory", "1kB") == (0, said)
    assert "'much' is no size" in call(*asked, "--memory", "much")[1]
    assert "4 clips; left out: 4 (e.g. " in said and "100.0 % of fake clips" in said

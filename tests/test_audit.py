"""Audits: shortcuts are found by name, leaks between splits too, and honest data pass."""

import json
import subprocess
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from scipy.signal import resample_poly
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from avfeat.audit import Audit, audit
from avfeat.audit_copies import near_identical
from avfeat.audit_figures import draw
from avfeat.audit_measure import Measures, Prints, leading_silence_seconds, loudness_db, measure, sound_print
from avfeat.audit_nuisance import auc_of, nuisances
from avfeat.datasets import csv, folder
from avfeat.datasets.base import Listing, id_of_path
from avfeat.errors import UnreadableError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.manifest_build import build
from avfeat.manifest_cli import app
from avfeat.manifest_split import read_lists
from avfeat.media import ffmpeg_program, write_video
from demo.cast import Release
from demo.dataset import RELEASES, perform, plan

COMMAND = CliRunner()
RATE_HZ = 16_000
SPLITS = ("train", "val", "test")


def murmur(seed: int, seconds: float = 0.8, silence_seconds: float = 0.0) -> NDArray[np.float32]:
    """Noise whose loudness wanders as speech does, after a silence."""
    random = np.random.default_rng(seed)
    level = np.repeat(10 ** random.uniform(-2.5, -0.7, round(seconds * 20)), RATE_HZ // 20)
    sound = (random.standard_normal(len(level)) * level * 0.5).astype(np.float32)
    sound[: round(silence_seconds * RATE_HZ)] = 0
    return sound


def moving(seed: int, frames: int = 20) -> NDArray[np.uint8]:
    """Pictures of 48 x 48 with a bright square that wanders over blurred noise."""
    random = np.random.default_rng(seed)
    ground = np.kron(random.integers(40, 160, (6, 6, 3)), np.ones((8, 8, 1))).astype(np.uint8)
    pictures = np.stack([ground] * frames)
    at = random.integers(0, 30, 2)
    for picture in pictures:
        at = np.clip(at + random.integers(-4, 5, 2), 0, 32)
        picture[at[0] : at[0] + 16, at[1] : at[1] + 16] = 250
    return pictures


@pytest.fixture(scope="session")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight real and eight fake clips; fakes begin with 0.2 to 0.3 s of silence and are otherwise alike."""
    root = tmp_path_factory.mktemp("planted")
    for seed in range(16):
        silence = 0.2 + 0.012 * seed if seed % 2 else 0.0
        path = root / f"{'fake' if seed % 2 else 'real'}-{seed}.mkv"
        # Sound that is not compressed: silence would lower the bitrate, and the audit would rightly name that too.
        write_video(path, moving(seed), 25, murmur(seed, 0.8, silence), RATE_HZ, audio_codec="pcm_s16le")
    return root


def manifest_of(root: Path, **more: object) -> Manifest:
    rows = [replace(row, label=int(row.path.startswith("fake")), **more) for row in folder.read(root).rows]
    return build(Listing(rows), DatasetInfo("planted", root=str(root))).manifest


def names_of(found: Audit) -> dict[str, set[str]]:
    return {leak.kind: set(leak.names) for leak in found.leaks}


def with_cells(manifest: Manifest, cells: dict[str, dict[str, object]]) -> Manifest:
    rows = [replace(row, **cells.get(row.clip_id, {})) for row in manifest.rows()]
    return Manifest.from_rows(rows, manifest.info)


def test_a_planted_silence_is_found_by_name_and_nothing_else_is(planted: Path) -> None:
    found = audit(manifest_of(planted), planted)
    assert [(each.name, each.more) for each in found.shortcuts] == [("leading silence", "fake")]
    silence = found.shortcuts[0]
    assert (silence.auc, silence.clips, silence.unit) == (1.0, 16, "s")
    assert 0.2 <= float(silence.fake) <= 0.4
    assert silence.p_value < 0.01
    assert found.leaks == []
    same = "duration, frame rate, picture size, sound longer than pictures, sampling rate, video codec, audio codec"
    assert found.notes == [
        "fewer than two splits: nothing was compared across splits",
        "not compared, as the same in all labelled clips or known of fewer than 5 real or fake ones: "
        f"{same}, container, has sound",
    ]


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_the_silence_planted_in_the_demos_a_is_found_and_in_b_is_none(release: Release, tmp_path: Path) -> None:
    rows = []
    for number, clip in enumerate(plan(release)[:18]):
        take = perform(clip)
        ratio = Fraction(release.sound_rate_hz, RATE_HZ)
        sound = resample_poly(take.sound, ratio.numerator, ratio.denominator).astype(np.float32)
        black = np.zeros((round(clip.seconds * release.fps), 16, 16, 3), np.uint8)
        name = f"{number}{release.suffix}"
        write_video(tmp_path / name, black, release.fps, sound, release.sound_rate_hz, audio_codec=release.audio_codec)
        rows.append(Row(str(number), name, label=int(bool(clip.method))))
    found = audit(Manifest.from_rows(rows, DatasetInfo(release.name)), tmp_path)
    # Beside a black picture the sound decides the bitrate, so that may be named too.
    assert {each.name for each in found.shortcuts} - {"bitrate"} == ({"leading silence"} if release.silenced else set())


def test_without_the_silence_nothing_is_found(planted: Path, tmp_path: Path) -> None:
    for path in planted.iterdir():
        if path.name.startswith("real"):
            (tmp_path / path.name).symlink_to(path)
    relabelled = with_cells(
        manifest_of(tmp_path), {f"real-{seed}": {"label": int(seed % 4 == 0)} for seed in range(16)}
    )
    assert audit(relabelled, tmp_path).shortcuts == []


def test_leading_silence_ends_with_the_first_sample_above_the_threshold() -> None:
    sound = np.zeros(1600, np.float32)
    assert leading_silence_seconds(sound) == 0.1
    sound[800:] = 5e-4
    assert leading_silence_seconds(sound) == 0.1, "the threshold itself is silence"
    sound[400] = -6e-4
    assert leading_silence_seconds(sound) == 0.025
    assert leading_silence_seconds(np.ones(4, np.float32)) == 0.0


def test_loudness_is_that_of_the_root_mean_square() -> None:
    assert loudness_db(np.full(100, 0.1, np.float32)) == pytest.approx(-20, abs=1e-4)
    assert loudness_db(np.zeros(100, np.float32)) == -100
    assert loudness_db(np.zeros(0, np.float32)) == -100


@given(
    real=st.lists(st.integers(0, 5), min_size=1, max_size=20), fake=st.lists(st.integers(0, 5), min_size=1, max_size=20)
)
@settings(max_examples=50, deadline=None)
def test_the_auc_is_that_of_scikit_learn(real: list[int], fake: list[int]) -> None:
    expected = roc_auc_score([0] * len(real) + [1] * len(fake), real + fake)
    assert auc_of(np.array(real), np.array(fake)) == pytest.approx(expected)


def test_properties_are_compared_by_direction_name_and_chance() -> None:
    labels = [0] * 30 + [1] * 30 + [None] * 5
    found = nuisances(
        {
            "bitrate_kbps": [*range(100, 130), *range(30), *[1e9] * 5],
            "video_codec": ["h264"] * 30 + ["vp9"] * 27 + ["h264"] * 3 + ["x"] * 5,
            "fps": [25.0] * 65,
            "loudness_db": [None] * 57 + [-20.0, -21.0, -22.0] + [None] * 5,
            "duration_seconds": [float(k % 7) for k in range(65)],
        },
        labels,
    )
    by_name = {each.name: each for each in found}
    assert by_name.keys() == {"bitrate", "video codec", "duration"}
    assert (by_name["bitrate"].auc, by_name["bitrate"].more, by_name["bitrate"].clips) == (1.0, "real", 60)
    codec = by_name["video codec"]
    assert (codec.real, codec.fake, codec.more) == ("h264 (100 %)", "vp9 (90 %)", "")
    assert codec.auc == pytest.approx(0.95)
    assert (codec.shortcut, by_name["duration"].shortcut) == (True, False)


def test_chance_alone_is_hardly_ever_called_a_shortcut() -> None:
    random = np.random.default_rng(0)
    called = 0
    for _ in range(50):
        values = {name: random.standard_normal(40).tolist() for name in ("fps", "loudness_db", "bitrate_kbps")}
        called += sum(each.shortcut for each in nuisances(values, [0, 1] * 20))
    assert called <= 2


def split_rows() -> list[Row]:
    return [
        Row("r1", "r1.mp4", "train", 0, speaker="ann"),
        Row("r2", "r2.mp4", "train", 0, speaker="bob"),
        Row("f1", "f1.mp4", "test", 1, speaker="bob", original="r1"),
        Row("f2", "f2.mp4", "val", 1, speaker="cid", original="gone", segments=[(0.0, 2.0)], duration_seconds=1.0),
        Row("f3", "f3.mp4", "val", 1, speaker="cid", original="gone"),
        Row("f4", "f4.mp4", None, 1, speaker="ann", original="r1"),
    ]


def test_speakers_and_originals_in_several_splits_are_leaks() -> None:
    found = audit(Manifest.from_rows(split_rows(), DatasetInfo("tiny")))
    assert names_of(found) == {"speaker": {"bob"}, "original": {"r1"}}
    assert {leak.kind: leak.between for leak in found.leaks} == {
        "speaker": {("test", "train"): 1},
        "original": {("test", "train"): 1},
    }
    assert [(each.what, each.clips) for each in found.warnings] == [("segments after the end of the clip", ["f2"])]
    assert found.overhangs == {"f2": 1.0}
    assert found.balance == [
        {"split": "(none)", "real": 0, "fake": 1, "unknown": 0},
        {"split": "test", "real": 0, "fake": 1, "unknown": 0},
        {"split": "train", "real": 2, "fake": 0, "unknown": 0},
        {"split": "val", "real": 0, "fake": 2, "unknown": 0},
    ]


def test_clean_splits_leak_nothing() -> None:
    rows = [row for row in split_rows() if row.clip_id in ("r1", "f2", "f3")]
    assert audit(Manifest.from_rows(rows, DatasetInfo("tiny"))).leaks == []


@pytest.fixture(scope="session")
def copied(planted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few clips, a copy of one, and two that were compressed anew: one smaller, one without its sound."""
    root = tmp_path_factory.mktemp("copied")
    for seed in (0, 2, 4, 6, 8):
        (root / f"a{seed}.mkv").write_bytes((planted / f"real-{seed}.mkv").read_bytes())
    (root / "b0.mkv").write_bytes((root / "a0.mkv").read_bytes())
    for source, target, options in (
        ("a2", "b2.mp4", ["-vf", "scale=32:32", "-crf", "30", "-c:a", "aac", "-b:a", "48k", "-ar", "22050"]),
        ("a4", "b4.mp4", ["-an", "-crf", "28"]),
    ):
        subprocess.run(
            [ffmpeg_program(), "-v", "error", "-i", str(root / f"{source}.mkv"), *options, str(root / target)],
            check=True,
        )
    return root


def test_copies_are_found_whether_their_bytes_are_the_same_or_not(copied: Path) -> None:
    rows = [replace(row, split="train" if row.path[0] == "a" else "test") for row in folder.read(copied).rows]
    manifest = build(Listing(rows), DatasetInfo("copied", root=str(copied))).manifest
    found = audit(manifest, copied)
    assert names_of(found) == {"identical": {"a0 = b0"}, "near-identical": {"a2 ~ b2", "a4 ~ b4"}}
    same = Manifest.from_rows([replace(row, split="train") for row in manifest.rows()], manifest.info)
    assert audit(same, copied).leaks == []


def test_prints_do_not_compare_silence_or_stillness() -> None:
    nothing = Prints(None, np.ones(64, np.float16) / 8, None)
    assert near_identical([nothing, nothing], [1.0, 1.0], ["a", "b"]) == []
    assert sound_print(np.zeros(RATE_HZ, np.float32)) is None
    assert sound_print(murmur(1)) is not None
    print_of = sound_print(murmur(1))
    heard = Prints(print_of, None, None)
    assert near_identical([heard, heard], [1.0, 1.0], ["a", "b"]) == [(0, 1)]
    assert near_identical([heard, heard], [1.0, 1.2], ["a", "b"]) == []
    assert near_identical([heard, heard], [1.0, 1.0], ["a", "a"]) == []
    assert near_identical([heard, heard], [1.0, 1.0], ["a", None]) == []


def test_mute_clips_are_copies_only_when_they_look_alike_and_move_alike() -> None:
    random = np.random.default_rng(3)

    def near(print_of: NDArray[np.float64], cosine: float) -> NDArray[np.float16]:
        away = random.standard_normal(len(print_of))
        away -= (away @ print_of) * print_of
        return (cosine * print_of + np.sqrt(1 - cosine**2) * away / np.linalg.norm(away)).astype(np.float16)

    still, motion = (each / np.linalg.norm(each) for each in (random.standard_normal(64), random.standard_normal(192)))
    clip = Prints(None, still.astype(np.float16), motion.astype(np.float16))
    for looks, moves, same in ((0.99, 0.95, True), (0.99, 0.85, False), (0.96, 0.95, False)):
        other = Prints(None, near(still, looks), near(motion, moves))
        assert near_identical([clip, other], [None, None], ["a", "b"]) == ([(0, 1)] if same else []), (looks, moves)


def test_signatures_miss_no_copy_that_comparing_all_pairs_finds() -> None:
    random = np.random.default_rng(1)
    base = random.standard_normal((300, 32))
    noisy = base + 0.1 * random.standard_normal(base.shape)
    unit = [each / np.linalg.norm(each) for each in [*base, *noisy]]
    prints = [Prints(each.astype(np.float16), None, None) for each in unit]
    groups = ["a"] * 300 + ["b"] * 300
    found = near_identical(prints, [None] * 600, groups)
    plain = [(k, j) for k in range(300) for j in range(300, 600) if unit[k] @ unit[j] >= 0.95]
    assert len(set(plain) - set(found)) <= 3
    assert {(k, k + 300) for k in range(300)} - set(found) == set()


def test_a_file_that_cannot_be_decoded_is_told_and_counted(copied: Path, tmp_path: Path) -> None:
    (tmp_path / "page.mp4").write_text("<html>404</html>")
    assert isinstance(measure(tmp_path / "page.mp4", "page", prints=True), UnreadableError)
    (tmp_path / "a.mkv").write_bytes((copied / "a0.mkv").read_bytes())
    rows = [Row("a", "a.mkv", "train"), Row("page", "page.mp4", "test")]
    found = audit(Manifest.from_rows(rows, DatasetInfo("tiny")), tmp_path)
    assert (found.clips, found.measured, list(found.unreadable)) == (2, 1, ["page"])


def test_a_sample_is_the_same_clips_again_and_says_that_it_is_one(planted: Path) -> None:
    manifest = manifest_of(planted)
    one, two = (audit(manifest, planted, sample=4) for _ in range(2))
    assert one.measured == 4
    assert one.measures == two.measures
    assert "4 of 16 clips were measured: copies among the others go unseen" in one.notes


def test_sound_that_ends_early_is_told(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mkv", moving(1, 25), 25, murmur(1, 0.4), RATE_HZ)
    measures, _ = measure(tmp_path / "short.mkv", "short", prints=False)
    assert measures.length_difference_seconds == pytest.approx(-0.6, abs=0.1)
    found = audit(Manifest.from_rows([Row("short", "short.mkv")], DatasetInfo("tiny")), tmp_path)
    assert [each.clips for each in found.warnings] == [["short"]]


def test_each_finding_gets_a_figure_with_something_on_it(tmp_path: Path) -> None:
    found = audit(Manifest.from_rows(split_rows(), DatasetInfo("tiny")))
    labels = [0] * 10 + [1] * 10
    values = {
        "leading_silence_seconds": [0.0] * 10 + [0.3] * 10,
        "video_codec": ["h264"] * 10 + ["vp9"] * 10,
        "length_difference_seconds": [0.01 * k for k in range(20)],
    }
    more = replace(found, nuisances=nuisances(values, labels), measures=values, labels=labels)
    paths = draw(more, tmp_path)
    assert [path.name.removeprefix(f"{found.manifest}-") for path in paths] == [
        "shortcut-leading-silence-seconds.png",
        "shortcut-length-difference-seconds.png",
        "shortcut-video-codec.png",
        "leak-speaker.png",
        "leak-original.png",
        "segments-outside.png",
    ]
    for path in paths:
        pixels = np.asarray(Image.open(path).convert("RGB"))
        coloured = (pixels.max(axis=2).astype(int) - pixels.min(axis=2)) > 60
        assert coloured.sum() > 500, path.name


def test_the_command_prints_tables_or_json_and_exits_with_1_on_a_leak(planted: Path, tmp_path: Path) -> None:
    manifest_of(planted).write(tmp_path / "planted.parquet")
    figures = tmp_path / "figures"
    clean = COMMAND.invoke(app, ["audit", str(tmp_path / "planted.parquet"), "--figures", str(figures)])
    assert clean.exit_code == 0, clean.output
    marked = [line.split() for line in clean.stdout.splitlines() if "SHORTCUT" in line]
    assert [(line[:4]) for line in marked] == [["leading", "silence", "(s)", "1.000"]]
    assert [path.name.partition("-shortcut-")[2] for path in figures.iterdir()] == ["leading-silence-seconds.png"]
    Manifest.from_rows(split_rows(), DatasetInfo("tiny")).write(tmp_path / "tiny.parquet")
    leaky = COMMAND.invoke(app, ["audit", str(tmp_path / "tiny.parquet"), "--no-media", "--json"])
    facts = json.loads(leaky.stdout)
    assert leaky.exit_code == 1
    assert (facts["has_leaks"], facts["leaks"][0]["between"]) == (True, [["test", "train", 1]])
    assert "measures" not in facts


def test_several_manifests_are_audited_one_after_the_other_and_a_leak_in_any_is_told(tmp_path: Path) -> None:
    rows = split_rows()
    files = [str(tmp_path / "leaky.parquet"), str(tmp_path / "clean.parquet")]
    Manifest.from_rows(rows, DatasetInfo("leaky")).write(Path(files[0]))
    Manifest.from_rows(rows[:2], DatasetInfo("clean")).write(Path(files[1]))
    both = COMMAND.invoke(app, ["audit", *files, "--no-media"])
    heads = [line.partition("-")[0] for line in both.stdout.splitlines() if line.endswith("clips measured")]
    assert (both.exit_code, heads) == (1, ["leaky", "clean"])
    assert COMMAND.invoke(app, ["audit", files[1], "--no-media"]).exit_code == 0


def test_many_copies_of_one_clip_are_told_in_short_and_all_in_json(copied: Path, tmp_path: Path) -> None:
    for number in range(4):
        (tmp_path / f"{number}.mkv").write_bytes((copied / "a0.mkv").read_bytes())
    rows = [replace(row, split=f"s{row.clip_id}") for row in folder.read(tmp_path).rows]
    Manifest.from_rows(rows, DatasetInfo("tiny", root=str(tmp_path))).write(tmp_path / "tiny.parquet")
    told = COMMAND.invoke(app, ["audit", str(tmp_path / "tiny.parquet")])
    assert told.exit_code == 1
    assert "byte-identical clips in several splits  1  0 = 1 = 2 = … (4 clips)" in told.stdout
    facts = json.loads(COMMAND.invoke(app, ["audit", str(tmp_path / "tiny.parquet"), "--json"]).stdout)
    assert list(facts["leaks"][0]["names"]) == ["0 = 1 = 2 = 3"]


def test_measures_of_a_clip_are_those_of_its_file(planted: Path) -> None:
    path = planted / "fake-1.mkv"
    measures, prints = measure(path, "x", prints=True)
    assert isinstance(measures, Measures)
    assert (measures.fps, measures.pixels, measures.video_codec, measures.sound) == (25.0, 48 * 48, "h264", "yes")
    assert measures.bitrate_kbps == pytest.approx(8 * path.stat().st_size / measures.duration_seconds / 1000)
    assert prints.sound is not None
    assert prints.motion is not None
    assert measure(path, "x", prints=False)[1] == Prints()


@pytest.mark.shared
def test_the_official_splits_share_speakers_in_av1m_and_nobody_in_favc(shared: Path) -> None:
    found = {}
    for name, speaker_at in (("av1m", 0), ("favc", -2)):
        rows = [
            Row(id_of_path(path), path, each.split, label, speaker=path.split("/")[speaker_at])
            for each in read_lists([str(shared / "metadata" / "ssr-dfd" / "csv_metadata" / name)])
            for path, label in zip(each.paths, each.labels, strict=True)
        ]
        found[name] = audit(Manifest.from_rows(rows, DatasetInfo(name)))
    assert found["favc"].leaks == []
    (speakers,) = found["av1m"].leaks
    assert speakers.between["test", "train"] == 1223
    assert found["av1m"].balance[1] == {"split": "train", "real": 11285, "fake": 11687, "unknown": 0}


@pytest.mark.shared
def test_copies_among_the_real_clips_are_found_and_no_others(shared: Path) -> None:
    root = shared / "clips"
    wanted = {"anitalker_einstein", "anitalker_einstein_sr", "grid_swiz3n", "grid_lbax4n", "grid_lwbsza", "grid_brbk7n",
              "derived/audio_8k_mono", "derived/name with spaces é 你好", "retalking_5", "derived/fps50"}  # fmt: skip
    rows = [replace(row, split=row.clip_id) for row in csv.read(root / "clips.csv").rows if row.clip_id in wanted]
    assert len(rows) == len(wanted)
    found = audit(Manifest.from_rows(rows, DatasetInfo("real")), root)
    assert names_of(found) == {
        "near-identical": {
            "anitalker_einstein ~ anitalker_einstein_sr",
            "derived/audio_8k_mono ~ grid_swiz3n",
            "derived/fps50 ~ retalking_5",
            "derived/name with spaces é 你好 ~ grid_lbax4n",
        }
    }

"""From files to a manifest, and whether the manifest is still true of them; real media, made here."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from avfeat.datasets import csv, folder
from avfeat.datasets.base import Listing
from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.manifest_build import Built, build, in_threads
from avfeat.manifest_check import Report, check
from avfeat.manifest_cli import app
from avfeat.manifest_summary import summarise
from avfeat.media import write_video

COMMAND = CliRunner()


@pytest.fixture(scope="session")
def made_media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three videos of two seconds at 10 fps, 64 x 48: with a tone, with another tone, without sound."""
    root = tmp_path_factory.mktemp("media")
    pictures = np.random.default_rng(0).integers(0, 255, (20, 48, 64, 3), dtype=np.uint8)
    times = np.arange(16_000) / 8_000
    for name, hertz in (("a", 440.0), ("b", 660.0)):
        tone = np.sin(2 * np.pi * hertz * times).astype(np.float32) / 4
        write_video(root / f"{name}.mp4", pictures, 10, tone, 8_000)
    write_video(root / "silent.mp4", pictures, 10)
    return root


@pytest.fixture
def release(made_media: Path, tmp_path: Path) -> Path:
    """A folder with two good clips, a silent one, a text and an empty file that pretend, all listed as they are."""
    root = tmp_path / "release"
    for name, target in {"a": "real/a é.mp4", "b": "fake/-b.mp4", "silent": "fake/silent.mp4"}.items():
        (root / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(made_media / f"{name}.mp4", root / target)
    (root / "fake" / "page.mp4").write_text("<html>404</html>")
    (root / "fake" / "empty.mp4").touch()
    return root


def built_of(root: Path, **options: object) -> Built:
    return build(folder.read(root, labels_from_folders=True), DatasetInfo("tiny", root=str(root)), **options)


def changed(manifest: Manifest, **cells: dict[str, object]) -> Manifest:
    """Return the manifest with other cells for the clips whose ids end with the given names."""
    rows = [
        replace(row, **next((new for name, new in cells.items() if row.clip_id.endswith(name)), {}))
        for row in manifest.rows()
    ]
    return Manifest.from_rows(rows, manifest.info)


def found_in(report: Report) -> dict[str, list[str]]:
    return {f"{finding.level}: {finding.kind}": finding.names for finding in report.findings}


def test_probing_fills_the_media_facts(release: Path) -> None:
    row = built_of(release).manifest.row("real/a é")
    assert (row.has_video, row.has_audio, row.width, row.height, row.audio_rate_hz) == (True, True, 64, 48, 8_000)
    assert row.fps == pytest.approx(10)
    assert row.duration_seconds == pytest.approx(2.0, abs=0.15)
    assert row.label == 0
    silent = built_of(release).manifest.row("fake/silent")
    assert (silent.has_video, silent.has_audio, silent.audio_rate_hz) == (True, False, None)


def test_files_that_cannot_be_probed_stay_as_rows_and_are_told(release: Path) -> None:
    listing = folder.read(release)
    (release / "fake" / "-b.mp4").unlink()
    seen = np.zeros(2, int)
    built = build(
        listing, DatasetInfo("tiny", root=str(release)), advance=lambda *counts: np.add(seen, counts, out=seen)
    )
    assert built.missing == ["fake/-b"]
    assert sorted(built.unreadable) == ["fake/empty", "fake/page"]
    assert all(clip_id.split("/")[1] in sentence for clip_id, sentence in built.unreadable.items())
    assert len(built.manifest) == 5
    for clip_id in ("fake/-b", "fake/empty", "fake/page"):
        row = built.manifest.row(clip_id)
        assert (row.has_video, row.has_audio, row.duration_seconds) == (None, None, None)
    assert tuple(seen) == (2, 3)


def test_what_a_probe_finds_replaces_what_the_listing_said(release: Path) -> None:
    rows = [Row("a", "real/a é.mp4", fps=99.0, width=1), Row("page", "fake/page.mp4", fps=99.0)]
    info = DatasetInfo("tiny", root=str(release))
    probed = build(Listing(rows), info).manifest
    assert [row.fps for row in probed.rows()] == [pytest.approx(10), None]
    assert [row.fps for row in build(Listing(rows), info, probe_media=False).manifest.rows()] == [99.0, 99.0]


def test_one_thread_and_many_build_the_same_manifest(release: Path) -> None:
    assert built_of(release, workers=1).manifest.digest == built_of(release, workers=8).manifest.digest


def test_work_in_threads_comes_back_whole_and_in_order() -> None:
    assert list(in_threads(lambda number: number * number, range(1000), workers=3)) == [n * n for n in range(1000)]


def test_a_wrong_root_is_an_error_not_an_empty_dataset(release: Path) -> None:
    with pytest.raises(ManifestError, match="not one of the 5 files is there"):
        build(folder.read(release), DatasetInfo("tiny", root=str(release / "real")))


def test_an_untouched_release_has_only_its_known_faults(release: Path) -> None:
    manifest = built_of(release).manifest
    report = check(manifest, release)
    assert report.counts == {
        "clips listed": 5, "files found": 5, "files readable": 3, "files missing": 0, "files unreadable": 2,
        "files not listed": 0,
    }  # fmt: skip
    assert found_in(report) == {
        "error: files unreadable": ["fake/empty", "fake/page"],
        "warning: clips without sound": ["fake/silent"],
        "warning: clips without media facts": ["fake/empty", "fake/page"],
    }
    assert report.has_errors


def test_lost_new_and_exchanged_files_are_found(release: Path) -> None:
    for name in ("empty", "page"):
        (release / "fake" / f"{name}.mp4").unlink()
    manifest = built_of(release).manifest
    assert not check(manifest, release).has_errors
    shutil.copy(release / "fake" / "silent.mp4", release / "fake" / "new.mp4")
    (release / "real" / "a é.mp4").unlink()
    (release / "fake" / "silent.mp4").replace(release / "fake" / "-b.mp4")
    assert found_in(check(manifest, release)) == {
        "error: files changed since the build": ["fake/-b"],
        "error: files missing": ["fake/silent", "real/a é"],
        "warning: clips without sound": ["fake/silent"],
        "warning: files not listed": ["fake/new.mp4"],
    }


@pytest.mark.parametrize("cells", [{"duration_seconds": 1.5}, {"width": 48}, {"has_audio": False}, {"height": 64}])
def test_a_file_whose_facts_differ_has_changed(release: Path, cells: dict[str, object]) -> None:
    manifest = changed(built_of(release).manifest, **{"-b": cells})
    assert found_in(check(manifest, release))["error: files changed since the build"] == ["fake/-b"]


def test_copies_are_an_error_where_they_cross_splits_or_labels_and_a_warning_elsewhere(release: Path) -> None:
    shutil.copy(release / "fake" / "-b.mp4", release / "fake" / "copy.mp4")
    manifest = built_of(release).manifest
    assert found_in(check(manifest, release))["warning: copies"] == ["fake/-b", "fake/copy"]
    for cells in ({"label": 0}, {"split": "test"}):
        found = found_in(check(changed(manifest, copy=cells), release))
        assert found["error: copies across splits or labels"] == ["fake/-b", "fake/copy"]
        assert "warning: copies" not in found


def test_files_of_one_size_but_other_content_are_no_copies(release: Path) -> None:
    good = (release / "fake" / "-b.mp4").read_bytes()
    (release / "fake" / "twin.mp4").write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    assert not any("copies" in kind for kind in found_in(check(built_of(release).manifest, release)))


def table_of(*rows: Row) -> Manifest:
    return Manifest.from_rows(rows, DatasetInfo("tiny"))


def test_speakers_in_several_splits_are_an_error() -> None:
    manifest = table_of(
        Row("1", "1.mp4", "train", speaker="ann"),
        Row("2", "2.mp4", "test", speaker="ann"),
        Row("3", "3.mp4", "train", speaker="bob"),
        Row("4", "4.mp4", "train", speaker="bob"),
        Row("5", "5.mp4", None, speaker="bob"),
        Row("6", "6.mp4", "train"),
        Row("7", "7.mp4", "test"),
    )
    assert found_in(check(manifest))["error: speakers in several splits"] == ["ann"]


def test_segments_may_end_one_frame_after_the_clip_and_no_more() -> None:
    manifest = table_of(
        Row("inside", "1.mp4", segments=[(0.0, 1.0), (1.5, 2.039)], duration_seconds=2.0),
        Row("outside", "2.mp4", audio_segments=[(1.5, 2.041)], duration_seconds=2.0),
        Row("twice", "3.mp4", segments=[(3, 4)], video_segments=[(3, 4)], duration_seconds=2.0),
        Row("unknown", "4.mp4", segments=[(0.0, 99.0)]),
    )
    assert found_in(check(manifest))["warning: segments after the end of the clip"] == ["outside", "twice"]


def test_labels_that_contradict_their_streams_are_told() -> None:
    manifest = table_of(
        Row("1 real with a fake voice", "1.mp4", label=0, audio_label=1),
        Row("2 real with a fake stretch", "2.mp4", label=0, video_segments=[(0, 1)]),
        Row("3 fake of two real streams", "3.mp4", label=1, audio_label=0, video_label=0),
        Row("4 fake by one stream", "4.mp4", label=1, audio_label=0, video_label=1, segments=[(0, 1)]),
        Row("5 fake, one stream unknown", "5.mp4", label=1, audio_label=0),
        Row("6 real", "6.mp4", label=0, audio_label=0, video_label=0, segments=[]),
        Row("7 unknown", "7.mp4", segments=[(0, 1)]),
    )
    names = found_in(check(manifest))["warning: contradicting labels"]
    assert [name[0] for name in names] == ["1", "2", "3"]


def test_a_header_with_impossible_numbers_counts_as_unknown() -> None:
    from avfeat.clip import Media
    from avfeat.manifest_build import _with_facts

    media = Media(-1.0, float("nan"), -5, 640, 480, True, False, None)
    row = _with_facts(Row("a", "a.mp4"), media)
    assert (row.duration_seconds, row.fps, row.source_frames, row.width, row.has_audio) == (
        None,
        None,
        None,
        640,
        False,
    )


def test_a_summary_counts_clips_by_split_and_label() -> None:
    manifest = table_of(
        Row("1", "1.mp4", "train", 0, speaker="ann", duration_seconds=1.5, fps=25.0, width=4, height=2, has_video=True),
        Row("2", "2.mp4", "train", 1, speaker="ann", duration_seconds=2.0, fps=25.0, method="swap", has_video=False),
        Row("3", "3.mp4", "train", 1, fps=30.0),
        Row("4", "4.mp4"),
    )
    summary = summarise(manifest)
    assert (summary.clips, summary.speakers, summary.methods, summary.duration_seconds) == (4, 1, 1, 3.5)
    assert summary.splits == [
        {"split": "train", "real": 1, "fake": 2, "unknown": 0, "seconds": 3.5},
        {"split": None, "real": 0, "fake": 0, "unknown": 1, "seconds": 0.0},
    ]
    assert summary.facts["fps"] == [(25.0, 2), (30.0, 1), (None, 1)]
    assert summary.facts["size"] == [(None, 3), ("4x2", 1)]


def test_build_check_and_show_work_from_the_command_line(release: Path, tmp_path: Path) -> None:
    out = tmp_path / "tiny.parquet"
    made = COMMAND.invoke(app, ["build", "folder", str(release), "-o", str(out), "--labels-from-folders"])
    assert made.exit_code == 0, made.stderr
    key = Manifest.read(out).key
    assert made.stdout.splitlines()[0] == f"{out} is {key}"
    assert "unreadable  2  fake/empty, fake/page" in made.stdout
    assert "done 3  failed 2  left 0" in made.stderr
    shown = COMMAND.invoke(app, ["show", str(out)])
    assert shown.exit_code == 0 and "digest" in shown.stdout and "64x48 (3)" in shown.stdout
    assert json.loads(COMMAND.invoke(app, ["show", str(out), "--json"]).stdout)["key"] == key
    checked = COMMAND.invoke(app, ["check", str(out)])
    assert checked.exit_code == 1
    assert "error    files unreadable           2  fake/empty, fake/page" in checked.stdout
    facts = json.loads(COMMAND.invoke(app, ["check", str(out), "--json"]).stdout)
    assert facts["has_errors"] and facts["counts"]["files found"] == 5
    assert COMMAND.invoke(app, ["check", str(out), "--no-media"]).exit_code == 0


def test_a_csv_beside_its_clips_is_built_from_the_command_line(release: Path, tmp_path: Path) -> None:
    (release / "clips.csv").write_text("path,label,split,mood\nreal/a é.mp4,0,test,good\n")
    out = tmp_path / "tiny.parquet"
    made = COMMAND.invoke(
        app, ["build", "csv", str(release / "clips.csv"), "-o", str(out), "--name", "x", "--workers", "2"]
    )
    assert made.exit_code == 0, made.stderr
    assert "note: columns not used: mood" in made.stdout
    manifest = Manifest.read(out)
    assert (manifest.info.name, manifest.info.root) == ("x", str(release))
    assert manifest.row("real/a é").fps == pytest.approx(10)
    assert COMMAND.invoke(app, ["check", str(out)]).exit_code == 0


def test_errors_and_wrong_commands_have_their_exit_codes(release: Path, tmp_path: Path) -> None:
    wrong = COMMAND.invoke(app, ["check", str(tmp_path / "none.parquet")])
    assert wrong.exit_code == 1
    assert wrong.stderr.startswith("ManifestError: ") and wrong.stderr.count("\n") == 1
    (tmp_path / "list.csv").write_text("path\na.mp4\n")
    made = [
        "build",
        "csv",
        str(tmp_path / "list.csv"),
        "--root",
        str(release / "gone"),
        "-o",
        str(tmp_path / "x.parquet"),
    ]
    assert COMMAND.invoke(app, [*made, "--no-probe"]).exit_code == 0
    lost = COMMAND.invoke(app, ["check", str(tmp_path / "x.parquet")])
    assert lost.exit_code == 1 and "gone is not a folder: give the folder with --root" in lost.stderr
    moved = COMMAND.invoke(app, ["build", "folder", str(release), "-o", str(tmp_path / "Bad Name.parquet")])
    assert moved.exit_code == 1 and "--name" in moved.stderr
    assert COMMAND.invoke(app, ["build", "folder", str(release)]).exit_code == 2
    assert COMMAND.invoke(app, ["check", str(release), "--workers", "0"]).exit_code == 2


@pytest.mark.shared
def test_every_real_clip_is_probed_and_the_broken_ones_are_told(shared: Path) -> None:
    clips = shared / "clips"
    good = build(csv.read(clips / "clips.csv"), DatasetInfo("clips", root=str(clips)))
    assert (good.missing, good.unreadable) == ([], {})
    rotated = good.manifest.row("derived/rotated_90")
    broken = build(csv.read(clips / "broken" / "broken.csv"), DatasetInfo("broken", root=str(clips / "broken")))
    dead = {"moov_missing", "zero_byte", "text_renamed", "html_error_page", "git_lfs_pointer", "header_only"}
    assert dead <= set(broken.unreadable)
    assert broken.manifest.row("audio_only").has_video is False
    assert broken.manifest.row("video_only").has_audio is False
    assert (rotated.width, rotated.height) == (590, 400), "stored as 400 x 590, to be turned"

"""Readers of releases, on excerpts of the releases' real metadata laid out on disk with a tiny clip at each place."""

import json
from collections import Counter
from pathlib import Path

import pytest
from releases import FRAMES, lay_out, lines_of, put, write_tiny

from avfeat.datasets import av1m, avlips, dfe2024, exddv, favc, lavdf, voxceleb2
from avfeat.datasets.base import Listing, release_info
from avfeat.manifest import DatasetInfo, Manifest
from avfeat.manifest_build import build
from avfeat.manifest_check import check

pytestmark = pytest.mark.shared

PROBED = 12


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny(tmp_path_factory.mktemp("tiny") / "tiny.mp4")


def assert_builds(listing: Listing, about: DatasetInfo, root: Path) -> Manifest:
    """Probe some of the clips, then make the manifest of all; return that."""
    info = release_info(about, root)
    step = max(len(listing.rows) // PROBED, 1)
    some = build(Listing(listing.rows[::step]), info)
    assert (some.missing, some.unreadable) == ([], {})
    assert {(row.source_frames, row.has_audio) for row in some.manifest.rows()} == {(FRAMES, True)}
    return build(listing, info, probe_media=False).manifest


def test_the_excerpt_of_favc_gives_the_types_methods_and_originals_of_its_rows(
    shared: Path, tmp_path: Path, tiny: Path
) -> None:
    file = shared / "metadata" / "fakeavceleb" / "meta_data.sample.csv"
    lines = lines_of(file)
    paths = {f"{line['path']}/{line['filename']}".split("/", 1)[1] for line in lines}
    put(tmp_path, favc.METADATA, file)
    listing = favc.read(lay_out(tmp_path, paths, tiny))
    manifest = assert_builds(listing, favc.ABOUT, tmp_path)
    assert (len(lines), len(manifest)) == (284, 262)
    assert {row.path for row in manifest.rows()} == paths
    by_type = Counter((row.path.split("/")[0], row.audio_label, row.video_label) for row in manifest.rows())
    assert {key[0]: key[1:] for key in by_type} == {
        "RealVideo-RealAudio": (0, 0), "RealVideo-FakeAudio": (1, 0), "FakeVideo-RealAudio": (0, 1),
        "FakeVideo-FakeAudio": (1, 1),
    }  # fmt: skip
    twice = [row for row in manifest.rows() if "|" in (row.method or "")]
    assert {frozenset(row.method.split("|")) for row in twice} == {frozenset({"faceswap-wav2lip", "wav2lip"})}
    assert len(twice) == 22
    assert all(each.missing == 0 for each in listing.folders)
    for row in manifest.rows():
        if row.original is not None:
            real = manifest.row(row.original)
            assert (real.label, real.speaker) == (0, row.speaker)
    assert sum(row.original is not None for row in manifest.rows()) > 150


def test_the_real_list_of_av1m_with_constructed_entries_gives_kinds_and_speakers(
    shared: Path, tmp_path: Path, tiny: Path
) -> None:
    folder = shared / "metadata" / "av-deepfake1m"
    paths = (folder / "val_videos.first200.txt").read_text().split()
    hidden = (folder / "test_files.first100.txt").read_text().split()
    kinds = {
        "real": "real",
        "fake_video_real_audio": "visual_modified",
        "real_video_fake_audio": "audio_modified",
        "fake_video_fake_audio": "both_modified",
    }
    example = {entry["modify_type"]: entry for entry in json.loads((folder / "constructed_example.json").read_text())}
    entries = []
    for path in paths:
        file = path.removeprefix("val/")
        kind = kinds[Path(file).stem]
        original = str(Path(file).with_name("real.mp4")) if kind != "real" else f"VoxCeleb2/dev/mp4/{file}"
        entries.append(example[kind] | {"file": file, "original": original})
    put(tmp_path, "val_metadata.json", json.dumps(entries))
    put(tmp_path, "test_files.txt", folder / "test_files.first100.txt")
    listing = av1m.read(lay_out(tmp_path, [*paths[:150], *(f"test/{name}" for name in hidden)], tiny))
    manifest = assert_builds(listing, av1m.ABOUT, tmp_path)
    assert [(each.folder, each.listed, each.found) for each in listing.folders] == [
        ("test", 100, 100),
        ("val", 200, 150),
    ]
    for row in manifest.rows():
        kind = Path(row.path).stem
        if row.split == "test":
            assert (row.label, row.audio_label, row.video_label, row.segments) == (None, None, None, None)
            continue
        assert (row.audio_label, row.video_label) == ("fake_audio" in kind, "fake_video" in kind)
        assert row.speaker == row.path.split("/")[1]
        assert (row.original is None) == (kind == "real")
        assert (len(row.segments) > 0) == (row.label == 1)
    assert not check(manifest).has_errors


def test_the_constructed_entries_of_both_av1m_editions_are_read(shared: Path, tmp_path: Path, tiny: Path) -> None:
    for edition, count in (("av-deepfake1m", 4), ("av-deepfake1m-plusplus", 5)):
        root = put(tmp_path / edition, "val_metadata.json", shared / "metadata" / edition / "constructed_example.json")
        files = [entry["file"] for entry in json.loads((root / "val_metadata.json").read_text())]
        rows = av1m.read(lay_out(root, [f"val/{file}" for file in files], tiny)).rows
        assert len(rows) == count
        assert rows[0].label == 0
        assert rows[1].original == rows[0].clip_id
    silent = rows[-1]
    assert (silent.label, silent.audio_label, silent.audio_segments, silent.speaker) == (1, 0, (), "subject_1")


def test_the_constructed_entries_are_the_same_from_lists_and_from_the_json_files_of_single_clips(
    shared: Path, tmp_path: Path, tiny: Path
) -> None:
    for edition, folder in (("av-deepfake1m", "val_metadata"), ("av-deepfake1m-plusplus", "val")):
        entries = json.loads((shared / "metadata" / edition / "constructed_example.json").read_text())
        paths = [f"val/{entry['file']}" for entry in entries]
        listed = put(tmp_path / edition, "val_metadata.json", json.dumps(entries))
        single = lay_out(tmp_path / f"{edition}-single", paths, tiny)
        for entry in entries:
            file = (single / folder / entry["file"]).with_suffix(".json")
            put(file.parent, file.name, json.dumps(entry))
        expected = av1m.read(lay_out(listed, paths, tiny))
        found = av1m.read(single)
        assert sorted(found.rows, key=lambda row: row.path) == sorted(expected.rows, key=lambda row: row.path)
        assert found.folders == expected.folders
        assert_builds(found, av1m.ABOUT, single)


def test_the_real_list_of_avlips_laid_out_gives_its_labels_back(shared: Path, tmp_path: Path, tiny: Path) -> None:
    lines = lines_of(shared / "metadata" / "avlips" / "test_labels.sample.csv")
    listing = avlips.read(lay_out(tmp_path, [line["path"] for line in lines], tiny))
    manifest = assert_builds(listing, avlips.ABOUT, tmp_path)
    assert {row.path: str(row.label) for row in manifest.rows()} == {line["path"]: line["label"] for line in lines}


def test_the_excerpt_of_dfe2024_keeps_unknown_apart_from_real(shared: Path, tmp_path: Path, tiny: Path) -> None:
    file = shared / "metadata" / "deepfake-eval-2024" / "video-metadata-publish.sample.csv"
    lines = lines_of(file)
    put(tmp_path, dfe2024.METADATA, file)
    listing = dfe2024.read(lay_out(tmp_path, [f"video-data/{line['Filename']}" for line in lines], tiny))
    manifest = assert_builds(listing, dfe2024.ABOUT, tmp_path)
    truths = Counter((line["Video Ground Truth"], line["Audio Ground Truth"]) for line in lines)
    labels = Counter(row.label for row in manifest.rows())
    assert labels[0] == truths["Real", "Real"] > 0
    assert labels[None] == truths["Unknown", "Unknown"] + truths["Real", "Unknown"]
    assert labels[1] == len(lines) - labels[0] - labels[None]
    assert Counter(row.split for row in manifest.rows()) == Counter(line["Finetuning Set"] for line in lines)


def test_the_excerpts_of_voxceleb2_give_real_clips_of_listed_people(shared: Path, tmp_path: Path, tiny: Path) -> None:
    folder = shared / "metadata" / "voxceleb2"
    names = (folder / "vox-en.sample.id").read_text().split()
    put(tmp_path, voxceleb2.PEOPLE, folder / "vox2_meta.first200.csv")
    lay_out(tmp_path, [f"{name}.mp4" for name in names], tiny)
    listing = voxceleb2.read(tmp_path, clips=folder / "vox-en.sample.id")
    manifest = assert_builds(listing, voxceleb2.ABOUT, tmp_path)
    assert manifest.clip_ids == sorted(names)
    assert manifest.table.equals(Manifest.from_rows(voxceleb2.read(tmp_path).rows, manifest.info).table)
    assert Counter(row.split for row in manifest.rows()) == {"dev": 150, "test": 50}
    assert {row.label for row in manifest.rows()} == {0}
    sets = {line["VoxCeleb2 ID"].strip(): line["Set"].strip() for line in lines_of(tmp_path / voxceleb2.PEOPLE)}
    dev = sum(split == "dev" for split in sets.values())
    assert any(f"of the {dev} people" in note for note in listing.notes)


def test_the_seen_entry_of_lavdf_and_the_constructed_ones_are_read(shared: Path, tmp_path: Path, tiny: Path) -> None:
    folder = shared / "metadata" / "lav-df"
    entries = [
        *json.loads((folder / "seen_entry.json").read_text()),
        *json.loads((folder / "constructed_example.json").read_text()),
    ]
    put(tmp_path, "metadata.json", json.dumps(entries))
    others = {line["path"] for line in lines_of(folder / "shared1000_split.sample.csv")}
    lay_out(tmp_path, [*(entry["file"] for entry in entries), *others], tiny)
    listing = lavdf.read(tmp_path)
    seen, real, both, voice = listing.rows
    assert (seen.clip_id, seen.label, seen.split, seen.segments, seen.duration_seconds) == (
        "test/000001", 0, "test", (), 4.224,
    )  # fmt: skip
    assert (both.label, both.audio_segments, both.video_segments) == (1, ((2.44, 3.02),), ((2.44, 3.02),))
    assert (voice.audio_label, voice.video_label, voice.original) == (1, 0, real.clip_id)
    assert voice.video_segments == ()
    assert listing.notes[-1].startswith(f"{len(others)} videos on disk that no list names")
    assert_builds(listing, lavdf.ABOUT, tmp_path)


def test_the_excerpt_of_exddv_gives_fakes_and_their_clicks(shared: Path, tmp_path: Path, tiny: Path) -> None:
    file = shared / "metadata" / "exddv" / "ExDDV.sample.csv"
    lines = lines_of(file)
    put(tmp_path, exddv.METADATA, file)
    named = {(line["dataset"], line["manipulation"], line["movie_name"]): line["split"] for line in lines}
    lay_out(tmp_path, ["/".join(("any", *parts)) for parts in named], tiny)
    listing = exddv.read(tmp_path)
    manifest = assert_builds(listing, exddv.ABOUT, tmp_path)
    assert (len(lines), len(manifest)) == (234, 233)
    assert Counter(row.split for row in manifest.rows()) == Counter(named.values())
    assert {row.label for row in manifest.rows()} == {1}
    assert any("annotated twice" in note for note in listing.notes)
    said = exddv.read_annotations(tmp_path)
    assert said.keys() == set(manifest.clip_ids)
    assert sum(map(len, said.values())) == 234
    clicks = [click for each in said.values() for one in each for click in one.clicks]
    assert sum(len(json.loads(line["click_locations"])) for line in lines) == len(clicks)
    assert all(0.07 < click.x < 0.93 and 0.06 < click.y < 1.01 for click in clicks)

"""Folders and CSV files as lists of clips."""

import unicodedata
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfeat.datasets import csv, folder
from avfeat.datasets.base import id_of_path, ids_of_paths
from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Manifest


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_ids_are_paths_without_suffix_and_keep_it_only_where_two_files_would_share_one() -> None:
    assert ids_of_paths(["a/x.mp4", "b/x.mp4", "a/y.mp4", "a/y.AVI", "z.tar.mp4", ".mp4"]) == [
        "a/x", "b/x", "a/y.mp4", "a/y.AVI", "z.tar", ".mp4",
    ]  # fmt: skip


@given(path=st.text(alphabet="a./é ", min_size=1, max_size=8))
@settings(max_examples=200, deadline=None)
def test_an_id_ends_where_pathlib_says_that_the_suffix_begins(path: str) -> None:
    if path == str(PurePosixPath(path)):
        assert id_of_path(path) == path.removesuffix(PurePosixPath(path).suffix)


def test_an_id_with_a_kept_suffix_does_not_take_another_clips_id() -> None:
    ids = ids_of_paths(["y.mp4", "y.avi", "y.mp4.mkv"])
    assert ids == ["y.mp4", "y.avi", "y.mp4.mkv"]


def test_ids_are_composed_but_paths_stay_as_on_disk(tmp_path: Path) -> None:
    name = unicodedata.normalize("NFD", "été 1.mp4")
    row = folder.read(touch(tmp_path, name)).rows[0]
    assert row.clip_id == unicodedata.normalize("NFC", "été 1")
    assert row.path == name
    assert (tmp_path / row.path).exists()


def test_a_folder_gives_every_video_and_nothing_else(tmp_path: Path) -> None:
    touch(tmp_path, "b/é é.MP4", "a.mov", "a.wav", "notes.txt", "b/c/-x.mpg", "clip.part")
    rows = folder.read(tmp_path).rows
    assert [(row.clip_id, row.path) for row in rows] == [
        ("a", "a.mov"),
        ("b/c/-x", "b/c/-x.mpg"),
        ("b/é é", "b/é é.MP4"),
    ]
    assert all(row.label is None and row.split is None and row.has_video is None for row in rows)


def test_hidden_and_circular_entries_are_left_out_and_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "._a.mp4", ".trash/b.mp4", "sub/c.mp4", ".DS_Store")
    (tmp_path / "sub" / "up").symlink_to(tmp_path)
    listing = folder.read(tmp_path)
    assert [row.path for row in listing.rows] == ["a.mp4", "sub/c.mp4"]
    assert listing.notes == ["3 hidden or circular left out: ._a.mp4, .trash, sub/up"]


def test_linked_folders_are_entered_and_dead_links_are_listed(tmp_path: Path) -> None:
    touch(tmp_path, "disk2/x.mp4")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "linked").symlink_to(tmp_path / "disk2")
    (tmp_path / "set" / "dead.mp4").symlink_to(tmp_path / "gone.mp4")
    assert [row.path for row in folder.read(tmp_path / "set").rows] == ["dead.mp4", "linked/x.mp4"]


def test_folders_named_real_and_fake_tell_labels_only_when_asked(tmp_path: Path) -> None:
    touch(tmp_path, "Real/p1/a.mp4", "x/fake/b.mp4", "realistic/c.mp4", "fake.mp4")
    assert {row.label for row in folder.read(tmp_path).rows} == {None}
    listing = folder.read(tmp_path, labels_from_folders=True)
    assert {row.path: row.label for row in listing.rows} == {
        "Real/p1/a.mp4": 0, "x/fake/b.mp4": 1, "realistic/c.mp4": None, "fake.mp4": None,
    }  # fmt: skip
    assert listing.notes == ["2 under no folder named real or fake: label null"]


def test_folders_that_cannot_tell_the_label_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="not a folder"):
        folder.read(tmp_path / "none")
    with pytest.raises(ManifestError, match="holds no video"):
        folder.read(touch(tmp_path, "a.txt"))
    with pytest.raises(ManifestError, match=r"no folder below .* named real or fake"):
        folder.read(touch(tmp_path, "a.mp4"), labels_from_folders=True)
    touch(tmp_path, "real/fake/x.mp4", "real/y.mp4")
    with pytest.raises(ManifestError, match=r"folders of both names, real and fake: real/fake/x.mp4"):
        folder.read(tmp_path, labels_from_folders=True)


def read_csv(tmp_path: Path, text: str) -> list[tuple[object, ...]]:
    file = tmp_path / "clips.csv"
    file.write_bytes(text.encode())
    return [(row.clip_id, row.path, row.label, row.split, row.segments) for row in csv.read(file).rows]


def test_a_csv_gives_labels_splits_and_segments_in_both_spellings(tmp_path: Path) -> None:
    text = (
        "\ufeffpath,label,split,segments,speaker,mood\r\n"
        'a b/1.mp4,1,train,"[[0.5, 1.2]]",ann,good\r\n'
        "./2.mp4,fake,,0.5-1.2;2-2.4e0,,\r\n"
        "3.mp4,0.0,test,[],bob,\r\n\r\n"
        '"4,é.mp4",,test,,bob,"two\nlines"\r\n'
    )
    assert read_csv(tmp_path, text) == [
        ("a b/1", "a b/1.mp4", 1, "train", [(0.5, 1.2)]),
        ("2", "2.mp4", 1, None, [(0.5, 1.2), (2.0, 2.4)]),
        ("3", "3.mp4", 0, "test", []),
        ("4,é", "4,é.mp4", None, "test", None),
    ]
    listing = csv.read(tmp_path / "clips.csv")
    assert [row.speaker for row in listing.rows] == ["ann", None, "bob", "bob"]
    assert listing.notes == ["columns not used: mood"]


def test_a_csv_may_name_its_own_ids_and_media_facts(tmp_path: Path) -> None:
    file = tmp_path / "clips.csv"
    file.write_text("clip_id,path,fps,width,has_audio\none,x/1.mp4,29.97,640.0,false\n")
    row = csv.read(file).rows[0]
    assert (row.clip_id, row.fps, row.width, row.has_audio) == ("one", 29.97, 640, False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", r"no column named path; its first line is: \(empty\)"),
        ("file,label\na,0\n", "no column named path; its first line is: file,label"),
        ("path,label\n", "no clips"),
        ("path,path\na,b\n", "names a column twice"),
        ("path,label\na.mp4,0,1\nb.mp4\n", "2 lines without 2 cells: a.mp4,0,1, b.mp4"),
        ("path,label\na.mp4,2\nb.mp4,no\nc.mp4,1\n", r"2 cells in column label .* 0, 1, real or fake: '2' \(a.mp4\)"),
        ("path,segments\na.mp4,1.0\n", r"1 cell in column segments .*'1.0' \(a.mp4\)"),
        ("path,segments\na.mp4,[1.0\n", "column segments"),
        ('path,segments\na.mp4,"[1.0,2.0]"\n', "column segments"),
        ("path,width\na.mp4,12.5\n", "column width that cannot be read as a whole number"),
        ("path,fps\na.mp4,fast\n", "column fps that cannot be read as a number"),
        ("path,has_video\na.mp4,maybe\n", "column has_video that cannot be read as true or false"),
        ('path,label\n"a.mp4,0\n', "cannot be read as a CSV"),
    ],
)
def test_a_csv_that_cannot_be_read_is_refused_with_its_cells(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ManifestError, match=words):
        read_csv(tmp_path, text)


def test_a_csv_that_is_missing_or_not_utf8_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        csv.read(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("path\né.mp4\n".encode("latin-1"))
    with pytest.raises(ManifestError, match="UTF-8"):
        csv.read(tmp_path / "latin.csv")


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("/etc/a.mp4,", "absolute"),
        ("a/../../b.mp4,", r"\.\."),
        ("x\\a.mp4,", "backslash"),
        (",", "empty"),
        ('a.mp4,"[[-1, 2]]"', "negative"),
        ("a.mp4,-1-2", "negative"),
        ("a.mp4,3-2", "end before the start"),
        ('a.mp4,"[[0, NaN]]"', "not a number"),
        ("a.mp4,\na.mp4,", "1 clip_id is there more than once: a.mp4"),
    ],
)
def test_what_a_csv_says_wrongly_is_refused_by_the_manifest(tmp_path: Path, line: str, words: str) -> None:
    (tmp_path / "clips.csv").write_text(f"path,segments\ngood.mp4,\n{line}\n")
    with pytest.raises(ManifestError, match=words):
        Manifest.from_rows(csv.read(tmp_path / "clips.csv").rows, DatasetInfo("tiny"))


@pytest.mark.shared
def test_the_list_of_real_clips_is_read_with_its_labels_and_odd_names(shared: Path) -> None:
    listing = csv.read(shared / "clips" / "clips.csv")
    labels = [row.label for row in listing.rows]
    assert len(labels) == 84
    assert (labels.count(0), labels.count(1)) == (41, 43)
    assert all((shared / "clips" / row.path).is_file() for row in listing.rows)
    assert any(" " in row.path and not row.path.isascii() for row in listing.rows)
    assert listing.notes == ["columns not used: source_repo, source_path, licence, duration_s, audio_rate, note"]


@pytest.mark.shared
def test_the_list_of_broken_clips_has_no_labels(shared: Path) -> None:
    listing = csv.read(shared / "clips" / "broken" / "broken.csv")
    assert len(listing.rows) == 18
    assert {row.label for row in listing.rows} == {None}
    assert {row.path for row in folder.read(shared / "clips" / "broken").rows} == {row.path for row in listing.rows}

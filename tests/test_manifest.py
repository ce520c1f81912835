"""The table of clips: what it accepts, what it refuses, and the digest that names it."""

import hashlib
import struct
from dataclasses import replace
from pathlib import Path

import hypothesis.strategies as st
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from avfeat.errors import ManifestError
from avfeat.manifest import SCHEMA, DatasetInfo, Manifest, Row
from avfeat.manifest_digest import digest

INFO = DatasetInfo("tiny", "1.0", "/data/tiny", "made here", "CC0-1.0")
ROWS = [
    Row(
        "real/b é",
        "real/b é.mp4",
        "train",
        0,
        0,
        0,
        [],
        [],
        [],
        None,
        "ann",
        None,
        2.5,
        25.0,
        62,
        320,
        240,
        True,
        True,
        16_000,
    ),
    Row("fake/a", "fake/a.mp4", "test", 1, 0, 1, [(0.0, 0.5), (1.0, 2.0)], None, [(0.0, 0.5)], "swap", "bob"),
    Row("-x", "-x.mov"),
]

_text = st.none() | st.text(alphabet="ab é=/", max_size=4)
_label = st.sampled_from([None, 0, 1])
_seconds = st.floats(0, 1e6, allow_nan=False)
_segments = st.none() | st.lists(st.tuples(_seconds, _seconds).map(lambda pair: (min(pair), max(pair))), max_size=3)
_count = st.none() | st.integers(0, 2**31 - 1)
_flag = st.sampled_from([None, False, True])
CELLS = {
    "path": st.text(alphabet="ab é=", min_size=1, max_size=4),
    **dict.fromkeys(("split", "method", "speaker", "original"), _text),
    **dict.fromkeys(("label", "audio_label", "video_label"), _label),
    **dict.fromkeys(("segments", "audio_segments", "video_segments"), _segments),
    **dict.fromkeys(("duration_seconds", "fps"), st.none() | _seconds),
    **dict.fromkeys(("source_frames", "width", "height", "audio_rate_hz"), _count),
    **dict.fromkeys(("has_video", "has_audio"), _flag),
}
_ids = st.text(alphabet="abcdé ", min_size=1, max_size=3)
_rows = st.lists(st.builds(Row, clip_id=_ids, **CELLS), min_size=1, max_size=5, unique_by=lambda row: row.clip_id)


def manifest_of(*rows: Row) -> Manifest:
    return Manifest.from_rows(rows, INFO)


def test_a_manifest_comes_back_from_its_file_as_it_was(tmp_path: Path) -> None:
    file = tmp_path / "new folder" / "tiny.parquet"
    manifest_of(*ROWS).write(file)
    back = Manifest.read(file)
    assert back.info == INFO
    assert list(back.rows()) == sorted(ROWS, key=lambda row: row.clip_id)
    assert back.clip_ids == ["-x", "fake/a", "real/b é"]
    assert back.row("fake/a") == ROWS[1]
    assert back.table.schema == SCHEMA
    assert back.key == f"tiny-{back.digest[:8]}"
    assert [path.name for path in file.parent.iterdir()] == ["tiny.parquet"]


def test_a_file_that_could_not_be_written_leaves_the_old_one_and_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "tiny.parquet"
    file.mkdir()
    (file / "old").touch()
    with pytest.raises(ManifestError, match="cannot be written"):
        manifest_of(*ROWS).write(file)
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.parquet"]


def test_whoever_reads_the_old_file_while_it_is_replaced_reads_it_to_its_end(tmp_path: Path) -> None:
    file = tmp_path / "tiny.parquet"
    manifest_of(*ROWS).write(file)
    before = file.read_bytes()
    with file.open("rb") as reader:
        manifest_of(ROWS[0]).write(file)
        assert reader.read() == before
    assert Manifest.read(file).clip_ids == ["real/b é"]


def test_a_slice_of_a_table_has_the_digest_of_its_clips() -> None:
    slice_of_table = manifest_of(*ROWS).table.slice(1)
    assert digest(slice_of_table) == Manifest(slice_of_table, INFO).digest == manifest_of(*ROWS[:2]).digest


def test_the_digest_of_three_clips_never_changes() -> None:
    assert manifest_of(*ROWS).digest == plain_digest(ROWS)
    assert manifest_of(*ROWS).digest == "6112874c3c797af3981e04d202971db6b44a1fd5c08953cedbfd75cf7f7a910d"


@settings(max_examples=25, deadline=None)
@given(_rows, st.randoms(), st.sampled_from(["1.0", "2.6"]), st.sampled_from(["none", "snappy", "zstd"]))
def test_the_digest_does_not_depend_on_how_the_file_was_written(
    tmp_path_factory: pytest.TempPathFactory, rows: list[Row], random: object, version: str, compression: str
) -> None:
    manifest = manifest_of(*rows)
    shuffled = rows[:]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Manifest.from_rows(shuffled, replace(INFO, root="/elsewhere", version="2")).digest == manifest.digest
    parts = [manifest_of(row).table for row in shuffled]
    table = pa.concat_tables(parts).replace_schema_metadata({"avfeat.format": "1", "avfeat.name": "tiny"})
    file = tmp_path_factory.mktemp("rewritten") / "tiny.parquet"
    pq.write_table(table, file, version=version, compression=compression, row_group_size=2, use_dictionary=False)
    again = Manifest.read(file)
    assert again.digest == manifest.digest == plain_digest(rows)
    assert list(again.rows()) == list(manifest.rows())


@pytest.mark.parametrize("column", CELLS)
@settings(max_examples=4, deadline=None)
@given(rows=_rows, data=st.data())
def test_any_other_cell_gives_another_digest(column: str, rows: list[Row], data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(rows) - 1))
    value = data.draw(CELLS[column].filter(lambda value: value != getattr(rows[at], column)))
    changed = [replace(row, **{column: value}) if index == at else row for index, row in enumerate(rows)]
    assert manifest_of(*changed).digest != manifest_of(*rows).digest


def test_clips_that_swap_their_cells_or_move_a_letter_give_another_digest() -> None:
    a, b = Row("a", "x", speaker="ab", method="c"), Row("b", "y", speaker="", method=None)
    digests = {
        manifest_of(a, b).digest,
        manifest_of(replace(a, clip_id="b"), replace(b, clip_id="a")).digest,
        manifest_of(replace(a, speaker="a"), replace(b, speaker="b")).digest,
        manifest_of(a, replace(b, speaker=None)).digest,
        manifest_of(replace(a, speaker="abc", method="")).digest,
        manifest_of(a).digest,
    }
    assert len(digests) == 6


def test_a_file_without_the_column_original_reads_with_nulls_and_the_same_digest(tmp_path: Path) -> None:
    made = manifest_of(Row("a", "a.mp4", label=0), Row("b", "b.mp4", label=1))
    made.write(tmp_path / "new.parquet")
    old = pq.read_table(tmp_path / "new.parquet").drop_columns("original")
    pq.write_table(old, tmp_path / "old.parquet")
    back = Manifest.read(tmp_path / "old.parquet")
    assert (back.digest, back.table.schema) == (made.digest, SCHEMA)
    assert manifest_of(Row("a", "a.mp4", label=0), Row("b", "b.mp4", label=1, original="a")).digest != made.digest


def plain_digest(rows: list[Row]) -> str:
    """The recipe of the docstring, clip by clip."""
    rows = sorted(rows, key=lambda row: row.clip_id.encode())
    out = b"avfeat manifest digest 1\n" + struct.pack("<Q", len(rows))
    for field in SCHEMA:
        values = [getattr(row, field.name) for row in rows]
        if all(value is None for value in values):
            continue
        out += field.name.encode() + b"\n" + bytes(value is not None for value in values)
        if pa.types.is_string(field.type):
            texts = [(value or "").encode() for value in values]
            out += b"".join(struct.pack("<Q", len(text)) for text in texts) + b"".join(texts)
        elif pa.types.is_list(field.type):
            lists = [value or [] for value in values]
            out += b"".join(struct.pack("<Q", len(parts)) for parts in lists)
            out += b"".join(struct.pack("<d", part[end]) for end in (0, 1) for parts in lists for part in parts)
        elif pa.types.is_floating(field.type):
            out += b"".join(struct.pack("<d", (value or 0.0) + 0.0) for value in values)
        else:
            out += b"".join(struct.pack("<q", int(value or 0)) for value in values)
    return hashlib.sha256(out).hexdigest()


BROKEN = {
    "an absolute path": ({"path": "/etc/a.mp4"}, "absolute"),
    "a drive": ({"path": "C:/a.mp4"}, "absolute"),
    "a path that climbs": ({"path": "a/../../b.mp4"}, r"\.\."),
    "a path that ends above": ({"path": "a/.."}, r"\.\."),
    "an id that climbs": ({"clip_id": "../a"}, r"\.\."),
    "a backslash": ({"path": "real\\a.mp4"}, "backslash"),
    "a line feed": ({"path": "a\nb.mp4"}, "control"),
    "no path": ({"path": ""}, "empty"),
    "no id": ({"clip_id": ""}, "empty"),
    "an id in pieces": ({"clip_id": "e\u0301"}, "NFC"),
    "bytes that are no text": ({"path": "a\udcff.mp4"}, "path that cannot be written as string"),
    "label 2": ({"label": 2}, "label other than 0, 1 and null"),
    "label -1": ({"audio_label": -1}, "audio_label other"),
    "a label beyond a byte": ({"video_label": 300}, "video_label that cannot be written"),
    "a label in words": ({"label": "fake"}, "label that cannot be written"),
    "a segment before the start": ({"segments": [(0.0, 1.0), (-0.1, 1.0)]}, "segments with a time that is negative"),
    "an inverted segment": ({"audio_segments": [(2.0, 1.0)]}, "audio_segments .* end before the start"),
    "a segment that is no number": ({"video_segments": [(0.0, float("nan"))]}, "video_segments .* not a number"),
    "an endless segment": ({"segments": [(0.0, float("inf"))]}, "not a number"),
    "half a segment": ({"segments": [(1.0, None)]}, "not a number"),
    "a negative duration": ({"duration_seconds": -1.0}, "duration_seconds that is negative"),
    "a rate that is no number": ({"fps": float("nan")}, "fps that is negative or not a number"),
    "a negative width": ({"width": -2}, "width that is negative"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_cell_is_refused_by_the_clip_it_is_in(case: str) -> None:
    cells, words = BROKEN[case]
    broken = replace(Row("c1", "c1.mp4"), **cells)
    with pytest.raises(ManifestError, match=words) as caught:
        manifest_of(Row("good", "good.mp4", label=1, segments=[(0.5, 0.5)]), broken)
    assert "1 clip" in str(caught.value)
    assert "good" not in str(caught.value)


def test_an_error_names_five_clips_and_says_how_many_there_are() -> None:
    rows = [Row(f"c{index}", "a.mp4", label=index % 2 * 5) for index in range(24)]
    with pytest.raises(ManifestError) as caught:
        manifest_of(*rows)
    assert str(caught.value).startswith(
        "12 clips have a label other than 0, 1 and null: c1, c11, c13, c15, c17 and 7 more."
    )


def test_ids_that_are_there_twice_are_named_once_each() -> None:
    rows = [Row(f"c{index % 7}", f"{index}.mp4") for index in range(20)]
    with pytest.raises(ManifestError, match="7 clip_ids are there more than once: c0, c1, c2, c3, c4 and 2 more"):
        manifest_of(*rows)


def test_a_split_is_selected_and_an_unknown_one_is_answered_with_those_there_are() -> None:
    manifest = manifest_of(*ROWS)
    assert manifest.select("test").clip_ids == ["fake/a"]
    assert manifest.select() is manifest
    with pytest.raises(ManifestError, match=r"no clip in split 'val'; its splits are .*train \(1 clip\)"):
        manifest.select("val")
    with pytest.raises(ManifestError, match="names no splits"):
        manifest_of(ROWS[2]).select("test")


def test_the_root_is_the_given_folder_or_the_named_one_and_must_be_there(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    manifest = Manifest.from_rows(ROWS, DatasetInfo("tiny", root=str(tmp_path)))
    assert manifest.media_root() == tmp_path
    assert manifest.media_root(tmp_path / "other") == tmp_path / "other"
    with pytest.raises(ManifestError, match="gone is not a folder: give the folder with --root"):
        manifest.media_root(tmp_path / "gone")
    with pytest.raises(ManifestError, match="tiny does not say where its media lie"):
        Manifest.from_rows(ROWS, DatasetInfo("tiny")).media_root()


def test_an_unknown_clip_is_answered_with_its_neighbours() -> None:
    with pytest.raises(ManifestError, match=r"no clip 'fake/b'; its nearest ids are: fake/a, real/b é"):
        manifest_of(*ROWS).row("fake/b")


@pytest.mark.parametrize("name", ["", "Tiny", "../x", "a/b", ".hidden", "a b", "ä", "a\n"])
def test_a_dataset_name_that_is_no_safe_folder_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match="dataset's name"):
        DatasetInfo(name)


def test_a_file_that_is_no_manifest_is_refused_with_what_it_is(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="does not exist"):
        Manifest.read(tmp_path / "none.parquet")
    (tmp_path / "text").write_text("clip_id,path\n")
    with pytest.raises(ManifestError, match=r"text cannot be read as a manifest: .*[^.]\.$"):
        Manifest.read(tmp_path / "text")
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other")
    with pytest.raises(ManifestError, match="not a manifest of format 1"):
        Manifest.read(tmp_path / "other")
    facts = {"avfeat.format": "1", "avfeat.name": "tiny"}
    table = manifest_of(*ROWS).table.replace_schema_metadata(facts)
    pq.write_table(table.drop_columns("fps").append_column("mood", pa.array(["", "", ""])), tmp_path / "columns")
    with pytest.raises(ManifestError, match="missing fps; not known mood"):
        Manifest.read(tmp_path / "columns")
    at = table.schema.get_field_index("label")
    pq.write_table(table.set_column(at, "label", pa.array(["real", "fake", ""])), tmp_path / "types")
    with pytest.raises(ManifestError, match="types: column label cannot be read as int8"):
        Manifest.read(tmp_path / "types")
    undecodable = pa.array([b"a", b"\xff", b"b"]).view(pa.string())
    pq.write_table(table.set_column(1, "path", undecodable), tmp_path / "bytes")
    with pytest.raises(ManifestError, match="bytes: column path cannot be read as string"):
        Manifest.read(tmp_path / "bytes")
    nobody = table.set_column(0, "clip_id", pa.array(["a", None, "b"]))
    pq.write_table(nobody, tmp_path / "nulls")
    with pytest.raises(ManifestError, match="1 clip_id and 0 path are null"):
        Manifest.read(tmp_path / "nulls")


def test_wider_types_of_other_writers_are_read(tmp_path: Path) -> None:
    manifest = manifest_of(*ROWS)
    table = manifest.table.replace_schema_metadata({"avfeat.format": "1", "avfeat.name": "tiny"})
    for name, form in {
        "label": pa.int64(),
        "path": pa.large_string(),
        "split": pa.dictionary(pa.int32(), pa.string()),
    }.items():
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(form))
    pq.write_table(table, tmp_path / "wide")
    assert Manifest.read(tmp_path / "wide").digest == manifest.digest

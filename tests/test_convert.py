"""Features from elsewhere into a store and out again: every byte stays, nothing runs, what does not fit is told."""

import csv
import json
import os
import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from store_making import memory_disk
from typer.testing import CliRunner

from avfeat.convert import Provenance, import_features, length_fault
from avfeat.convert_cli import app
from avfeat.convert_export import export_feature
from avfeat.errors import AvfeatError, ClipError, NoFaceError, StoreError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import Feature, open_store, write_feature

COMMAND = CliRunner()
SECONDS = 0.4
LENGTH = 10


def manifest_of(*clip_ids: str, split: str | None = "train", seconds: float | None = SECONDS) -> Manifest:
    rows = [
        Row(clip_id, f"{clip_id}.mp4", split, k % 2, duration_seconds=seconds) for k, clip_id in enumerate(clip_ids)
    ]
    return Manifest.from_rows(rows, DatasetInfo("mine", licence="the dataset's terms"))


def rows_of(seed: int, length: int = LENGTH, dtype: str = "float32", width: int = 3) -> NDArray[np.floating]:
    return np.random.default_rng(seed).standard_normal((length, width)).astype(dtype)


def save(root: Path, name: str, **arrays: NDArray[np.floating]) -> None:
    file = root / f"{name}.npz"
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(file, **arrays)


def opened(store: Path, name: str = "mine") -> Feature:
    return open_store(store)["mine"][name]


def failures(store: Path) -> dict[str, tuple[str, str]]:
    table = opened(store).index().select(["clip_id", "status", "error", "detail"]).to_pylist()
    return {line["clip_id"]: (line["error"], line["detail"]) for line in table if line["status"] == "failed"}


@pytest.mark.parametrize("layout", ["npz", "npy", "hdf5"])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_rows_keep_every_byte_on_the_way_in(tmp_path: Path, layout: str, dtype: str) -> None:
    rows = {"a/x y": rows_of(1, dtype=dtype), "b": rows_of(2, dtype=dtype)}
    source = tmp_path / "in"
    source.mkdir()
    for name, array in rows.items():
        (source / name).parent.mkdir(exist_ok=True)
        if layout == "npz":
            save(source, name, arr_0=array)
        elif layout == "npy":
            np.save(source / f"{name}.npy", array)
    if layout == "hdf5":
        source = source / "all.h5"
        with h5py.File(source, "w") as file:
            for name, array in rows.items():
                file[name] = array
    report = import_features(manifest_of(*rows), source, tmp_path / "store", "mine")
    assert (report.clips, dict(report.failures), report.strangers, report.note) == (2, {}, [], "")
    feature = opened(tmp_path / "store")
    assert feature.dtype == np.dtype(dtype)
    for name, array in rows.items():
        assert feature.clip(name).tobytes() == array.tobytes()
    assert feature.attributes["identity"]["provenance"] == "imported"
    assert (feature.rate_hz, feature.first_seconds) == (25.0, 0.02)


ROWS = st.lists(
    st.tuples(st.integers(0, 30), st.sampled_from(["rows", "rows", "rows", "fail"])), min_size=1, max_size=6
)


@given(clips=ROWS, form=st.sampled_from(["npz", "npy", "hdf5"]), dtype=st.sampled_from(["float16", "float32"]))
@settings(max_examples=15, deadline=None)
def test_a_round_trip_gives_the_same_bytes_facts_failures_and_licences(
    clips: list[tuple[int, str]], form: str, dtype: str
) -> None:
    ids = [f"d{number % 2}/c{number}" for number in range(len(clips) + 1)]
    manifest = manifest_of(*ids, seconds=1.0)
    rows: dict[str, NDArray[np.floating] | ClipError] = {ids[-1]: rows_of(99, 25, dtype)}
    facts: dict[str, dict[str, object]] = {}
    for clip_id, (length, kind) in zip(ids, clips, strict=False):
        rows[clip_id] = NoFaceError(f"{clip_id}: no face, é.") if kind == "fail" else rows_of(length, length, dtype)
        if kind == "rows":
            facts[clip_id] = {"status": "truncated", "detail": "it ends early.", "first_seconds": 0.01 * length}
    with memory_disk() as disk:
        made = {"rate_hz": 25.0, "first_seconds": 0.03, "identity": {"encoder": "x"}, "dtype": dtype}
        write_feature(disk / "one", manifest, "mine", rows, facts=facts, **made)
        export_feature(disk / "one", "mine", "mine", disk / "out", form=form)
        import_features(manifest, disk / "out", disk / "two", "mine")
        one, two = opened(disk / "one"), opened(disk / "two")
        wanted = [name for name in one.index().column_names if name not in ("crc32c",)]
        assert one.index().select(wanted).equals(two.index().select(wanted))
        assert one.index()["crc32c"].equals(two.index()["crc32c"])
        assert (two.first_seconds, two.attributes["identity"]["made_as"]) == (0.03, {"encoder": "x"})
        for clip_id, value in rows.items():
            if not isinstance(value, ClipError):
                assert two.clip(clip_id).tobytes() == one.clip(clip_id).tobytes() == value.tobytes()


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, mark: Path):
        self.mark = mark

    def __reduce__(self) -> tuple[object, ...]:
        return (os.mkdir, (str(self.mark),))


def test_nothing_in_a_file_ever_runs(tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    trap = np.array([Trap(mark)], dtype=object)
    save(tmp_path / "in", "good", arr_0=rows_of(1))
    np.savez(tmp_path / "in" / "inside.npz", arr_0=trap)
    np.save(tmp_path / "in" / "alone.npy", trap)
    (tmp_path / "in" / "bare.npy").write_bytes(pickle.dumps(Trap(mark)))
    import_features(manifest_of("good", "inside", "alone", "bare"), tmp_path / "in", tmp_path / "store", "mine")
    assert not mark.exists()
    found = failures(tmp_path / "store")
    assert {name: kind for name, (kind, _) in found.items()} == dict.fromkeys(("inside", "alone", "bare"), "Unreadable")
    assert "Python objects, which are never loaded" in found["inside"][1]
    with pytest.raises(AvfeatError, match="not one of 1 arrays can be read"):
        import_features(manifest_of("alone"), tmp_path / "in", tmp_path / "other", "mine")


@pytest.mark.parametrize(
    ("length", "words"),
    [(10, ""), (9, ""), (11, ""), (8, "8 rows, fewer than the 10.0"), (12, "12 rows, more than the 10.0")],
)
def test_a_length_beyond_one_row_of_the_manifest_is_a_failure_row(tmp_path: Path, length: int, words: str) -> None:
    save(tmp_path / "in", "a", arr_0=rows_of(1, length))
    save(tmp_path / "in", "b", arr_0=rows_of(2))
    import_features(manifest_of("a", "b"), tmp_path / "in", tmp_path / "store", "mine")
    found = failures(tmp_path / "store")
    assert found.keys() == ({"a"} if words else set())
    if words:
        assert found["a"][0] == "Length"
        assert words in found["a"][1]


def test_rows_may_follow_the_pictures_where_the_sound_is_longer() -> None:
    row = Row("a", "a.mp4", duration_seconds=4.224, fps=25.0, source_frames=103)
    assert [bool(length_fault(length, 25.0, row)) for length in (101, 102, 104, 105, 107, 108)] == [
        True, False, False, False, False, True,
    ]  # fmt: skip
    assert length_fault(52, 12.5, row) == ""
    assert length_fault(7, 25.0, Row("a", "a.mp4")) == ""


def test_what_does_not_fit_becomes_a_failure_row_that_says_why(tmp_path: Path) -> None:
    source = tmp_path / "in"
    save(source, "a", audio=rows_of(1), visual=rows_of(2))
    save(source, "wide", audio=rows_of(1, width=4))
    save(source, "flat", audio=np.zeros(10, np.float32))
    save(source, "whole", audio=np.zeros((10, 3), np.int32))
    save(source, "other", visual=rows_of(3))
    bad = rows_of(4)
    bad[3, 1] = np.inf
    save(source, "infinite", audio=bad)
    (source / "torn.npz").write_bytes((source / "a.npz").read_bytes()[:300])
    save(source, "stranger", audio=rows_of(5))
    names = ("a", "wide", "flat", "whole", "other", "infinite", "torn", "missing")
    report = import_features(manifest_of(*names), source, tmp_path / "store", "mine", key="audio")
    assert (report.clips, report.strangers) == (1, ["stranger"])
    assert dict(report.failures) == {"Unreadable": 6, "NotFinite": 1}
    found = failures(tmp_path / "store")
    for name, words in {
        "wide": r"float32 [10, 4], where [length, 3]", "flat": "float32 [10]", "whole": "int32 [10, 3]",
        "other": "no array 'audio'; it has visual", "torn": "torn.npz cannot be read",
        "missing": "no array has its name",
    }.items():  # fmt: skip
        assert words in found[name][1], name


def test_files_with_several_arrays_need_a_key_and_visual_is_video(tmp_path: Path) -> None:
    save(tmp_path / "in", "a", audio=rows_of(1), visual=rows_of(2))
    with pytest.raises(AvfeatError, match=r"choose one with --key \(audio, visual\)"):
        import_features(manifest_of("a"), tmp_path / "in", tmp_path / "store", "mine")
    import_features(manifest_of("a"), tmp_path / "in", tmp_path / "store", "mine", key="video")
    assert opened(tmp_path / "store").clip("a").tobytes() == rows_of(2).tobytes()


def test_wider_numbers_are_refused_unless_the_loss_is_asked_for(tmp_path: Path) -> None:
    save(tmp_path / "in", "a", arr_0=rows_of(1, dtype="float64"))
    with pytest.raises(AvfeatError, match=r"the arrays are float64.*--dtype"):
        import_features(manifest_of("a"), tmp_path / "in", tmp_path / "store", "mine")
    asked = Provenance(dtype="float16")
    import_features(manifest_of("a"), tmp_path / "in", tmp_path / "store", "mine", provenance=asked)
    assert np.array_equal(opened(tmp_path / "store").clip("a"), rows_of(1, dtype="float64").astype(np.float16))
    save(tmp_path / "mixed", "a", arr_0=rows_of(1, dtype="float16"))
    save(tmp_path / "mixed", "b", arr_0=rows_of(2))
    save(tmp_path / "mixed", "c", arr_0=rows_of(3, dtype="float16").astype(np.float32))
    import_features(manifest_of("a", "b", "c"), tmp_path / "mixed", tmp_path / "more", "mine")
    assert list(failures(tmp_path / "more")) == ["b"]


def test_arrays_are_found_below_folders_of_splits_and_without_the_releases_own(tmp_path: Path) -> None:
    rows = [Row("val/id/1/real", "val/id/1/real.mp4", "test"), Row("train/id/2/real", "train/id/2/real.mp4", "train")]
    manifest = Manifest.from_rows(rows, DatasetInfo("mine"))
    for number, root in enumerate(("flat", "by split")):
        folders = ("test/", "train/") if number else ("", "")
        save(tmp_path / root, f"{folders[0]}id/1/real", arr_0=rows_of(1))
        save(tmp_path / root, f"{folders[1]}id/2/real", arr_0=rows_of(2))
        report = import_features(manifest, tmp_path / root, tmp_path / "store", f"f{number}")
        assert (report.clips, dict(report.failures)) == (2, {})
        assert report.note
        assert opened(tmp_path / "store", f"f{number}").clip("val/id/1/real").tobytes() == rows_of(1).tobytes()


def test_an_import_goes_on_where_it_stopped_and_does_failures_again_when_asked(tmp_path: Path) -> None:
    save(tmp_path / "in", "a", arr_0=rows_of(1))
    manifest = manifest_of("a", "b", "c")
    first = import_features(manifest, tmp_path / "in", tmp_path / "store", "mine", part_clips=2)
    assert (first.clips, dict(first.failures)) == (1, {"Unreadable": 2})
    save(tmp_path / "in", "b", arr_0=rows_of(2))
    assert import_features(manifest, tmp_path / "in", tmp_path / "store", "mine").clips == 0
    again = import_features(manifest, tmp_path / "in", tmp_path / "store", "mine", retry_failed=True)
    assert (again.clips, dict(again.failures)) == (1, {"Unreadable": 1})
    assert opened(tmp_path / "store").clip("b").tobytes() == rows_of(2).tobytes()
    with pytest.raises(StoreError, match=r"rate_hz is 25\.0 there and 50\.0 here"):
        import_features(manifest, tmp_path / "in", tmp_path / "store", "mine", provenance=Provenance(rate_hz=50.0))


def exported_store(root: Path) -> Manifest:
    manifest = Manifest.from_rows(
        [
            Row("val/id/1/real", "val/id/1/real.mp4", "test", 0),
            Row("val/id/2/fake", "val/id/2/fake.mp4", "test", 1),
            Row("val/id/3/real", "val/id/3/real.mp4", "test", 0),
            Row("val/id/4/real", "val/id/4/real.mp4", None, 0),
        ],
        DatasetInfo("mine", licence="the dataset's terms"),
    )
    rows = {row.clip_id: rows_of(k) for k, row in enumerate(manifest.rows())}
    write_feature(
        root, manifest, "mine", rows | {"val/id/3/real": NoFaceError("no face.")}, rate_hz=25, first_seconds=0.02,
        dtype="float32",
    )  # fmt: skip
    return manifest


def test_an_export_is_what_the_papers_code_reads(tmp_path: Path) -> None:
    exported_store(tmp_path / "store")
    done = export_feature(tmp_path / "store", "mine", "mine", tmp_path / "out", key="multimodal", drop_folders=1)
    assert (done.clips, dict(done.failures)) == (3, {"NoFace": 1})
    with (tmp_path / "out" / "test_labels.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert lines == [{"path": "id/1/real.mp4", "label": "0"}, {"path": "id/2/fake.mp4", "label": "1"}]
    for number, line in enumerate(lines):
        loaded = np.load(tmp_path / "out" / f"{line['path'].removesuffix('.mp4')}.npz")["multimodal"]
        assert loaded.tobytes() == rows_of(number).tobytes()
    assert not (tmp_path / "out" / "id" / "3").exists()


@pytest.mark.parametrize("form", ["npz", "hdf5"])
def test_licences_travel_along(tmp_path: Path, form: str) -> None:
    manifest = manifest_of("a")
    save(tmp_path / "in", "a", arr_0=rows_of(1))
    terms = Provenance(licence="no redistribution", source="https://example.org")
    import_features(manifest, tmp_path / "in", tmp_path / "one", "mine", provenance=terms)
    export_feature(tmp_path / "one", "mine", "mine", tmp_path / "out", form=form)
    told = json.loads((tmp_path / "out" / "provenance.json").read_text())
    assert told["attributes"]["licence"] == "no redistribution"
    assert told["dataset"]["licence"] == "the dataset's terms"
    if form == "hdf5":
        with h5py.File(tmp_path / "out" / "features.h5") as file:
            assert (file.attrs["licence"], file.attrs["dataset_licence"]) == (
                "no redistribution",
                "the dataset's terms",
            )
    import_features(manifest, tmp_path / "out", tmp_path / "two", "mine")
    attributes = opened(tmp_path / "two").attributes
    assert (attributes["licence"], attributes["source"]) == ("no redistribution", "https://example.org")


def test_an_export_never_mixes_with_what_is_there_and_leaves_nothing_half_done(tmp_path: Path) -> None:
    exported_store(tmp_path / "store")
    with pytest.raises(AvfeatError, match="several clips are called 'real'"):
        export_feature(tmp_path / "store", "mine", "mine", tmp_path / "out", drop_folders=3)
    (tmp_path / "out").mkdir()
    with pytest.raises(AvfeatError, match="is there already"):
        export_feature(tmp_path / "store", "mine", "mine", tmp_path / "out")
    nested = manifest_of("a", "a/b")
    write_feature(
        tmp_path / "n", nested, "mine", {name: rows_of(1) for name in ("a", "a/b")}, rate_hz=25, first_seconds=0
    )
    with pytest.raises(AvfeatError, match="a clip and a folder cannot share a name"):
        export_feature(tmp_path / "n", "mine", "mine", tmp_path / "n5", form="hdf5")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["n", "out", "store"]
    assert export_feature(tmp_path / "n", "mine", "mine", tmp_path / "n5").clips == 2


def test_sources_that_hold_no_features_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    manifest = manifest_of("a")
    for path, words in ((tmp_path / "none", "does not exist"), (tmp_path / "empty", "holds no feature files")):
        with pytest.raises(AvfeatError, match=words):
            import_features(manifest, path, tmp_path / "store", "mine")
    (tmp_path / "text.h5").write_text("not HDF5")
    with pytest.raises(AvfeatError, match="cannot be read as HDF5"):
        import_features(manifest, tmp_path / "text.h5", tmp_path / "store", "mine")
    save(tmp_path / "in", "z", arr_0=rows_of(1))
    with pytest.raises(AvfeatError, match=r"not one array in .* found are e.g. z, needed e.g. a"):
        import_features(manifest, tmp_path / "in", tmp_path / "store", "mine")
    np.save(tmp_path / "in" / "z.npy", rows_of(1))
    with pytest.raises(AvfeatError, match=r"z.npy is there as .npz too"):
        import_features(manifest, tmp_path / "in", tmp_path / "store", "mine")


def test_the_commands_import_and_export(tmp_path: Path) -> None:
    manifest_of("a", "b").write(tmp_path / "mine.parquet")
    save(tmp_path / "in", "a", arr_0=rows_of(1))
    store = ["--feature", "lab", "--store", str(tmp_path / "store")]
    result = COMMAND.invoke(
        app, ["import", str(tmp_path / "in"), "--manifest", str(tmp_path / "mine.parquet"), *store, "--licence", "mine"]
    )
    assert result.exit_code == 3, result.output
    assert "1 clips imported" in result.stdout
    assert "1 failed (Unreadable)" in result.stdout
    again = COMMAND.invoke(app, ["import", str(tmp_path / "in"), "--manifest", str(tmp_path / "mine.parquet"), *store,
                                 "--licence", "mine"])  # fmt: skip
    assert (again.exit_code, "Nothing was left to do" in again.stdout) == (0, True), again.output
    out = COMMAND.invoke(app, ["export", "mine", str(tmp_path / "out"), *store, "--form", "npy"])
    assert out.exit_code == 0, out.output
    assert np.load(tmp_path / "out" / "a.npy").tobytes() == rows_of(1).tobytes()
    facts = COMMAND.invoke(app, ["export", "mine", str(tmp_path / "out2"), *store, "--json"])
    assert json.loads(facts.stdout)["failures"] == {"Unreadable": 1}

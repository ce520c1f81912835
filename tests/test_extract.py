"""The whole path from files to rows, with real media, real MediaPipe and a real store."""

import json
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from typer.testing import CliRunner

import avfeat
import avfeat.cli
from avfeat.errors import AvfeatError, EncoderError, StoreError, UnreadableError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.options import Options
from avfeat.plan import Shard
from avfeat.run import estimate, extract
from avfeat.store import open_store
from avfeat.views import ViewSettings
from tests.extracting import content, make_dataset, make_tones
from tests.tiny_models import tiny_clip

CPU = Options(device="cpu", workers=2)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("made")
    return folder, make_dataset(folder)


@pytest.fixture(scope="module")
def stored(made: tuple[Path, Manifest], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder, manifest = made
    store = tmp_path_factory.mktemp("stored") / "store"
    report = extract(manifest, folder, ["logmel", "landmarks"], store, CPU)
    assert report.clips == 7
    return store


def kinds(store: Path, feature: str) -> dict[str, str | None]:
    table = open_store(store)["made"][feature].index()
    return dict(zip(table["clip_id"].to_pylist(), table["error"].to_pylist(), strict=True))


def test_every_clip_is_rows_or_a_reason(stored: Path) -> None:
    unreadable = {"text": "Unreadable", "empty": "Unreadable", "gone": "Unreadable"}
    good = {"face a": None, "face_b": None}
    assert kinds(stored, "logmel") == good | unreadable | {"no_face": None, "no_sound": "NoSound"}
    assert kinds(stored, "landmarks") == good | unreadable | {"no_face": "NoFace", "no_sound": None}


def test_every_reason_is_one_sentence_that_names_the_clip(stored: Path) -> None:
    for feature in ("logmel", "landmarks", "track"):
        for row in open_store(stored)["made"][feature].index().to_pylist():
            if row["status"] == "failed":
                assert row["clip_id"] in row["detail"] and row["detail"].endswith((".", "?"))


def test_rows_are_25_a_second_in_every_feature(stored: Path) -> None:
    group = open_store(stored)["made"]
    assert len(group["logmel"].clip("face a")) == 10
    assert len(group["landmarks"].clip("face a")) == 10
    assert len(group["landmarks"].clip("face_b")) == 10  # 12 pictures at 30 fps last 0.4 s


def test_the_same_command_again_finds_nothing_to_do(made: tuple[Path, Manifest], stored: Path) -> None:
    folder, manifest = made
    before = content(stored, "made")
    report = extract(manifest, folder, ["logmel", "landmarks"], stored, CPU)
    assert (report.clips, report.parts) == (0, 0)
    assert content(stored, "made") == before


def test_a_later_encoder_reads_the_landmarks_from_the_store(
    made: tuple[Path, Manifest], stored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, manifest = made
    at_once = tmp_path / "at_once"
    extract(manifest, folder, ["landmarks"], at_once, CPU)
    apart = tmp_path / "apart"
    extract(manifest, folder, ["landmarks"], apart, CPU)
    table = open_store(apart)["made"]["landmarks"]
    for part in table.path.glob("part-*"):
        for file in sorted(part.rglob("*"), reverse=True):
            file.unlink() if file.is_file() else file.rmdir()
        part.rmdir()
    # A landmarker that cannot start proves that it was not asked: only clips without a stored track would need it.
    good = Manifest(manifest.table, manifest.info)
    tracks = content(apart, "made")["track"]
    report = extract(good, folder, ["landmarks"], apart, CPU)
    assert report.clips == 7
    assert content(apart, "made")["track"] == tracks
    assert content(apart, "made")["landmarks"] == content(at_once, "made")["landmarks"]


def test_retry_does_again_what_failed_and_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    manifest = make_tones(folder, 5)
    good = (folder / "003.mp4").read_bytes()
    (folder / "003.mp4").write_bytes(good[:100])
    store = tmp_path / "store"
    assert extract(manifest, folder, ["logmel"], store, CPU).failures == {"logmel": {"Unreadable": 1}}
    before = content(store, "tones")["logmel"]
    (folder / "003.mp4").write_bytes(good)
    report = extract(manifest, folder, ["logmel"], store, Options(device="cpu", workers=1, retry_failed=True))
    assert (report.clips, report.failed) == (1, 0)
    after = content(store, "tones")["logmel"]
    assert after["003"][1]["status"] == "done"  # type: ignore[index]
    assert {key: after[key] for key in after if key != "003"} == {key: before[key] for key in before if key != "003"}


def test_shards_together_do_what_one_job_does(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    manifest = make_tones(folder, 7)
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    extract(manifest, folder, ["logmel"], whole, Options(device="cpu", part_clips=2, workers=1))
    for index in range(3):
        options = Options(device="cpu", part_clips=2, workers=1, shard=Shard(index, 3))
        extract(manifest, folder, ["logmel"], shared, options)
    assert content(shared, "tones") == content(whole, "tones")


def test_a_limit_stops_after_whole_parts(tmp_path: Path) -> None:
    folder = tmp_path / "clips"
    manifest = make_tones(folder, 7)
    report = extract(manifest, folder, ["logmel"], tmp_path / "store", Options(device="cpu", part_clips=2, limit=3))
    assert (report.parts, report.clips) == (2, 4)


def test_a_dry_run_says_what_is_to_come_and_commits_nothing(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, manifest = made
    plan = estimate(manifest, folder, ["logmel"], tmp_path / "store", CPU)
    assert (plan.parts, plan.clips) == (1, 7)
    assert not (tmp_path / "store").exists()


def test_a_dry_run_counts_what_the_store_lacks_and_leaves_it_as_it_is(
    made: tuple[Path, Manifest], stored: Path
) -> None:
    folder, manifest = made
    before = {path: path.stat().st_mtime_ns for path in sorted(stored.rglob("*"))}
    assert estimate(manifest, folder, ["logmel", "landmarks"], stored, CPU).parts == 0
    plan = estimate(manifest, folder, ["avhubert-base-random.a"], stored, CPU)
    assert (plan.parts, plan.clips, plan.sample_clips) == (1, 7, 4)
    assert {path: path.stat().st_mtime_ns for path in sorted(stored.rglob("*"))} == before


def test_another_setting_is_refused_even_when_nothing_is_missing(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, manifest = made
    tower, store = tiny_clip(tmp_path / "tower"), tmp_path / "store"
    face = f"hf:{tower}:face"
    extract(manifest, folder, [face], store, CPU)
    for other, differs in (
        (replace(CPU, dtype="float32"), "dtype"),
        (replace(CPU, views=ViewSettings(on_no_face="center")), "identity.views.on_no_face"),
        (replace(CPU, views=ViewSettings(face_margin=2.0)), "identity.views.face_margin"),
    ):
        with pytest.raises(StoreError, match=f"made with other settings: {differs}"):
            extract(manifest, folder, [face], store, other)
        with pytest.raises(StoreError, match=f"^{store}/.* was made with other settings: {differs}"):
            estimate(manifest, folder, [face], store, other)


def test_another_setting_is_refused_by_name(made: tuple[Path, Manifest], stored: Path) -> None:
    folder, manifest = made
    with pytest.raises(AvfeatError, match="part"):
        extract(manifest, folder, ["logmel"], stored, Options(device="cpu", part_clips=3))
    with pytest.raises(EncoderError, match="logmel"):
        extract(manifest, folder, ["logmell"], stored, CPU)


def test_the_command_ends_with_3_when_clips_failed_and_says_how_to_go_on(
    made: tuple[Path, Manifest], tmp_path: Path
) -> None:
    folder, manifest = made
    manifest.write(tmp_path / "made.parquet")
    arguments = ["extract", str(tmp_path / "made.parquet"), "--root", str(folder), "--encoder", "logmel"]
    runner = CliRunner()
    result = runner.invoke(avfeat.cli.app, [*arguments, "--store", str(tmp_path / "store"), "--device", "cpu"])
    assert result.exit_code == 3
    assert "logmel: 1 failed (NoSound), 3 failed (Unreadable)" in result.output
    assert "--retry failed" in result.output
    shown = runner.invoke(avfeat.cli.app, ["status", str(tmp_path / "store"), "--json"])
    assert shown.exit_code == 0 and json.loads(shown.output)
    assert runner.invoke(avfeat.cli.app, ["extract", "--no-such-option"]).exit_code == 2


def test_a_run_says_where_its_time_went(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, manifest = made
    first, again = (
        extract(manifest, folder, features, tmp_path / "store", CPU).spent for features in (["landmarks"], ["logmel"])
    )
    assert min(first.decode, first.landmarks, first.encode, first.write) > 0 == first.crop
    assert first.landmarks > first.decode  # MediaPipe takes longer than reading these small pictures
    assert min(again.decode, again.encode, again.write) > 0 == again.landmarks == again.crop
    assert (first.workers, again.media) == (2, pytest.approx(0.4 + 0.4 + 0.5))


def test_two_features_of_one_clip_come_from_one_decode(stored: Path) -> None:
    group = open_store(stored)["made"]
    for clip_id in ("face a", "face_b"):
        seconds = {name: len(group[name].clip(clip_id)) / group[name].rate_hz for name in ("logmel", "landmarks")}
        assert abs(seconds["logmel"] - seconds["landmarks"]) <= 0.04
        assert np.isfinite(group["landmarks"].clip(clip_id)).all()


def test_a_new_file_gets_what_the_stored_clips_got(made: tuple[Path, Manifest], stored: Path) -> None:
    folder, _ = made
    group = open_store(stored)["made"]
    names = ["logmel", "landmarks"]
    like = {name: group[name].attributes for name in names}
    paths = [folder / "face_b.mp4", folder / "text.mp4", folder / "face a.mp4"]
    results = dict(avfeat.encode_files(paths, names, like=like, options=CPU))
    assert list(results) == paths
    assert isinstance(results[paths[1]], UnreadableError)
    for path in (paths[0], paths[2]):
        rows = results[path]
        assert isinstance(rows, dict)
        for name in names:
            np.testing.assert_array_equal(rows[name].rows.astype(np.float16), group[name].clip(path.stem))


def test_a_file_is_not_encoded_by_an_encoder_that_differs(made: tuple[Path, Manifest], stored: Path) -> None:
    folder, _ = made
    like = dict(open_store(stored)["made"]["logmel"].attributes)
    like["identity"] = {**like["identity"], "sound": "48 kHz stereo"}
    with pytest.raises(EncoderError, match="sound"):
        list(avfeat.encode_files([folder / "face a.mp4"], ["logmel"], like={"logmel": like}, options=CPU))


def test_sound_survives_pictures_that_cannot_be_decoded(made: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, _ = made
    clip = tmp_path / "blind.mp4"
    data = bytearray((folder / "face_b.mp4").read_bytes())
    with av.open(str(folder / "face_b.mp4")) as container:
        for packet in container.demux(video=0):
            if packet.pos is not None and packet.size:
                data[packet.pos : packet.pos + packet.size] = bytes(packet.size)
    clip.write_bytes(data)
    manifest = Manifest.from_rows([Row("blind", clip.name)], DatasetInfo("made"))
    extract(manifest, tmp_path, ["logmel", "landmarks"], tmp_path / "store", CPU)
    group = open_store(tmp_path / "store")["made"]
    assert len(group["logmel"].clip("blind")) == 10
    assert kinds(tmp_path / "store", "landmarks") == {"blind": "Unreadable"}
    assert kinds(tmp_path / "store", "track") == {"blind": "Unreadable"}

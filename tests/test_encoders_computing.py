"""Half precision, compiled blocks and clips that go together, from real files to the store."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from avfeat.cli import app
from avfeat.encoders import build_encoder, resolve
from avfeat.encoders.base import Encoder, Encoding, Rows
from avfeat.encoders.batches import buckets
from avfeat.encoders.computing import check_dtype
from avfeat.errors import SetupError, StoreError
from avfeat.extract import ClipResult, encode_clips
from avfeat.files import encode_files
from avfeat.manifest import Manifest
from avfeat.options import Options, Spent
from avfeat.pool import Pool
from avfeat.produce import Job
from avfeat.run import extract
from avfeat.store import open_store
from avfeat.views import SOUND, Views, ViewSettings
from tests.extracting import make_tones
from tests.tiny_models import tiny_clip, tiny_wav2vec2


@pytest.fixture(scope="module")
def tones(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Manifest]:
    folder = tmp_path_factory.mktemp("tones")
    return folder, make_tones(folder, 7)


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("networks")
    return {
        "speech": tiny_wav2vec2(root / "speech"),
        "group": tiny_wav2vec2(root / "group", norm="group", stable=False),
        "pictures": tiny_clip(root / "pictures"),
    }


@given(st.lists(st.integers(1, 1000), max_size=40), st.integers(1, 3000))
def test_every_clip_is_in_one_bucket_and_none_is_fuller_than_allowed(lengths: list[int], most: int) -> None:
    found = buckets(lengths, most)
    assert sorted(place for bucket in found for place in bucket) == list(range(len(lengths)))
    for bucket in found:
        assert len(bucket) == 1 or len(bucket) * max(lengths[place] for place in bucket) <= most
    order = [lengths[place] for bucket in found for place in bucket]
    assert order == sorted(order, reverse=True)


def _encode(tones: tuple[Path, Manifest], encoder: Encoder, together_seconds: float) -> list[Mapping[str, Rows]]:
    folder, manifest = tones
    jobs = [Job(each, folder / f"{each}.mp4", encoder.reads(), ViewSettings()) for each in manifest.clip_ids]
    results: dict[int, ClipResult] = {}
    with Pool(2) as pool:
        wanted = {job.clip_id: encoder.wanted for job in jobs}
        encode_clips(jobs, wanted, [encoder], pool, Spent(), results.__setitem__, together_seconds)
    rows = [results[index].rows for index in range(len(jobs))]
    assert all(isinstance(each, np.ndarray) for clip in rows for each in clip.values())
    return rows  # type: ignore[return-value]


@pytest.mark.parametrize(("network", "runs"), [("speech", (7, 1)), ("pictures", (7, 1)), ("group", (7, 7))])
def test_clips_of_files_that_go_together_take_fewer_runs_and_get_the_same_rows(
    tones: tuple[Path, Manifest], networks: dict[str, Path], network: str, runs: tuple[int, int]
) -> None:
    encoder = build_encoder(*resolve([f"hf:{networks[network]}", f"hf:{networks[network]}@1"]))
    counted: list[object] = []
    encoder.blocks()[0].register_forward_hook(lambda *_: counted.append(1))
    alone = _encode(tones, encoder, 0.0)
    assert len(counted) == runs[0]
    together = _encode(tones, encoder, 60.0)
    assert len(counted) - runs[0] == runs[1]
    for one, other in zip(alone, together, strict=True):
        assert all(one[name].shape == other[name].shape for name in one)
        assert all(np.abs(one[name] - other[name]).max() < 1e-4 for name in one)


class Clumsy(Encoder):
    """Gives a row of ones for each clip, but cannot do two at once."""

    def __init__(self, encoder: Encoder):
        self.card, self.wanted, self.provenance = encoder.card, encoder.wanted, {}
        self.tried = 0

    def begin(self) -> Encoding:
        return _Ones(self)

    def together(self, encodings: Sequence[Encoding]) -> None:
        self.tried += 1
        raise torch.OutOfMemoryError("two clips need twice the memory of one")


class _Ones(Encoding):
    def __init__(self, encoder: Encoder):
        self._encoder = encoder

    def take(self, views: Views) -> None:
        pass

    def finish(self, wanted: Sequence[object]) -> dict[object, Rows]:  # type: ignore[override]
        return {name: np.ones((1, 104), np.float32) for name in wanted}


def test_clips_wait_until_enough_has_come(tones: tuple[Path, Manifest], networks: dict[str, Path]) -> None:
    encoder = build_encoder(*resolve([f"hf:{networks['speech']}"]))
    counted: list[object] = []
    encoder.blocks()[0].register_forward_hook(lambda *_: counted.append(1))
    _encode(tones, encoder, 0.41)  # no two clips are longer than 0.8 s, no clip alone is long enough
    assert 3 <= len(counted) <= 4


def test_what_fails_together_is_done_alone(tones: tuple[Path, Manifest]) -> None:
    encoder = Clumsy(build_encoder(*resolve(["logmel"])))
    assert len(_encode(tones, encoder, 60.0)) == 7
    assert encoder.tried == 1


def test_what_a_network_computed_in_is_part_of_what_a_feature_is(
    tones: tuple[Path, Manifest], networks: dict[str, Path], tmp_path: Path
) -> None:
    check_dtype("cpu", "bf16")
    folder, manifest = tones
    path = tmp_path / "tones.parquet"
    manifest.write(path)
    store, name = tmp_path / "store", f"hf:{networks['speech']}"
    command = ["extract", str(path), "--encoder", name, "--store", str(store), "--dtype", "float32", "--device", "cpu"]
    assert CliRunner().invoke(app, [*command, "--dtype-compute", "bf16", "--encoder", "logmel"]).exit_code == 0
    group = open_store(store)["tones"]
    assert group["speech"].attributes["dtype_compute"] == "bf16"
    assert group["speech"].attributes["identity"]["provenance"]["dtype_compute"] == "bf16"
    assert "dtype_compute" not in group["logmel"].attributes["identity"]["provenance"]
    with pytest.raises(StoreError, match="dtype_compute"):
        extract(manifest, folder, [name], store, Options(device="cpu", dtype="float32"))
    like = {"speech": group["speech"].attributes}
    ((_, again),) = encode_files([folder / "003.mp4"], ["speech"], like=like, options=Options(device="cpu"))
    assert isinstance(again, dict)
    assert np.array_equal(again["speech"].rows, group["speech"].clip("003"))


def test_a_type_that_the_device_would_only_imitate_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    check_dtype("cpu", "fp32")
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_fp16_supported", lambda: False)
    with pytest.raises(SetupError, match="this CPU does not compute in fp16: use --dtype-compute fp32"):
        check_dtype("cpu", "fp16")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    check_dtype("cuda:0", "fp16")
    with pytest.raises(SetupError, match=r"cuda:0 \(Tesla T4\) does not compute in bf16: use .* fp16 or fp32"):
        check_dtype("cuda:0", "bf16")


def test_compiled_blocks_give_the_same_rows_inner_ones_too(networks: dict[str, Path]) -> None:
    (request,) = resolve([f"hf:{networks['speech']}", f"hf:{networks['speech']}@2"])
    plain = build_encoder(request)
    compiled = build_encoder(replace(request, compile=True))
    for samples in (8000, 12345):
        sound = (0.1 * np.random.default_rng(samples).standard_normal(samples)).astype(np.float32)
        given = []
        for encoder in (plain, compiled):
            encoding = encoder.begin()
            encoding.take(Views(sound=sound))
            given.append(encoding.finish(encoder.wanted))
        for name in plain.wanted:
            one, other = (each[name] for each in given)
            assert isinstance(one, np.ndarray) and isinstance(other, np.ndarray)
            assert np.abs(one - other).max() < 1e-5
    assert plain.reads() == {SOUND}


def test_without_a_compiler_compiling_is_refused(networks: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    (request,) = resolve([f"hf:{networks['pictures']}"])
    with pytest.raises(SetupError, match=r"none is here: install g\+\+"):
        build_encoder(replace(request, compile=True))

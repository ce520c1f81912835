"""``avfeat weights`` by its own commands, on a tiny encoder that is served from a folder."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from avfeat.encoders.avhubert import published
from avfeat.encoders.avhubert.initial import random_tensors
from avfeat.weights import sha256_of
from avfeat.weights_cli import app

TINY = published.Architecture(width=64, layers=2, ffn=128, heads=4, resnet_width=8)
NAME = "avhubert-base"


@pytest.fixture
def official(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tiny file in the official form, published under a real name, at an address that a folder stands for."""
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "served" / "base_vox_iter5.pt"
    path.parent.mkdir()
    torch.save({"model": random_tensors(TINY, 0), "extra_state": {"epoch": 1}}, path)
    real = published.PUBLISHED[NAME]
    file = replace(real.file, address=path.as_uri(), sha256=sha256_of(path))
    monkeypatch.setitem(published.PUBLISHED, NAME, replace(real, architecture=TINY, file=file))
    return path


def run(*words: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(words))
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def test_get_fetches_and_converts_once_and_path_and_check_find_it(official: Path) -> None:
    before = run("path", NAME)
    assert before.endswith("avhubert/base_vox_iter5.pt")
    told = run("get", NAME)
    assert "avhubert/base_vox_iter5.safetensors" in told and "non-commercial research only" in told
    official.unlink()
    assert "avhubert/base_vox_iter5.safetensors" in run("get", NAME)
    assert run("path", NAME).endswith("base_vox_iter5.safetensors")
    checked = run("check")
    assert "tensors from base_vox_iter5.pt, as written" in checked and "as it should be" in checked
    assert run("check", f"{NAME}-trimmed") == checked


def test_check_finds_a_file_that_rotted_on_disk(official: Path, tmp_path: Path) -> None:
    run("get", NAME)
    path = tmp_path / "cache" / "avhubert" / "base_vox_iter5.safetensors"
    times = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert "has changed" in run("check", code=1)


def test_what_cannot_be_fetched_says_which_file_to_put_where(official: Path, tmp_path: Path) -> None:
    official.unlink()
    told = run("get", NAME, code=1)
    assert f"put the file with sha256 {published.PUBLISHED[NAME].file.sha256} at" in told
    assert str(tmp_path / "cache" / "avhubert" / "base_vox_iter5.pt") in told


def test_convert_knows_a_published_file_by_its_name_and_puts_it_where_the_encoder_looks(official: Path) -> None:
    told = run("convert", str(official))
    assert "width 64, 2 blocks, 4 heads, norms before attention" in told and "biometric" in told
    assert run("path", NAME).endswith("base_vox_iter5.safetensors")


def test_convert_writes_ones_own_file_beside_itself_or_where_told(official: Path, tmp_path: Path) -> None:
    own = official.rename(tmp_path / "own.pt")
    assert "name the encoder that it is" in run("convert", str(own), code=1)
    run("convert", str(own), "--encoder", NAME, "--out", str(tmp_path / "mine.safetensors"))
    assert json.loads((tmp_path / "mine.json").read_text())["architecture"]["width"] == 64
    assert "has to end in .safetensors" in run("convert", str(own), "--encoder", NAME, "-o", "mine.bin", code=1)
    assert "there are: avhubert-base" in run("convert", str(own), "--encoder", "hubert", code=1)


def test_list_shows_every_file_with_its_licence_and_address(official: Path) -> None:
    told = run("list")
    for each in published.PUBLISHED.values():
        assert each.file.name in told and "AV-HuBERT licence" in told
    assert "xlsr-300m" in told and "logmel" not in told


def test_an_encoder_without_weights_has_nothing_to_fetch() -> None:
    assert "logmel has no weights" in run("get", "logmel", code=1)
    assert "there is no encoder" in run("get", "nonesuch", code=1)

"""docs/adding-an-encoder.md: its package is written as it stands there, installed, listed and run."""

import importlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file
from typer.testing import CliRunner

import avfeat
from avfeat.cli import app
from avfeat.encoders import build_encoder, catalogue, resolve
from avfeat.encoders.base import check_rows
from avfeat.errors import TooShortError, WeightsError
from avfeat.views import Views
from tests.extracting import make_tones

PAGE = Path(__file__).resolve().parents[1] / "docs" / "adding-an-encoder.md"


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Put the page's package on the path as pip would: its files, and what it says of its entry points."""
    for code in _blocks("python"):
        place = re.match(r"# (\S+)\n", code)
        assert place is not None
        file = tmp_path / place[1]
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)
    (toml,) = _blocks("toml")
    project = tomllib.loads(toml)["project"]
    info = tmp_path / "my_encoders-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = [f"{name} = {module}" for name, module in project["entry-points"]["avfeat.encoders"].items()]
    (info / "entry_points.txt").write_text("[avfeat.encoders]\n" + "\n".join(lines) + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("my_encoders")]:
        del sys.modules[name]


def test_the_pages_encoders_are_listed_with_what_they_lack(package: Path) -> None:
    rows = {row["name"]: row for row in catalogue()}
    assert rows["loudness"]["available"]
    assert "not published" in str(rows["patches"]["missing"])
    shown = json.loads(CliRunner().invoke(app, ["encoders", "loudness", "--json"]).stdout)
    assert shown["settings"]["floor_db"]["default"] == 80
    assert "floor_db = 80.0: decibels below full scale" in CliRunner().invoke(app, ["encoders", "loudness"]).stdout


def test_the_pages_encoders_are_extracted_from_the_command_line(package: Path) -> None:
    manifest = make_tones(package / "tones", 3)
    path, store = package / "tones.parquet", package / "store"
    manifest.write(path)
    common = ["extract", str(path), "--store", str(store), "--device", "cpu", "--dtype", "float32"]
    for more in (
        ["--encoder", "loudness", "--set", "floor_db=60"],
        ["--encoder", "patches@2", "--encoder", "patches", "--weights", "random", "--dtype-compute", "bf16"],
    ):
        result = CliRunner().invoke(app, [*common, *more])
        assert result.exit_code == 0, result.output
    group = avfeat.open_store(store)["tones"]
    loud = group["loudness"].clip("000")
    assert loud.shape == (5, 2)
    assert loud[1, 0] == pytest.approx(9000 / 32768 / np.sqrt(2), rel=0.01)  # a sine's
    assert group["patches-random@2"].clip("001").shape == (4, 32)
    assert group["patches-random"].attributes["identity"]["provenance"]["dtype_compute"] == "bf16"


def test_the_pages_network_reads_its_file_or_says_what_is_wrong_with_it(package: Path) -> None:
    random = np.random.default_rng(0)
    tensors = {"embed": random.standard_normal((32, 768), np.float32)}
    tensors |= {f"block{k}": random.standard_normal((32, 32), np.float32) for k in range(3)}
    file = package / "mine.safetensors"
    save_file(tensors, file)
    encoder = build_encoder(*resolve(["patches", "patches@1"], weights=file))
    (view,) = encoder.reads()
    pictures = random.integers(0, 256, (70, 64, 64, 3), np.uint8)
    encoding = encoder.begin()
    encoding.take(Views(0, {view: pictures}))
    for name, rows in encoding.finish(encoder.wanted).items():
        assert isinstance(rows, np.ndarray) and len(check_rows(encoder.card, name, rows)) == 70
    del tensors["block1"]
    save_file(tensors, file)
    with pytest.raises(WeightsError, match="lacks block1"):
        build_encoder(*resolve(["patches"], weights=file))
    with pytest.raises(WeightsError, match="give a file with --weights"):
        build_encoder(*resolve(["patches"]))


def test_the_pages_short_sound_is_a_failed_clip(package: Path) -> None:
    encoder = build_encoder(*resolve(["loudness"]))
    encoding = encoder.begin()
    encoding.take(Views(sound=np.zeros(100, np.float32)))
    with pytest.raises(TooShortError):
        encoding.finish(encoder.wanted)

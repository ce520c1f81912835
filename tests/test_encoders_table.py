import importlib
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from avfeat.encoders import build_encoder, card_of, catalogue, describe, known_encoders, resolve
from avfeat.encoders.base import FeatureName
from avfeat.encoders_cli import card, table
from avfeat.errors import EncoderError

PLUGIN = """
from avfeat.encoders.base import Card, Output
from avfeat.views import SOUND

CARDS = {"loudness": Card("loudness", "how loud", {"": Output((SOUND,), 1)}, 25, 0.02, 0, "MIT", "here")}


def build(request):
    raise NotImplementedError
"""


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two other distributions: one with an encoder, one whose module fails at import and takes a name of ours."""
    (tmp_path / "loud_plugin.py").write_text(PLUGIN)
    (tmp_path / "broken_plugin.py").write_text("raise RuntimeError('no such GPU')")
    for name, lines in {
        "loud": "loudness = loud_plugin",
        "broken": "broken = broken_plugin\nlogmel = broken_plugin",
    }.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(f"[avfeat.encoders]\n{lines}\n")
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()


def test_an_unknown_name_offers_near_ones_and_all() -> None:
    with pytest.raises(EncoderError, match=r"Did you mean logmel\b.*There are: logmel, landmarks"):
        resolve(["logmell"])


def test_features_of_one_encoder_share_a_request_and_duplicates_count_once() -> None:
    requests = resolve(["logmel", "landmarks", "logmel"], device="cuda:1")
    assert [request.encoder for request in requests] == ["logmel", "landmarks"]
    assert requests[0].wanted == (FeatureName("logmel"),)
    assert requests[0].device == "cuda:1"


def test_a_stream_or_layer_that_is_not_there_is_refused_before_anything_is_loaded() -> None:
    with pytest.raises(EncoderError, match="no stream 'av'"):
        resolve(["logmel.av"])
    with pytest.raises(EncoderError, match="no layers to choose"):
        resolve(["logmel@3"])


def test_an_encoder_without_weights_is_never_random() -> None:
    (request,) = resolve(["logmel"], seed=3)
    assert request.seed is None
    assert request.wanted == (FeatureName("logmel"),)
    with pytest.raises(EncoderError, match="no weights that could be random"):
        resolve(["logmel-random"])


def test_weights_and_settings_belong_to_one_encoder(tmp_path: Path) -> None:
    with pytest.raises(EncoderError, match=r"2 were named \(logmel, landmarks\)"):
        resolve(["logmel", "landmarks"], weights=tmp_path)
    with pytest.raises(EncoderError, match="the settings"):
        resolve(["logmel", "landmarks"], settings={"bands": 3})


def test_a_setting_that_is_not_there_is_refused() -> None:
    with pytest.raises(EncoderError, match="logmel has no setting 'bands'; it has: none"):
        build_encoder(*resolve(["logmel"], settings={"bands": 3}))


@pytest.mark.usefixtures("plugins")
def test_another_distribution_adds_an_encoder_and_a_broken_one_breaks_nothing() -> None:
    assert card_of("loudness").summary == "how loud"
    rows = {row["name"]: row for row in catalogue()}
    assert rows["loudness"]["available"]
    assert not rows["broken"]["available"]
    assert "no such GPU" in str(rows["broken"]["missing"])
    assert known_encoders()["logmel"] == "avfeat.encoders.logmel"
    with pytest.raises(EncoderError, match=r"broken cannot be loaded.*no such GPU"):
        card_of("broken")


@pytest.mark.parametrize("name", known_encoders())
def test_every_card_is_plain_data_and_true_to_its_name(name: str) -> None:
    row = describe(name)
    assert row["name"] == card_of(name).name == name
    assert json.loads(json.dumps(row)) == row
    assert row["licence"]
    assert row["source"]


def test_the_card_of_random_weights_names_their_seed_and_lacks_no_file() -> None:
    row = describe("avhubert-large-random")
    assert row["name"] == "avhubert-large-random"
    assert row["weights"] == ["random numbers, seed 0"] and row["available"]
    assert not row["self_supervised"] and "random" in str(row["summary"])
    with pytest.raises(EncoderError, match="logmel has no weights that could be random"):
        describe("logmel-random")


def test_listing_loads_neither_torch_nor_transformers() -> None:
    code = (
        "import sys; from avfeat.encoders import catalogue; catalogue(); "
        "print({'torch', 'transformers', 'mediapipe'} & set(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_the_list_names_every_encoder_and_what_it_lacks() -> None:
    rows = catalogue()
    lines = table(rows).splitlines()
    assert lines[0].split() == ["encoder", "reads", "width", "Hz", "layers", "licence", "lacks"]
    for row, line in zip(rows, lines[1:], strict=True):
        assert line.startswith(str(row["name"]))
        assert line.endswith("weights") == bool(row["missing"])


def test_a_card_says_what_comes_in_and_goes_out_and_what_it_costs() -> None:
    shown = card(describe("clip-vit-l14"))
    for fact in (
        r"input +frame: uint8 \[frames, 224, 224, 3\], bicubic, squash",
        r"output +float32 \[rows, 1024\]",
        r"rate, Hz +25\b",
        r"layers +24\b",
        r"GFLOP / s of video +4050\b",
        r"licence +MIT",
        r"source +https://huggingface.co/openai/clip-vit-large-patch14",
        r"citation +Radford et al\.",
        r"final_norm = auto of auto, on, off: the network's last norm",
        r"missing +weights of openai/clip-vit-large-patch14 are not in the cache|weights +model.safetensors",
    ):
        assert re.search(fact, shown), fact
    assert max(map(len, shown.splitlines())) < 130

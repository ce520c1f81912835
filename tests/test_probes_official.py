"""Probes of the official trainer: three real files where they are at hand, a made one everywhere."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize
from typer.testing import CliRunner

from avfeat.errors import ProbeError, WeightsError
from probes.cli import app
from probes.official import import_linear
from probes.probe_file import load_probe

FILES = {
    "avh_multimodal/model-epoch=18.ckpt": 1024,
    "braven_vsr/model-epoch=37.ckpt": 1024,
    "wav2vec2/model-epoch=48.ckpt": 3840,
}


def make(path, weight, bias=None, width=None, extra=None):
    state = {"head.weight": weight, "head.bias": torch.tensor([0.5]) if bias is None else bias, **(extra or {})}
    model = {"input_type": "video", "feats_dim": width or weight.shape[1]}
    torch.save({"state_dict": state, "hyper_parameters": {"config": {"model_hparams": model}}}, path)
    return path


def check(path, state, width):
    probe = import_linear(path, "some-feature")
    assert (probe.features_, probe.widths_) == (("some-feature",), (width,))
    rng = np.random.default_rng(0)
    clips = [(rng.normal(size=(n, width)) * 30).astype(np.float32) for n in (1, 7, 250)]
    for rows, score in zip(clips, probe.decision_function(clips), strict=True):
        frames = normalize(torch.from_numpy(rows), dim=1) @ state["head.weight"][0] + state["head.bias"]
        assert score == pytest.approx(float(torch.logsumexp(frames, 0)), abs=1e-5)


@pytest.mark.shared
@pytest.mark.parametrize("name", FILES)
def test_a_real_official_probe_scores_as_its_tensors_say(shared: Path, name: str) -> None:
    path = shared / "metadata" / "ssr-dfd" / "checkpoints" / name
    check(path, torch.load(path, weights_only=True)["state_dict"], FILES[name])


def test_a_made_official_probe_scores_as_its_tensors_say(tmp_path):
    path = make(tmp_path / "made.ckpt", torch.randn(1, 24))
    check(path, torch.load(path, weights_only=True)["state_dict"], 24)


def test_the_command_writes_a_probe_that_knows_where_it_came_from(tmp_path):
    make(tmp_path / "made.ckpt", torch.randn(1, 24))
    out = tmp_path / "probe.safetensors"
    done = CliRunner().invoke(
        app, ["import-checkpoint", str(tmp_path / "made.ckpt"), "--feature", "lips", "-o", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert load_probe(out).facts_["fit"] == {"checkpoint": "made.ckpt", "input_type": "video"}


def test_what_is_no_official_probe_is_refused(tmp_path):
    with pytest.raises(ProbeError, match=r"feats|width 30, but its weights are 24"):
        import_linear(make(tmp_path / "a", torch.randn(1, 24), width=30), "f")
    with pytest.raises(ProbeError, match=r"needed are head.weight \[1, width\]"):
        import_linear(make(tmp_path / "b", torch.randn(2, 24)), "f")
    with pytest.raises(ProbeError, match="holds no linear probe"):
        import_linear(make(tmp_path / "c", torch.randn(1, 24), extra={"body": torch.ones(1)}), "f")
    with pytest.raises(ProbeError, match="not all finite"):
        import_linear(make(tmp_path / "d", torch.full((1, 24), torch.nan)), "f")
    (tmp_path / "e").write_text("hello")
    with pytest.raises(WeightsError):
        import_linear(tmp_path / "e", "f")

"""Probes of the official trainer: three real files where they are at hand, a made one everywhere."""

import argparse
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.functional import layer_norm, linear, normalize, relu
from typer.testing import CliRunner

from avfeat.errors import ProbeError, WeightsError
from probes.cli import app
from probes.featureset import FeatureSet
from probes.official import import_official
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
    probe = import_official(path, ["some-feature"])
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


def network_state(video=24, audio=20, sizes=(32, 16, 12, 8), single=False):
    """The official names with random numbers; sizes are those of the projections together and the hidden layers."""
    generator = torch.Generator().manual_seed(1)
    shapes = (
        {"proj": (sizes[0], video)}
        if single
        else {"visual_proj": (sizes[0] // 2, video), "audio_proj": (sizes[0] // 2, audio)}
    )
    for number, (before, after) in enumerate(zip(sizes, (*sizes[1:], 1), strict=True)):
        shapes[f"mlp.{3 * number}"] = (after, before)
        if after > 1:
            shapes[f"mlp.{3 * number + 1}"] = (after,)
    state = {}
    for name, shape in shapes.items():
        state[f"{name}.weight"] = torch.randn(shape, generator=generator) / shape[-1] ** 0.5
        state[f"{name}.bias"] = torch.randn(shape[:1], generator=generator)
    return state


def plain_outputs(state, parts):
    """The network's outputs for normalised frames, straight from the tensors."""
    names = ("proj",) if len(parts) == 1 else ("visual_proj", "audio_proj")
    x = torch.cat([linear(p, state[f"{n}.weight"], state[f"{n}.bias"]) for n, p in zip(names, parts, strict=True)], 1)
    for first in (0, 3, 6):
        x = linear(x, state[f"mlp.{first}.weight"], state[f"mlp.{first}.bias"])
        x = relu(layer_norm(x, x.shape[1:], state[f"mlp.{first + 1}.weight"], state[f"mlp.{first + 1}.bias"]))
    return linear(x, state["mlp.9.weight"], state["mlp.9.bias"])[:, 0]


def check_network(probe, state, widths, sign):
    assert probe.widths_ == widths
    rng = np.random.default_rng(0)
    clips = [(rng.normal(size=(n, sum(widths))) * 30).astype(np.float32) for n in (1, 7, 250)]
    data = FeatureSet.from_arrays(clips, features=probe.features_, widths=widths)
    for rows, score in zip(clips, probe.decision_function(data), strict=True):
        parts = [normalize(part, dim=1) for part in torch.from_numpy(rows).split(widths, 1)]
        assert score == pytest.approx(float(torch.logsumexp(sign * plain_outputs(state, parts), 0)), abs=1e-5)


def avh_align(path, state, **arguments):
    """As the official trainer saves it: the Namespace and the optimiser's state lie beside the tensors."""
    args = argparse.Namespace(
        **{"name": "first_run", "tau": 15, "batch_size": 1024, "penalty_coefficient": 0.1, **arguments}
    )
    content = {"epoch": 7, "state_dict": state, "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}}, "args": args}
    torch.save({**content, "best_val_loss": float("inf")}, path)
    return path


def test_a_made_synchronization_checkpoint_scores_as_its_tensors_say(tmp_path):
    state = network_state()
    path = avh_align(tmp_path / "made.pt", state, tau=9, learning_rate=2e-5)
    probe = import_official(path, ["lips.v", "lips.a"])
    check_network(probe, state, (24, 20), -1)
    assert (probe.kind, probe.tau, probe.batch, probe.learning_rate) == ("sync", 9, 1024, 2e-5)
    assert (probe.facts_["epoch"], probe.facts_["arguments"]["penalty_coefficient"]) == (7, "0.1")
    probe.save(tmp_path / "probe.safetensors")
    check_network(load_probe(tmp_path / "probe.safetensors"), state, (24, 20), -1)


@pytest.mark.parametrize("single", [False, True])
def test_a_made_supervised_network_is_told_from_synchronization_and_scores_as_its_tensors_say(tmp_path, single):
    state, names = network_state(single=single), ["lips.v"] if single else ["lips.v", "lips.a"]
    model = {"model_type": "mlp", "input_type": "video" if single else "both"}
    path = tmp_path / "made.ckpt"
    torch.save({"state_dict": state, "hyper_parameters": {"config": {"model_hparams": model}}}, path)
    probe = import_official(path, names)
    check_network(probe, state, (24,) if single else (24, 20), 1)
    assert (probe.kind, probe.facts_["input_type"]) == ("mlp", model["input_type"])


def test_the_command_takes_two_features_for_a_pair(tmp_path):
    path, out = avh_align(tmp_path / "made.pt", network_state()), tmp_path / "probe.safetensors"
    two = ["--feature", "lips.v", "--feature", "lips.a"]
    done = CliRunner().invoke(app, ["import-checkpoint", str(path), *two, "-o", str(out)])
    assert done.exit_code == 0, done.output
    assert "sync of lips.v (24 wide) + lips.a (20 wide)" in done.output
    assert load_probe(out).features_ == ("lips.v", "lips.a")


def test_a_network_checkpoint_that_does_not_fit_is_refused(tmp_path):
    state = network_state()
    path = avh_align(tmp_path / "made.pt", state)
    with pytest.raises(ProbeError, match="reads 2 features, video before audio; named are lips"):
        import_official(path, ["lips"])
    with pytest.raises(ProbeError, match=r"name lips\.v before lips\.a"):
        import_official(path, ["lips.a", "lips.v"])
    with pytest.raises(ProbeError, match=r"a\.pt does not hold .* mlp\.4\.bias is missing but needed \(12,\)"):
        import_official(avh_align(tmp_path / "a.pt", {k: v for k, v in state.items() if k != "mlp.4.bias"}), ["v", "a"])
    with pytest.raises(ProbeError, match=r"extra is \(1,\) but needed not"):
        import_official(avh_align(tmp_path / "b.pt", {**state, "extra": torch.ones(1)}), ["v", "a"])
    with pytest.raises(ProbeError, match=r"mlp\.0\.bias is not all finite"):
        import_official(avh_align(tmp_path / "c.pt", {**state, "mlp.0.bias": torch.full((16,), torch.inf)}), ["v", "a"])
    with pytest.raises(ProbeError, match="holds no network"):
        import_official(avh_align(tmp_path / "e.pt", {"mlp.0.bias": torch.ones(3)}), [])
    with pytest.raises(ProbeError, match="reads one feature"):
        import_official(make(tmp_path / "d.ckpt", torch.randn(1, 24)), ["v", "a"])


def test_what_is_no_official_probe_is_refused(tmp_path):
    with pytest.raises(ProbeError, match=r"feats|width 30, but its weights are 24"):
        import_official(make(tmp_path / "a", torch.randn(1, 24), width=30), ["f"])
    with pytest.raises(ProbeError, match=r"needs head.weight \[1, width\]"):
        import_official(make(tmp_path / "b", torch.randn(2, 24)), ["f"])
    with pytest.raises(ProbeError, match="holds no probe of an official trainer"):
        import_official(make(tmp_path / "c", torch.randn(1, 24), extra={"body": torch.ones(1)}), ["f"])
    with pytest.raises(ProbeError, match="not all finite"):
        import_official(make(tmp_path / "d", torch.full((1, 24), torch.nan)), ["f"])
    (tmp_path / "e").write_text("hello")
    with pytest.raises(WeightsError):
        import_official(tmp_path / "e", ["f"])

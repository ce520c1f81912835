"""What every head of the table must do."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import cross_validate

from avfeat.errors import ProbeError, SetupError
from probes.featureset import FeatureSet
from probes.heads import HEADS, head_class
from probes.heads.training import train
from probes.probe_file import load_probe, read_probe
from tests.ragged import planted_arrays

TINY = {
    "linear": {"steps": 6},
    "mlp": {"sizes": (16, 8), "epochs": 3},
    "sync": {"sizes": (16, 8), "epochs": 3, "tau": 2, "batch": 50},
    "ntp": {"width": 16, "blocks": 1, "heads": 2, "context": 12, "batch": 60, "warmup": 2, "epochs": 3},
    "cosine": {},
    "late-fusion": {"combine": "standardised"},
}
"""Settings with which a fit takes a moment."""

LEARNING = [name for name in HEADS if "epochs" in TINY[name]]
REAL_ONLY = [name for name in HEADS if head_class(name).learns_from == "real"]
PLACED = [name for name in HEADS if "device" in head_class(name)().get_params()]


def made(clips=24, seed=0, **settings) -> FeatureSet:
    arrays, labels = planted_arrays(clips=clips, width=24, seed=seed, **settings)
    return FeatureSet.from_arrays(arrays, labels, features=("lips.v", "lips.a"), widths=(12, 12))


def tiny(name, **settings):
    """A head that is not fitted yet; late fusion needs trained ones."""
    if name == "late-fusion":
        settings["probes"] = (fitted("linear"), fitted("cosine"))
    return head_class(name)(**{**TINY[name], **settings})


def fitted(name, **settings):
    return tiny(name, **settings).fit(made(), validation=made(clips=8, seed=1))


@pytest.mark.parametrize("name", HEADS)
def test_a_head_says_what_it_learns_from_and_how_many_features_it_reads(name):
    head = head_class(name)
    assert head.kind == name
    assert head.learns_from in ("real and fake", "real")
    assert head.reads is None or head.reads >= 1
    with pytest.raises(NotFittedError):
        head().decision_function(made())


@pytest.mark.parametrize("name", HEADS)
def test_a_head_gives_a_score_for_each_clip_and_each_frame_and_its_probability(name):
    head, data = fitted(name), made(seed=2, shortest=1, longest=30, dtype=np.float16)
    scores, frames, odds = head.decision_function(data), head.frame_scores(data), head.predict_proba(data)
    assert scores.dtype == np.float32 and scores.shape == (len(data),)
    assert [each.shape for each in frames] == [(len(data[k]),) for k in range(len(data))]
    assert all(each.dtype == np.float32 for each in frames)
    assert odds.shape == (len(data), 2) and np.allclose(odds.sum(1), 1)
    assert (np.argsort(scores, kind="stable") == np.argsort(odds[:, 1], kind="stable")).mean() > 0.9
    assert ((odds[:, 1] > 0.5) == head.predict(data)).all()


@pytest.mark.parametrize("name", HEADS)
def test_the_score_of_a_clip_does_not_depend_on_the_others(name):
    head, data = fitted(name), made(seed=2, shortest=1, longest=40)
    together, frames = head.decision_function(data), head.frame_scores(data)
    for clip in range(0, len(data), 5):
        alone = data.select([clip])
        np.testing.assert_allclose(head.decision_function(alone), together[clip], atol=1e-5)
        np.testing.assert_allclose(head.frame_scores(alone)[0], frames[clip], atol=1e-5)


@pytest.mark.parametrize("name", HEADS)
def test_a_saved_head_is_loaded_with_its_scores_settings_and_facts(name, tmp_path):
    head, data = fitted(name), made(seed=2)
    head.save(tmp_path / "head.safetensors", {"note": "tiny"})
    again = load_probe(tmp_path / "head.safetensors")
    assert type(again) is type(head)
    np.testing.assert_array_equal(again.decision_function(data), head.decision_function(data))
    np.testing.assert_array_equal(again.predict_proba(data), head.predict_proba(data))
    plain = head.get_params().keys() - {"probes"}
    assert {key: again.get_params()[key] for key in plain} == {key: head.get_params()[key] for key in plain}
    assert (again.features_, again.widths_) == (("lips.v", "lips.a"), (12, 12))
    assert again.facts_["note"] == "tiny"
    assert again.facts_["fit"] == json.loads(json.dumps(head.facts_))
    again.save(tmp_path / "again.safetensors")
    assert read_probe(tmp_path / "again.safetensors")[2] == read_probe(tmp_path / "head.safetensors")[2]


@pytest.mark.parametrize("name", HEADS)
def test_a_head_works_in_clone_and_cross_validation(name):
    data = made()
    arrays, labels = [data[k].numpy() for k in range(len(data))], data.labels.numpy()
    head = tiny(name)
    assert clone(head).get_params() == head.get_params()
    found = cross_validate(head, arrays, labels, scoring="roc_auc", cv=2, error_score="raise")
    assert np.isfinite(found["test_score"]).all()


@pytest.mark.parametrize("name", HEADS)
def test_the_same_seed_gives_the_same_head_whatever_was_drawn_before(name):
    first = fitted(name)
    torch.rand(3)
    np.random.rand(3)
    second = fitted(name)
    np.testing.assert_array_equal(first.decision_function(made()), second.decision_function(made()))


@pytest.mark.parametrize("name", LEARNING)
def test_an_interrupted_fit_keeps_the_best_epoch_so_far(name):
    told = []

    def tell(progress):
        told.append(float(progress.best_loss))
        if progress.done == 2:
            raise KeyboardInterrupt

    head = tiny(name, epochs=50).fit(made(), validation=made(clips=8, seed=1), tell=tell)
    assert head.facts_["stopped"] == "interrupted"
    assert len(told) == len(head.facts_["losses"]) == 2
    assert head.facts_["loss"] == told[-1] == min(head.facts_["losses"])
    assert np.isfinite(head.decision_function(made())).all()


def test_a_fit_that_is_interrupted_in_its_first_epoch_keeps_what_it_has_learned_till_then():
    network, before = torch.nn.Linear(2, 1), []

    def walk():
        with torch.no_grad():
            network.weight += 1
        before.append(network.weight.clone())
        raise KeyboardInterrupt

    facts = train(network, walk, None, epochs=5, patience=5, tell=print)
    assert facts == {"loss": None, "best_step": 0, "stopped": "interrupted", "losses": []}
    assert torch.equal(network.weight, before[0])


@pytest.mark.parametrize("name", LEARNING)
def test_a_loss_that_is_never_finite_is_an_error(name):
    with pytest.raises(ProbeError, match="lower the learning rate"):
        fitted(name, learning_rate=1e30)


@pytest.mark.parametrize("name", REAL_ONLY)
def test_a_head_of_real_clips_takes_those_labelled_real_and_needs_no_other(name):
    data = made()
    reals = (data.labels == 0).nonzero()[:, 0].tolist()
    both = tiny(name).fit(data)
    alone = tiny(name).fit(data.select(reals))
    np.testing.assert_allclose(both.decision_function(data), alone.decision_function(data), atol=1e-6)
    with pytest.raises(ProbeError, match="Training set: none of the 12 clips is labelled 0"):
        tiny(name).fit(data.select([k for k in range(len(data)) if k not in reals]))
    with pytest.raises(ProbeError, match="Validation set: none of the 1 clips is labelled 0"):
        tiny(name).fit(data, validation=data.select([1]))
    assert tiny(name).fit(data.select([0])).decision_function(data).shape == (24,)


@pytest.mark.parametrize("name", REAL_ONLY)
def test_one_in_twenty_of_the_real_clips_that_it_saw_lies_above_the_line(name):
    real = made(clips=200, strength=0.0).with_labels([0] * 200)
    head = tiny(name).fit(real, validation=real)
    assert 4 <= head.predict(real).sum() <= 16


@pytest.mark.parametrize("name", HEADS)
def test_a_head_scores_clips_of_the_features_that_it_was_made_for_only(name):
    data = made()
    arrays = [data[k].numpy() for k in range(len(data))]
    with pytest.raises(ProbeError, match=r"lips.v \(12 wide\) \+ lips.a \(12 wide\)"):
        fitted(name).decision_function(FeatureSet.from_arrays(arrays, features=("b.v", "b.a"), widths=(12, 12)))


@pytest.mark.parametrize("name", PLACED)
def test_a_head_is_validated_on_the_same_features_and_runs_on_a_device_that_is_there(name):
    other = made(clips=8)
    arrays = [other[k].numpy() for k in range(8)]
    with pytest.raises(ProbeError, match="Validation set: frames are"):
        tiny(name).fit(made(), validation=FeatureSet.from_arrays(arrays, other.labels))
    with pytest.raises(SetupError, match="cannot be used"):
        fitted(name, device="cuda:99")
    same = fitted(name, device="cpu")
    np.testing.assert_array_equal(same.decision_function(other), fitted(name).decision_function(other))


def test_an_unknown_head_is_answered_with_those_there_are():
    with pytest.raises(ProbeError, match=re.escape(f"no head 'forest'; choose from {', '.join(HEADS)}.")):
        head_class("forest")


def test_the_names_of_the_heads_cost_no_heavy_import():
    code = "import json, sys, probes.heads; print(json.dumps(sorted({'torch', 'numpy', 'sklearn'} & set(sys.modules))))"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert json.loads(done.stdout) == []

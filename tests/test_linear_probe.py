import numpy as np
import pytest
import torch
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_validate
from torch.nn.functional import normalize

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.fit import fit, settings_for
from probes.heads.linear import LinearProbe
from probes.pooling import Pooling
from probes.probe_file import load_probe, write_probe
from tests.ragged import planted, planted_arrays


def test_a_probe_learns_the_planted_direction_and_ranks_new_clips():
    arrays, labels = planted_arrays(clips=200)
    probe = LinearProbe(weight_decay=1e-3).fit(arrays, labels)
    new, truth = planted_arrays(clips=200, seed=1)
    assert roc_auc_score(truth, probe.decision_function(new)) > 0.9
    assert probe.score(new, truth) > 0.8


def test_scores_are_the_formula_of_the_specification():
    arrays, labels = planted_arrays()
    probe = LinearProbe(pool="lse", steps=5).fit(arrays, labels)
    for rows, score, frames in zip(arrays, probe.decision_function(arrays), probe.frame_scores(arrays), strict=True):
        z = normalize(torch.tensor(rows), dim=1) @ torch.tensor(probe.weight_) + probe.bias_
        np.testing.assert_allclose(frames, z, atol=1e-5)
        assert score == pytest.approx(float(torch.logsumexp(z, 0)), abs=1e-5)
    odds = probe.predict_proba(arrays)
    np.testing.assert_allclose(np.log(odds[:, 1] / odds[:, 0]), 2 * probe.decision_function(arrays), atol=1e-4)
    assert (probe.predict(arrays) == (odds[:, 1] > 0.5)).all()


def test_a_probe_works_in_cross_validation_and_grid_search():
    arrays, labels = planted_arrays(clips=40)
    found = cross_validate(LinearProbe(steps=15), arrays, labels, scoring=["roc_auc", "average_precision"], cv=3)
    assert found["test_roc_auc"].min() > 0.7
    search = GridSearchCV(LinearProbe(steps=5), {"pool": ["max", "mean"]}, scoring="roc_auc", cv=2)
    search.fit(arrays, labels)
    assert search.best_params_["pool"] in ("max", "mean")
    copy = clone(LinearProbe(pool="max", weight_decay=0.5))
    assert (copy.pool, copy.weight_decay) == ("max", 0.5)


def test_a_saved_probe_scores_as_before(tmp_path):
    arrays, labels = planted_arrays()
    probe = LinearProbe(pool="top:3", steps=8).fit(arrays, labels)
    probe.save(tmp_path / "new" / "probe.safetensors", {"train": {"manifest": "tiny"}})
    again = load_probe(tmp_path / "new" / "probe.safetensors")
    assert np.array_equal(again.decision_function(arrays), probe.decision_function(arrays))
    assert again.get_params() == probe.get_params()
    assert again.facts_["train"] == {"manifest": "tiny"}
    assert again.facts_["fit"]["solver"] == "lbfgs"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["probe.safetensors"]


def test_a_column_of_many_is_a_probe_of_its_own():
    train = planted()
    pools, settings = [Pooling("max"), Pooling("lse", 0.5)], settings_for("lbfgs", 7, 3)
    fitted = fit(train, pools=pools, weight_decays=[0.0, 0.1], settings=settings, class_weight="balanced")
    probe = LinearProbe.from_fitted(train, fitted, 3)
    assert (probe.pool, probe.weight_decay, probe.class_weight) == ("lse:0.5", 0.1, "balanced")
    assert (probe.steps, probe.patience) == (7, 3)
    np.testing.assert_array_equal(probe.weight_, fitted.theta[3, :-1])


def test_clips_that_do_not_fit_the_probe_are_refused():
    arrays, labels = planted_arrays()
    named = FeatureSet.from_arrays(arrays, labels, features=("logmel",))
    probe = LinearProbe(steps=3).fit(named)
    with pytest.raises(ProbeError, match=r"xlsr \(16 wide\), but the probe reads logmel \(16 wide\)"):
        probe.decision_function(FeatureSet.from_arrays(arrays, labels, features=("xlsr",)))
    with pytest.raises(ProbeError, match="Frames are 5 wide, logmel needs 16"):
        probe.decision_function([np.ones((3, 5))])
    with pytest.raises(ProbeError, match="Clip clip 0 has no frames"):
        probe.decision_function([np.ones((0, 16))])
    with pytest.raises(NotFittedError):
        LinearProbe().decision_function(arrays)
    with pytest.raises(ProbeError, match="need labels"):
        LinearProbe().fit(arrays)
    with pytest.raises(ProbeError, match="no solver 'sgd'"):
        LinearProbe(solver="sgd").fit(arrays, labels)


def test_a_file_that_is_no_probe_is_refused(tmp_path):
    with pytest.raises(ProbeError, match="does not exist"):
        load_probe(tmp_path / "none.safetensors")
    (tmp_path / "text").write_text("hello")
    with pytest.raises(ProbeError, match="is not a probe"):
        load_probe(tmp_path / "text")
    facts = {"parameters": {}, "features": ["a"], "widths": [4]}
    write_probe(tmp_path / "odd", "linear", {"weight": np.ones((1, 5))}, facts)
    with pytest.raises(ProbeError, match=r"weight \[1, 4\] and bias \[1\]; the file has \{'weight': \[1, 5\]\}"):
        load_probe(tmp_path / "odd")
    write_probe(tmp_path / "future", "quantum", {"weight": np.ones((1, 5))}, facts)
    with pytest.raises(ProbeError, match="head quantum"):
        load_probe(tmp_path / "future")
    with pytest.raises(ProbeError, match="cannot be written"):
        write_probe(tmp_path / "text" / "probe", "linear", {}, {})

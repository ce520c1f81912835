"""Early fusion: features side by side in one head. Late fusion: the scores of several trained heads."""

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize
from typer.testing import CliRunner

from avfeat.errors import ProbeError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import write_feature
from probes.cli import app
from probes.featureset import FeatureSet
from probes.heads.cosine import CosineScore
from probes.heads.fusion import LateFusion, choose
from probes.heads.linear import LinearProbe
from probes.heads.mlp import MlpProbe
from probes.probe_file import load_probe
from tests.ragged import planted_arrays

NAMES, WIDTHS = ("lips.v", "sound", "lips.a"), (8, 3, 8)


def three(clips=60, seed=0) -> FeatureSet:
    """Three features; each feature's frames have a scale of their own."""
    arrays, labels = planted_arrays(clips=clips, width=19, seed=seed, strength=2.0)
    scaled = [array * np.repeat([1, 1000, 0.01], WIDTHS).astype(np.float32) for array in arrays]
    return FeatureSet.from_arrays(scaled, labels, features=NAMES, widths=WIDTHS)


def two_probes(train):
    one = LinearProbe(weight_decay=1e-3, steps=30).fit(choose(train, ["sound", "lips.a"]))
    other = MlpProbe(sizes=(16, 8), epochs=4).fit(choose(train, ["lips.v"]))
    return one, other


def test_early_fusion_is_a_linear_probe_of_frames_whose_features_have_norm_1_each():
    train, test = three(), three(seed=1)
    fused = LinearProbe(weight_decay=1e-3).fit(train)
    for clip, score in enumerate(fused.decision_function(test)):
        frames = np.concatenate([normalize(part, dim=1) for part in test[clip].split(WIDTHS, 1)], 1)
        assert score == pytest.approx(np.log(np.exp(frames @ fused.weight_ + fused.bias_).sum()), abs=1e-4)
    areas = []
    for name in NAMES:
        alone = LinearProbe(weight_decay=1e-3).fit(choose(train, [name]))
        areas.append(roc_auc_score(test.labels, alone.decision_function(choose(test, [name]))))
    assert roc_auc_score(test.labels, fused.decision_function(test)) > max(areas)


def test_late_fusion_is_the_mean_of_logits_probabilities_or_standard_scores():
    train, test = three(), three(seed=1)
    probes = two_probes(train)
    scores = [probe.decision_function(choose(test, probe.features_)).astype(float) for probe in probes]
    learned = [probe.decision_function(choose(train, probe.features_)).astype(float) for probe in probes]
    wanted = {
        "logits": sum(scores) / 2,
        "probabilities": sum(1 / (1 + np.exp(-2 * s)) for s in scores) / 2,
        "standardised": sum((s - own.mean()) / own.std() for s, own in zip(scores, learned, strict=True)) / 2,
    }
    for rule, fused in wanted.items():
        head = LateFusion(probes, rule).fit(train)
        assert (head.features_, head.widths_) == (("sound", "lips.a", "lips.v"), (3, 8, 8))
        np.testing.assert_allclose(head.decision_function(test), fused, atol=1e-5)
        assert ((head.predict_proba(test)[:, 1] > 0.5) == head.predict(test)).all()
        frames = [probe.frame_scores(choose(test, probe.features_))[3] for probe in probes]
        if rule == "logits":
            np.testing.assert_allclose(head.frame_scores(test)[3], sum(frames) / 2, atol=1e-5)
    odds = LateFusion(probes, "probabilities").fit().predict_proba(test)
    np.testing.assert_allclose(odds[:, 1], wanted["probabilities"], atol=1e-6)


def test_a_probe_that_knows_real_clips_only_joins_with_its_own_line():
    train = three()
    pair = CosineScore().fit(choose(train, ["lips.v", "lips.a"]))
    other = two_probes(train)[0]
    fused = LateFusion([pair, other], "logits").fit()
    assert fused.line_ == pytest.approx(pair.line_ / 2)
    assert fused.unit_ == pytest.approx((pair.unit_ + 1) / 2)
    odds = LateFusion([pair, other], "probabilities").fit().predict_proba(train)
    each = [probe.predict_proba(choose(train, probe.features_)) for probe in (pair, other)]
    np.testing.assert_allclose(odds, sum(each) / 2, atol=1e-6)


def test_fused_probes_are_saved_as_one_with_what_each_file_said(tmp_path):
    train = three()
    for k, probe in enumerate(two_probes(train)):
        attributes = {name: {"rate_hz": 25.0, "made": name} for name in probe.features_}
        probe.save(tmp_path / f"{k}.safetensors", {"attributes": attributes})
    fused = LateFusion([load_probe(tmp_path / f"{k}.safetensors") for k in (0, 1)], "standardised").fit(train)
    fused.save(tmp_path / "fused.safetensors")
    again = load_probe(tmp_path / "fused.safetensors")
    np.testing.assert_array_equal(again.decision_function(train), fused.decision_function(train))
    assert {name: each["made"] for name, each in again.facts_["attributes"].items()} == {name: name for name in NAMES}
    assert clone(again).fit(train).decision_function(train) == pytest.approx(fused.decision_function(train))


def test_what_cannot_be_fused_is_refused():
    train = three()
    one, other = two_probes(train)
    with pytest.raises(ProbeError, match=r"two or more trained probes .* these are 1 probes"):
        LateFusion([one]).fit(train)
    with pytest.raises(ProbeError, match="2 probes and 'median'"):
        LateFusion([one, other], "median").fit(train)
    with pytest.raises(ProbeError, match="give one to fit"):
        LateFusion([one, other], "standardised").fit()
    with pytest.raises(ProbeError, match="Probe 0 gives all 1 clips one score"):
        LateFusion([one, other], "standardised").fit(train.select([0]))
    narrow = LinearProbe(steps=2).fit(
        FeatureSet.from_arrays([np.ones((2, 5)), -np.ones((2, 5))], [0, 1], features=("sound",))
    )
    with pytest.raises(ProbeError, match="reads sound 3 wide, another 5 wide"):
        LateFusion([one, narrow]).fit(train)


def test_the_command_fuses_files_and_standardises_over_stored_clips(tmp_path):
    train = three()
    paths = []
    for k, probe in enumerate(two_probes(train)):
        paths.append(tmp_path / f"{k}.safetensors")
        probe.save(paths[-1])
    rows = [Row(clip_id, f"{clip_id}.mp4", "val", int(train.labels[k])) for k, clip_id in enumerate(train.clip_ids)]
    manifest = Manifest.from_rows(rows, DatasetInfo("tiny"))
    for name, columns in zip(NAMES, train.columns, strict=True):
        clips = {clip_id: train[k][:, columns].numpy() for k, clip_id in enumerate(train.clip_ids)}
        write_feature(tmp_path / "store", manifest, name, clips, rate_hz=25.0, first_seconds=0.02, dtype="float32")
    out = tmp_path / "fused.safetensors"
    command = ["fuse", *map(str, paths), "-o", str(out), "--combine", "standardised"]
    refused = CliRunner().invoke(app, command)
    assert (refused.exit_code, out.exists()) == (1, False)
    assert "name --store and --over" in refused.output
    done = CliRunner().invoke(app, [*command, "--store", str(tmp_path / "store"), "--over", "tiny:val"])
    assert done.exit_code == 0, done.output
    assert "late-fusion of sound (3 wide) + lips.a (8 wide) + lips.v (8 wide)" in done.output
    by_hand = LateFusion([load_probe(path) for path in paths], "standardised").fit(train)
    np.testing.assert_allclose(load_probe(out).decision_function(train), by_hand.decision_function(train), atol=1e-6)

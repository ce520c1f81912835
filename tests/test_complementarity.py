"""Correlation of clip scores and late-fusion gain, against SciPy and against counting pairs."""

import numpy as np
import pytest
import scipy.stats
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from avfeat.errors import ProbeError
from probes.complementarity import complementarity


def pairs_right(scores, labels):
    """AUC as the share of (fake, real) pairs in the right order, ties counting half."""
    fakes = [score for score, label in zip(scores, labels, strict=True) if label]
    reals = [score for score, label in zip(scores, labels, strict=True) if not label]
    return sum((f > r) + 0.5 * (f == r) for f in fakes for r in reals) / len(fakes) / len(reals)


def made(clips=60, seed=0):
    random = np.random.default_rng(seed)
    labels = np.arange(clips) % 2
    strong = labels + 0.5 * random.standard_normal(clips)
    weak = 0.3 * labels + random.standard_normal(clips)
    other = 8 * (0.5 * labels + random.standard_normal(clips))
    return {"strong": strong, "weak": weak, "other": other}, labels


@pytest.mark.parametrize(("kind", "function"), [("pearson", "pearsonr"), ("spearman", "spearmanr")])
def test_correlations_are_scipys(kind, function):
    scores, labels = made()
    scores["tied"] = np.round(scores["weak"])
    found = complementarity(scores, labels, kind)
    for i, one in enumerate(scores.values()):
        for j, other in enumerate(scores.values()):
            assert found.correlation[i, j] == pytest.approx(getattr(scipy.stats, function)(one, other)[0], abs=1e-12)


@pytest.mark.parametrize("fusion", ["logits", "probabilities", "standardised"])
def test_gain_is_what_the_fused_scores_add_to_the_rows_own_auc(fusion):
    scores, labels = made()
    found = complementarity(scores, labels, fusion=fusion)
    as_fused = {
        "logits": lambda s: s,
        "probabilities": lambda s: 1 / (1 + np.exp(-2 * s)),
        "standardised": scipy.stats.zscore,
    }[fusion]
    for i, one in enumerate(scores):
        own = pairs_right(scores[one], labels)
        assert found.auc[i] == pytest.approx(own)
        for j, other in enumerate(scores):
            fused = pairs_right(as_fused(scores[one]) + as_fused(scores[other]), labels)
            assert found.gain[i, j] == pytest.approx(0.0 if i == j else (fused - own) / own, abs=1e-12)
    assert found.names == ("strong", "weak", "other") and found.clips == 60


def test_the_weaker_of_two_gains_more_from_the_stronger():
    found = complementarity(*made())
    weak, strong = found.names.index("weak"), found.names.index("strong")
    assert found.gain[weak, strong] > 0.1 > found.gain[strong, weak]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 30))
def test_order_of_clips_and_of_probes_does_not_matter(seed, clips):
    scores, labels = made(clips, seed)
    assume(all(pairs_right(own, labels) > 0 for own in scores.values()))
    order = np.random.default_rng(seed).permutation(clips)
    found = complementarity(scores, labels)
    turned = complementarity({name: scores[name][order] for name in reversed(scores)}, labels[order])
    for name in ("correlation", "gain"):
        assert np.allclose(getattr(found, name), getattr(turned, name)[::-1, ::-1])
    assert np.allclose(found.correlation, found.correlation.T) and np.allclose(np.diag(found.correlation), 1)


def test_what_cannot_be_compared_is_refused_with_its_name():
    scores, labels = made()
    with pytest.raises(ProbeError, match="flat gives all 60 clips the same score"):
        complementarity(scores | {"flat": np.ones(60)}, labels)
    with pytest.raises(ProbeError, match="at least two probes"):
        complementarity({"strong": scores["strong"]}, labels)
    with pytest.raises(ProbeError, match="wrong has an AUC of 0"):
        complementarity(scores | {"wrong": -labels}, labels)
    with pytest.raises(ProbeError, match="pearson or spearman"):
        complementarity(scores, labels, "kendall")
    with pytest.raises(ProbeError, match="do not fit"):
        complementarity(scores | {"short": np.arange(59.0)}, labels)

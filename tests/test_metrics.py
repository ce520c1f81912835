import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from avfeat.errors import NotFiniteError, ProbeError
from probes.intervals import draws, measure
from probes.metrics import Ranking, area, average_precision, equal_error_rate, sensitivity

SOME = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 1)), min_size=2, max_size=40).filter(
    lambda pairs: len({label for _, label in pairs}) == 2
)


@settings(max_examples=100, deadline=None)
@given(pairs=SOME, data=st.data())
def test_metrics_equal_scikit_learn_with_ties_and_weights(pairs, data):
    scores, labels = map(np.array, zip(*pairs, strict=True))
    weights = np.array(data.draw(st.lists(st.integers(0, 4), min_size=len(labels), max_size=len(labels))))
    curve = Ranking(scores, labels).curve(np.stack([np.ones(len(labels)), weights]))
    assert area(curve)[0] == pytest.approx(roc_auc_score(labels, scores))
    assert average_precision(curve)[0] == pytest.approx(average_precision_score(labels, scores))
    if weights[labels == 1].any() and weights[labels == 0].any():
        assert area(curve)[1] == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
        expected = average_precision_score(labels, scores, sample_weight=weights)
        assert average_precision(curve)[1] == pytest.approx(expected)
    else:
        assert np.isnan(area(curve)[1])
        assert np.isnan(average_precision(curve)[1])
        assert np.isnan(equal_error_rate(curve)[1])


@settings(max_examples=100, deadline=None)
@given(pairs=SOME)
def test_equal_error_rate_is_where_the_two_error_curves_cross(pairs):
    scores, labels = map(np.array, zip(*pairs, strict=True))
    alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    along = np.arange(len(alarms))
    crossing = brentq(lambda t: interp1d(along, alarms)(t) - 1 + interp1d(along, hits)(t), 0, len(alarms) - 1)
    assert equal_error_rate(Ranking(scores, labels).curve())[0] == pytest.approx(interp1d(along, alarms)(crossing))


@settings(max_examples=60, deadline=None)
@given(pairs=SOME, allowed=st.sampled_from([0.0, 0.01, 0.1, 0.5, 1.0]))
def test_true_positive_rate_at_a_false_positive_rate(pairs, allowed):
    scores, labels = map(np.array, zip(*pairs, strict=True))
    alarms, hits, _ = roc_curve(labels, scores, drop_intermediate=False)
    assert sensitivity(Ranking(scores, labels).curve(), allowed)[0] == pytest.approx(hits[alarms <= allowed].max())


def test_four_clips_by_hand():
    found = measure([3.0, 2.0, 1.0, 0.0], [1, 0, 1, 0], replicates=10)
    assert found["auc"].value == 0.75
    assert found["ap"].value == pytest.approx((1 + 2 / 3) / 2)
    assert found["eer"].value == 0.5


def test_an_interval_holds_what_drawing_clips_anew_by_a_plain_loop_gives():
    rng = np.random.default_rng(3)
    labels = rng.integers(0, 2, 300)
    scores = rng.normal(size=300) + labels
    found = measure(scores, labels, replicates=2000)["auc"]
    plain = []
    for _ in range(600):
        chosen = rng.integers(0, 300, 300)
        plain.append(roc_auc_score(labels[chosen], scores[chosen]))
    assert found.value == pytest.approx(roc_auc_score(labels, scores))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), abs=0.012)


def test_drawing_speakers_draws_all_of_their_clips_together():
    groups = ["a", "a", "b", None, None]
    for block in draws(5, groups, 50, seed=1):
        assert (block[:, 0] == block[:, 1]).all()
        assert (block[:, 0] + block[:, 2] + block[:, 3] + block[:, 4] == 4).all()
        assert (block[:, 3] != block[:, 4]).any()


def test_clips_of_few_speakers_give_a_wider_interval():
    rng = np.random.default_rng(0)
    speakers = np.repeat(np.arange(20), 25)
    labels = rng.integers(0, 2, 500)
    scores = labels * rng.normal(1, 1, 20)[speakers] + rng.normal(size=500) * 0.3
    by_clip = measure(scores, labels)["auc"]
    by_speaker = measure(scores, labels, groups=[f"s{k}" for k in speakers])["auc"]
    assert by_speaker.high - by_speaker.low > 1.5 * (by_clip.high - by_clip.low)


def test_the_same_seed_gives_the_same_interval():
    scores, labels = np.arange(40.0), np.arange(40) % 2
    assert measure(scores, labels, seed=7) == measure(scores, labels, seed=7)
    assert measure(scores, labels, seed=7) != measure(scores, labels, seed=8)


def test_a_thousand_replicates_of_five_thousand_clips_take_seconds_not_minutes():
    rng = np.random.default_rng(0)
    start = time.process_time()
    measure(rng.normal(size=5000), rng.integers(0, 2, 5000))
    assert time.process_time() - start < 10


def test_what_cannot_be_ranked_is_refused():
    with pytest.raises(ProbeError, match="both needed"):
        measure([1.0, 2.0], [1, 1])
    with pytest.raises(ProbeError, match="do not fit"):
        measure([1.0, 2.0], [1, 0, 1])
    with pytest.raises(ProbeError, match="labelled 0"):
        measure([1.0, 2.0], [1, -1])
    with pytest.raises(NotFiniteError, match="Score 1"):
        measure([1.0, np.nan], [1, 0])
    with pytest.raises(ProbeError, match="no metric 'f1'; choose from auc, ap, eer, tpr@X"):
        measure([1.0, 2.0], [1, 0], ["f1"])

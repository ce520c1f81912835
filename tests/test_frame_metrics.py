"""Localization, comparison and calibration against slow plain versions."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from sklearn.calibration import calibration_curve
from sklearn.metrics import log_loss, roc_auc_score

from avfeat.errors import ProbeError
from probes.calibration import best_temperature, probabilities, reliability
from probes.compare import delong
from probes.localization import (
    OVERLAPS,
    Track,
    average_recall,
    frame_auc,
    localization_ap,
    overlaps,
    proposals,
)


def test_a_frame_is_fake_when_its_centre_lies_in_a_segment():
    track = Track(np.zeros(5, np.float32), [(0.06, 0.10), (0.17, 9.0)])
    assert track.labels().tolist() == [0, 1, 0, 0, 1]


def test_frame_auc_over_all_frames_and_over_clips():
    rng = np.random.default_rng(0)
    tracks = [Track(rng.normal(size=50).astype(np.float32) + shift, [(0.4, 1.2)]) for shift in (0, 3, -2)]
    tracks.append(Track(rng.normal(size=10).astype(np.float32), [(0, 1)]))
    labels = [track.labels() for track in tracks]
    micro, macro = frame_auc(tracks)
    assert micro == pytest.approx(roc_auc_score(np.concatenate(labels), np.concatenate([t.scores for t in tracks])))
    own = [roc_auc_score(label, track.scores) for label, track in zip(labels[:3], tracks, strict=False)]
    assert macro == pytest.approx(np.mean(own))
    with pytest.raises(ProbeError, match="all 10 are of one kind"):
        frame_auc(tracks[3:])


@given(scores=st.lists(st.sampled_from([-2.0, -0.4, 0.0, 0.3, 1.5]), min_size=1, max_size=25))
def test_proposals_are_the_runs_above_each_threshold_once(scores):
    track = Track(np.array(scores, np.float32), [])
    sure = 1 / (1 + np.exp(-2 * np.array(scores, np.float32).astype(float)))
    expected = {}
    for threshold in (0.25, 0.5, 0.75):
        start = None
        for k, value in enumerate([*sure, -1.0]):
            if value >= threshold and start is None:
                start = k
            elif value < threshold and start is not None:
                margin = max(1, math.ceil((k - start) / 4))
                around = [sure[j] if 0 <= j < len(sure) else 0.5 for j in range(start - margin, k + margin)]
                inside = around[margin:-margin]
                expected[(start, k)] = np.mean(inside) - np.mean(around[:margin] + around[-margin:])
                start = None
    found = proposals(track, (0.25, 0.5, 0.75))
    assert (np.diff(found[:, 2]) <= 1e-12).all()
    got = {(round(a / 0.04), round(b / 0.04)): value for a, b, value in found}
    assert got == pytest.approx(expected)
    assert len(got) == len(found)


def test_overlap_of_two_stretches_by_hand():
    found = np.array([[0.0, 2.0, 0.9], [5.0, 6.0, 0.5]])
    np.testing.assert_allclose(overlaps(found, [(1.0, 3.0), (0.0, 2.0)]), [[1 / 3, 1.0], [0.0, 0.0]])


def plain_ap(found, truth, overlap):
    """Plain lists: sort, match, precision at each new recall made monotone."""
    listed = sorted(((-sure, clip, k) for clip, own in enumerate(found) for k, (_, _, sure) in enumerate(own)))
    taken, hits, points = set(), 0, []
    for rank, (_, clip, k) in enumerate(listed, 1):
        start, end, _ = found[clip][k]
        best, which = -1.0, None
        for number, (a, b) in enumerate(truth[clip]):
            if (clip, number) in taken:
                continue
            common = max(0.0, min(end, b) - max(start, a))
            share = common / (end - start + b - a - common)
            if share > best:
                best, which = share, number
        if which is not None and best >= overlap:
            taken.add((clip, which))
            hits += 1
            points.append((hits, rank))
    total = sum(map(len, truth))
    return sum(max(h / r for h, r in points[k:]) for k in range(len(points))) / total


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), overlap=st.sampled_from([0.3, 0.5, 0.75]))
def test_ap_at_temporal_iou_equals_a_plain_loop(seed, overlap):
    rng = np.random.default_rng(seed)
    tracks, found = [], []
    for _ in range(4):
        starts = np.sort(rng.uniform(0, 8, rng.integers(0, 3)))
        tracks.append(Track(np.zeros(1, np.float32), [(s, s + rng.uniform(0.3, 1.5)) for s in starts]))
        own = np.column_stack([rng.uniform(0, 8, 6), np.zeros(6), -np.sort(-rng.permutation(600)[:6] / 600)])
        own[:, 1] = own[:, 0] + rng.uniform(0.3, 1.5, 6)
        found.append(own)
    found = [own + np.array([0, 0, 1e-4 * k]) for k, own in enumerate(found)]
    truth = [track.segments for track in tracks]
    if not any(truth):
        with pytest.raises(ProbeError, match="there are none"):
            localization_ap(tracks, overlap, found)
        return
    assert localization_ap(tracks, overlap, found) == pytest.approx(plain_ap(found, truth, overlap))


def test_perfect_frame_scores_localize_perfectly_and_blind_ones_do_not():
    sharp = np.full(100, -5, np.float32)
    sharp[25:50] = 5
    good = Track(sharp, [(1.0, 2.0)])
    real = Track(np.full(60, -5, np.float32), [])
    assert localization_ap([good, real], 0.95) == 1.0
    assert average_recall([good, real], 1) == 1.0
    blind = Track(np.full(100, 0.1, np.float32), [(1.0, 2.0)])
    assert localization_ap([blind], 0.5) == 0.0
    assert average_recall([blind], 10) == 0.0


def test_average_recall_is_the_mean_over_overlaps():
    track = Track(np.zeros(1, np.float32), [(0.0, 1.0)])
    found = [np.array([[0.0, 0.72, 0.9], [0.0, 1.0, 0.8]])]
    assert average_recall([track], 1, found) == pytest.approx(sum(o <= 0.72 for o in OVERLAPS) / len(OVERLAPS))
    assert average_recall([track], 2, found) == 1.0


def test_delong_agrees_with_the_plain_double_loop_and_with_the_bootstrap():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 200)
    shared = rng.normal(size=200)
    first = np.round(labels * 1.2 + shared + 0.5 * rng.normal(size=200), 1)
    second = np.round(labels * 0.8 + shared + 0.5 * rng.normal(size=200), 1)
    found = delong(first, second, labels)
    assert found.first == pytest.approx(roc_auc_score(labels, first))
    assert found.difference == pytest.approx(found.first - roc_auc_score(labels, second))

    def kernel(scores):
        wins = scores[labels == 1][:, None] - scores[labels == 0][None]
        return (wins > 0) + 0.5 * (wins == 0)

    gap = kernel(first) - kernel(second)
    fakes, reals = gap.shape
    variance = gap.mean(1).var(ddof=1) / fakes + gap.mean(0).var(ddof=1) / reals
    assert found.z == pytest.approx(gap.mean() / np.sqrt(variance))
    drawn = []
    for _ in range(800):
        drawn.append(gap[rng.integers(0, fakes, fakes)][:, rng.integers(0, reals, reals)].mean())
    assert (found.high - found.low) / 3.92 == pytest.approx(np.std(drawn), rel=0.15)


def test_a_probe_is_no_different_from_itself_and_surely_from_its_opposite():
    labels = np.arange(40) % 2
    scores = np.random.default_rng(0).normal(size=40) + 2 * labels
    assert delong(scores, scores, labels).p == 1.0
    assert delong(scores, -scores, labels).p < 1e-6


def test_reliability_bins_agree_with_scikit_learn():
    rng = np.random.default_rng(0)
    scores = rng.normal(size=500)
    labels = (rng.uniform(size=500) < probabilities(1.7 * scores)).astype(int)
    found = reliability(scores, labels, bins=8)
    share, mean = calibration_curve(labels, probabilities(scores), n_bins=8)
    filled = found.counts > 0
    np.testing.assert_allclose(found.found[filled], share)
    np.testing.assert_allclose(found.stated[filled], mean)
    expected = np.abs(mean - share) @ found.counts[filled] / 500
    assert found.error == pytest.approx(expected)


@pytest.mark.parametrize("scale", [0.01, 0.4, 1.0, 30.0])
def test_the_temperature_is_that_of_a_search_for_the_lowest_log_loss(scale):
    rng = np.random.default_rng(0)
    truth = rng.normal(size=400)
    labels = (rng.uniform(size=400) < probabilities(truth)).astype(int)
    scores = truth * scale
    plain = minimize_scalar(
        lambda t: log_loss(labels, probabilities(scores, np.exp(t))), bounds=(-8, 8), method="bounded"
    )
    assert np.log(best_temperature(scores, labels)) == pytest.approx(plain.x, abs=1e-3)


def test_scores_that_no_temperature_mends_are_refused():
    labels = np.array([0, 0, 1, 1])
    with pytest.raises(ProbeError, match="separate the clips entirely"):
        best_temperature([-2.0, -1.0, 1.0, 2.0], labels)
    with pytest.raises(ProbeError, match="no better than chance"):
        best_temperature([2.0, 1.0, -1.0, -2.0], labels)

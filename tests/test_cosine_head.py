import numpy as np
import pytest

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.heads.cosine import CosineScore


def test_the_score_is_the_mean_of_the_negated_cosines_and_zeros_have_none():
    straight, turned = np.array([[3, 0, 7, 0]]), np.array([[1, 0, 0, 5]])
    opposite, silent = np.array([[2, 1, -2, -1]]), np.array([[2, 1, 0, 0]])
    clips = [straight, np.concatenate([turned, opposite]), silent]
    head = CosineScore().fit(clips)
    np.testing.assert_allclose(head.decision_function(clips), [-1, 0.5, 0], atol=1e-6)
    np.testing.assert_allclose(head.frame_scores(clips)[1], [0, 1], atol=1e-6)
    np.testing.assert_allclose(head.set_params(pool="max").decision_function(clips), [-1, 1, 0], atol=1e-6)


def test_no_score_depends_on_the_clips_it_was_fitted_with():
    rng = np.random.default_rng(0)
    clips = [rng.normal(size=(n, 8)).astype(np.float32) for n in (3, 9, 1, 6)]
    first, second = CosineScore().fit(clips[:1]), CosineScore().fit(clips[1:])
    np.testing.assert_array_equal(first.decision_function(clips), second.decision_function(clips))


def test_two_features_of_one_width_are_needed():
    clips = [np.ones((2, 7))]
    with pytest.raises(ProbeError, match=r"a\.v is 4 wide and a\.a 3\."):
        CosineScore().fit(FeatureSet.from_arrays(clips, [0], features=("a.v", "a.a"), widths=(4, 3)))

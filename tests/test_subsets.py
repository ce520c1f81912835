import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.subsets import chosen, fraction
from tests.ragged import planted

LABELS = st.lists(st.integers(0, 1), min_size=2, max_size=60)
SHARES = st.floats(0.001, 1)


def names(count):
    return [f"clip/{k}" for k in range(count)]


@settings(max_examples=100, deadline=None)
@given(labels=LABELS, one=SHARES, other=SHARES, seed=st.integers(0, 5))
def test_a_smaller_share_lies_within_a_larger_one_and_keeps_both_classes(labels, one, other, seed):
    small, large = sorted((one, other))
    few, many = (chosen(labels, names(len(labels)), share, seed) for share in (small, large))
    assert set(few) <= set(many)
    for label in set(labels):
        own = [clip for clip in few if labels[clip] == label]
        assert len(own) == max(1, round(small * labels.count(label)))


def test_the_frames_ids_and_labels_are_those_of_the_clips_taken():
    data = planted(clips=40)
    part = fraction(data, 0.25, 7)
    assert len(part) == 10 and part.labels.tolist().count(1) == 5
    for clip, clip_id in enumerate(part.clip_ids):
        whole = data.clip_ids.index(clip_id)
        assert part.labels[clip] == data.labels[whole]
        assert (part[clip] == data[whole]).all()
    assert [data.clip_ids.index(clip_id) for clip_id in part.clip_ids] == sorted(
        map(data.clip_ids.index, part.clip_ids)
    )
    assert fraction(data, 1, 7) is data


def test_seeds_choose_otherwise_and_the_order_of_the_clips_does_not_matter():
    labels = [k % 2 for k in range(200)]
    first, second = chosen(labels, names(200), 0.3, 0), chosen(labels, names(200), 0.3, 1)
    assert first != second
    mixed = np.random.default_rng(0).permutation(200)
    again = chosen([labels[k] for k in mixed], [names(200)[k] for k in mixed], 0.3, 0)
    assert {int(mixed[k]) for k in again} == set(first)


def test_clips_that_are_added_move_few_of_those_chosen():
    labels = [k % 2 for k in range(220)]
    before, after = set(chosen(labels[:200], names(200), 0.5, 3)), set(chosen(labels, names(220), 0.5, 3))
    assert len(before - after) <= 10


@pytest.mark.parametrize("share", [0, -0.1, 1.01, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ProbeError, match="above 0 and at most 1"):
        fraction(planted(clips=4), share, 0)


def test_clips_of_one_kind_have_shares_too():
    real = FeatureSet.from_arrays([np.ones((2, 3))] * 10, [0] * 10)
    assert len(fraction(real, 0.3, 0)) == 3

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from torch.nn.functional import normalize

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.heads import ntp
from probes.heads.ntp import NtpProbe
from probes.heads.ntp_network import CausalTransformer

SMALL = {"width": 32, "blocks": 2, "heads": 2, "warmup": 10}


def spirals(lengths, seed=0, noise=0.05, jumps=()) -> FeatureSet:
    """Frames that turn at one speed, so that two tell the third; clips in ``jumps`` skip a step in the middle."""
    rng = np.random.default_rng(seed)
    clips = []
    for number, count in enumerate(lengths):
        steps = np.arange(count) + (np.arange(count) >= count // 2) * (4 if number in jumps else 0)
        angles = rng.uniform(0, 2 * np.pi) + 0.7 * steps[:, None] * np.array([1, 2])
        frames = np.concatenate([np.cos(angles), np.sin(angles)], 1) + noise * rng.normal(size=(count, 4))
        clips.append((frames * rng.uniform(1, 30)).astype(np.float32))
    return FeatureSet.from_arrays(clips, [int(k in jumps) for k in range(len(clips))])


def drawn(blocks):
    """A network that reads 6 numbers and whose last layer is not zero, as a fresh one's is."""
    torch.manual_seed(0)
    network = CausalTransformer(6, 16, blocks, 2)
    torch.nn.init.normal_(network.write.weight)
    return network.eval()


def test_a_frame_changes_the_predictions_of_later_frames_only():
    network = drawn(blocks=2)
    frames = torch.randn(1, 12, 6)
    changed = frames.clone()
    changed[0, 7] += 1.0
    with torch.no_grad():
        before, after = network(frames)[0], network(changed)[0]
    torch.testing.assert_close(after[:8], before[:8], atol=1e-6, rtol=0)
    assert ((after[8:] - before[8:]).abs().amax(1) > 1e-4).all()


def test_the_network_knows_how_far_back_a_frame_is():
    network = drawn(blocks=1)
    frames = torch.randn(1, 6, 6)
    swapped = frames[:, [1, 0, 2, 3, 4, 5]]
    with torch.no_grad():
        assert float((network(frames)[0, 5] - network(swapped)[0, 5]).abs().max()) > 1e-4


def test_frame_scores_are_the_squared_errors_of_normalised_frames_of_each_feature():
    data = spirals([9, 1, 5])
    two = FeatureSet.from_frames(data.frames, data.offsets, data.labels.numpy(), features=("a", "b"), widths=(3, 1))
    head = NtpProbe(**SMALL, epochs=1).fit(two)
    frames = torch.cat([normalize(part, dim=1) for part in two[0].split((3, 1), 1)], 1)
    with torch.no_grad():
        errors = (head.network_(frames[None])[0] - frames).square().sum(1)
    np.testing.assert_allclose(head.frame_scores(two)[0], errors, atol=1e-5)
    assert head.decision_function(two)[0] == pytest.approx(float(errors.logsumexp(0)), abs=1e-5)


def test_the_loss_begins_at_1_for_each_feature_whatever_their_widths():
    data = spirals([9, 20, 5])
    for widths in [(4,), (3, 1)]:
        names = ("a", "b")[: len(widths)]
        named = FeatureSet.from_frames(data.frames, data.offsets, data.labels.numpy(), features=names, widths=widths)
        head = NtpProbe(**SMALL, epochs=1, learning_rate=0.0).fit(named, validation=named)
        assert head.facts_["loss"] == pytest.approx(len(widths))


def test_a_jump_is_surprising_where_it_happens():
    test = spirals([30] * 20, seed=1, jumps=range(0, 20, 2))
    head = NtpProbe(**SMALL, learning_rate=3e-3, epochs=25, batch=256, pool="max")
    head.fit(spirals([30] * 40, seed=2), validation=spirals([30] * 8, seed=3))
    assert roc_auc_score(test.labels, head.decision_function(test)) > 0.9
    assert np.median([frames[2:].argmax() + 2 for frames in head.frame_scores(test)[::2]]) == 15
    assert head.facts_["loss"] < 0.3


def test_the_learning_rate_rises_over_the_first_steps():
    data = spirals([8] * 10)
    torch.manual_seed(43)
    start = NtpProbe(**SMALL).make_network(data.widths).read.weight.detach()
    moved = {}
    for steps in (1, 4, 10_000):  # an epoch is one step here, and Adam moves about a full rate at each of them
        head = NtpProbe(**{**SMALL, "warmup": steps}, epochs=8).fit(data)
        moved[steps] = float((head.network_.read.weight - start).abs().max())
    assert moved[10_000] < moved[1] / 100
    # Rates of 1/4, 2/4, 3/4 and five times 1 are 6.5; without the rise they would be 2, without warm-up 8.
    assert moved[4] / moved[1] == pytest.approx(6.5 / 8, abs=0.1)


@given(first=st.integers(0, 50), length=st.integers(1, 200), half=st.integers(1, 20))
def test_each_frame_of_a_long_clip_is_scored_once_after_half_a_context_or_all_before(first, length, half):
    pieces = ntp.cut(first, first + length, 2 * half)
    assert [row for piece in pieces for row in range(piece.scored, piece.stop)] == list(range(first, first + length))
    for piece in pieces:
        assert first <= piece.start <= piece.scored < piece.stop <= piece.start + 2 * half
        assert piece.start == first or piece.scored - piece.start == half


def test_a_clip_longer_than_the_context_is_scored_from_overlapping_pieces():
    data = spirals([40])
    head = NtpProbe(**SMALL, context=16, epochs=1).fit(data)
    frames = normalize(data[0], dim=1)
    with torch.no_grad():
        errors = [
            (head.network_(frames[None, s:e])[0] - frames[s:e]).square().sum(1)
            for s, e in [(0, 16), (8, 24), (16, 32), (24, 40)]
        ]
    wanted = torch.cat([errors[0], *(each[8:] for each in errors[1:])])
    np.testing.assert_allclose(head.frame_scores(data)[0], wanted, atol=1e-5)


def test_settings_that_do_not_fit_are_refused():
    data = spirals([5, 6])
    with pytest.raises(ProbeError, match="30 cannot be cut into 4 heads"):
        NtpProbe(width=30, heads=4).fit(data)
    with pytest.raises(ProbeError, match="context is 7 frames"):
        NtpProbe(context=7).fit(data)

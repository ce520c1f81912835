import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn
from torch.nn.functional import cross_entropy, normalize
from torch.utils.data import DataLoader

import probes.heads.mlp
from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.heads.mlp import MlpProbe
from probes.objective import clip_losses
from tests.ragged import planted, planted_arrays

SIZES = (16, 12, 8)


class PlainNetwork(nn.Module):
    """The official form for two features: two projections side by side, then the layers, one clip at a time."""

    def __init__(self, width):
        super().__init__()
        self.visual_proj = nn.Linear(width, SIZES[0] // 2)
        self.audio_proj = nn.Linear(width, SIZES[0] // 2)
        self.mlp = nn.Sequential(
            *(nn.Linear(16, 12), nn.LayerNorm(12), nn.ReLU(), nn.Linear(12, 8), nn.LayerNorm(8), nn.ReLU()),
            nn.Linear(8, 1),
        )

    def forward(self, rows):
        video, audio = (normalize(part, dim=1) for part in rows.split(16, 1))
        frames = self.mlp(torch.cat([self.visual_proj(video), self.audio_proj(audio)], 1))
        return torch.logsumexp(frames[:, 0], 0)

    def loss(self, rows, label):
        score = self(rows)
        return cross_entropy(torch.stack([-score, score])[None], torch.tensor([label]))


def two_features(**settings):
    arrays, labels = planted_arrays(width=32, **settings)
    return FeatureSet.from_arrays(arrays, labels, features=("lips.v", "lips.a"), widths=(16, 16))


def test_training_takes_the_steps_of_a_plain_loop_with_autograd():
    train, val = two_features(clips=24), two_features(clips=8, seed=1)
    torch.manual_seed(43)
    plain = PlainNetwork(16)
    optimiser = torch.optim.Adam(plain.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        for clip in DataLoader(range(len(train)), batch_size=None, shuffle=True):
            optimiser.zero_grad()
            plain.loss(train[clip], int(train.labels[clip])).backward()
            optimiser.step()
        with torch.no_grad():
            clips = DataLoader(range(len(val)), batch_size=None)
            losses.append(np.mean([float(plain.loss(val[k], int(val.labels[k]))) for k in clips]))
    before = torch.get_rng_state()
    probe = MlpProbe(sizes=SIZES, epochs=3).fit(train, validation=val)
    np.testing.assert_allclose(probe.facts_["losses"], losses, atol=1e-5)
    for ours, theirs in zip(probe.network_.state_dict().values(), plain.state_dict().values(), strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    with torch.no_grad():
        scores = [float(plain(val[clip])) for clip in range(len(val))]
    np.testing.assert_allclose(probe.decision_function(val), scores, atol=1e-5)
    assert torch.equal(before, torch.get_rng_state())


def test_it_learns_what_no_line_can_tell():
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 2
    # A real frame's two first numbers have equal signs, a fake one's have not.
    signs = [rng.choice([-1, 1], size=6) for _ in labels]
    clips = [
        np.stack([sign, sign * (1 - 2 * label), *rng.normal(size=(4, 6)) * 0.1], 1)
        for sign, label in zip(signs, labels, strict=True)
    ]
    probe = MlpProbe(sizes=(32, 16), epochs=25, pool="mean").fit(clips[:60], labels[:60])
    assert roc_auc_score(labels[60:], probe.decision_function(clips[60:])) > 0.95


def test_the_best_epoch_on_validation_is_kept_and_ends_the_fit():
    val = planted(seed=1)
    probe = MlpProbe(sizes=SIZES, epochs=60, patience=3, learning_rate=0.05).fit(planted(), validation=val)
    losses = probe.facts_["losses"]
    loss = clip_losses(torch.from_numpy(probe.decision_function(val))[:, None], val.labels).mean()
    assert float(loss) == pytest.approx(probe.facts_["loss"], abs=1e-5)
    assert probe.facts_["loss"] == min(losses)
    assert probe.facts_["stopped"] == "patience"
    assert len(losses) == probe.facts_["best_step"] + 3


def test_a_long_clip_in_blocks_gives_the_same_steps(monkeypatch):
    train, val = planted(clips=10, longest=40), planted(clips=6, seed=1)
    whole = MlpProbe(sizes=SIZES, epochs=2).fit(train, validation=val)
    monkeypatch.setattr(probes.heads.mlp, "BLOCK_ROWS", 7)
    cut = MlpProbe(sizes=SIZES, epochs=2).fit(train, validation=val)
    np.testing.assert_allclose(cut.decision_function(val), whole.decision_function(val), atol=1e-5)


def test_class_weights_and_settings_that_do_not_fit():
    arrays, labels = planted_arrays(clips=12)
    with pytest.raises(ProbeError, match="Class weight 'half'"):
        MlpProbe(class_weight="half").fit(arrays, labels)
    with pytest.raises(ProbeError, match="9 cannot be shared out to 2 features"):
        MlpProbe(sizes=(9, 4)).fit(two_features(clips=4))
    with pytest.raises(ProbeError, match="all 6 clips are real"):
        MlpProbe().fit(arrays[::2], labels[::2])
    balanced = MlpProbe(sizes=SIZES, epochs=2, class_weight="balanced").fit(arrays[:9], labels[:9])
    plain = MlpProbe(sizes=SIZES, epochs=2).fit(arrays[:9], labels[:9])
    assert not np.array_equal(balanced.decision_function(arrays), plain.decision_function(arrays))

"""Alignment over offsets: the quick form against windows that are really made, and against the official loop."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import normalize

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.heads import sync_offsets
from probes.heads.network import FrameNetwork
from probes.heads.sync import SyncProbe
from probes.heads.sync_by_hand import Room
from probes.heads.sync_offsets import Batch, batches, learn, loss

WIDTHS = (10, 6)
SIZES = (16, 12, 8)
NAMES = ("lips.v", "lips.a")


def pairs(lengths, seed=0, labels=None, dtype=np.float32) -> FeatureSet:
    """Clips whose audio of one moment is a fixed map of the video, plus noise."""
    rng = np.random.default_rng(seed)
    mix = np.random.default_rng(99).normal(size=WIDTHS)
    clips = []
    for count in lengths:
        video = rng.normal(size=(count, WIDTHS[0]))
        audio = video @ mix + 0.3 * rng.normal(size=(count, WIDTHS[1]))
        clips.append((np.concatenate([video, audio], 1) * rng.uniform(1, 30)).astype(dtype))
    truth = [0] * len(clips) if labels is None else labels
    return FeatureSet.from_arrays(clips, truth, features=NAMES, widths=WIDTHS)


def plain_windows(clip, tau):
    """Video [frames, width] and windows [frames, 2 tau + 1, width] of one clip, with zeros beyond its ends."""
    video, audio = (normalize(part, dim=1) for part in clip.float().split(WIDTHS, 1))
    beyond = torch.zeros(tau, WIDTHS[1])
    padded = torch.cat([beyond, audio, beyond])
    return video, torch.stack([padded[t : t + 2 * tau + 1] for t in range(len(clip))])


def plain_loss(network, video, windows):
    """The official loss: the video frame repeated beside each frame of its window."""
    outputs = network([video[:, None].expand(-1, windows.shape[1], -1), windows])
    return -outputs.log_softmax(1)[:, windows.shape[1] // 2].sum()


def check(network, lengths, tau, size, dtype, tolerance, learn=learn, loss=loss):
    data, room = pairs(lengths), Room()
    windows = [plain_windows(data[k], tau) for k in range(len(data))]
    video, audio = (torch.cat(each).to(dtype) for each in zip(*windows, strict=True))
    at = 0
    for batch in batches(data, range(len(data)), tau, size, None, room):
        frames = slice(at, at + len(batch.video))
        at = frames.stop
        network.zero_grad()
        wanted = plain_loss(network, video[frames], audio[frames])
        wanted.backward()
        gradients = [parameter.grad.clone() for parameter in network.parameters()]
        network.zero_grad()
        exact = Batch(batch.video.to(dtype), batch.audio.to(dtype), batch.partners)
        found = learn(network, exact, room)
        assert found == pytest.approx(wanted.item(), rel=tolerance)
        with torch.inference_mode():
            assert loss(network, exact, room) == pytest.approx(wanted.item(), rel=tolerance)
        scale = max(float(each.abs().max()) for each in gradients)
        for parameter, gradient in zip(network.parameters(), gradients, strict=True):
            torch.testing.assert_close(parameter.grad, gradient, atol=tolerance * scale, rtol=0)
    assert at == len(data.frames)


def drawn(sizes):
    """A network all of whose numbers are drawn: fresh ones have γ = 1 and β = 0, which hides mistakes."""
    torch.manual_seed(1)
    network = FrameNetwork(WIDTHS, sizes)
    for parameter in network.mlp.parameters():
        if parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.5)
    return network


@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=5), tau=st.integers(0, 6), size=st.integers(1, 90))
def test_loss_and_gradient_are_those_of_windows_that_are_really_made(lengths, tau, size):
    # Frames are float32 when they reach the network, so even in float64 the inputs agree to 1e-7 only.
    check(drawn(SIZES).double(), lengths, tau, size, torch.float64, 1e-6)
    as_on_a_gpu = [
        lambda network, batch, room, run=run: run(network, batch)
        for run in (sync_offsets.learn_by_autograd, sync_offsets.loss_by_autograd)
    ]
    check(drawn(SIZES).double(), lengths, tau, size, torch.float64, 1e-6, *as_on_a_gpu)


def test_loss_and_gradient_are_the_same_in_single_precision_with_31_offsets():
    torch.manual_seed(1)
    # A sum that is 0 but for its rounding may fall on either side of a ReLU; here none does.
    check(FrameNetwork(WIDTHS, (64, 32, 16)), [200, 1, 45, 130], 15, 256, torch.float32, 1e-5)


@pytest.mark.parametrize("threads", [1, 3])
def test_the_gradient_does_not_depend_on_how_the_frames_are_shared_out(threads, monkeypatch):
    monkeypatch.setattr(sync_offsets, "PAIRED_FRAMES", 7)
    monkeypatch.setattr(sync_offsets, "pieces", lambda device: threads)
    check(drawn(SIZES).double(), [50, 3, 20], 4, 64, torch.float64, 1e-6)


class Official(nn.Module):
    """The official network, by its names."""

    def __init__(self):
        super().__init__()
        self.visual_proj = nn.Linear(WIDTHS[0], SIZES[0] // 2)
        self.audio_proj = nn.Linear(WIDTHS[1], SIZES[0] // 2)
        self.mlp = nn.Sequential(
            *(nn.Linear(16, 12), nn.LayerNorm(12), nn.ReLU(), nn.Linear(12, 8), nn.LayerNorm(8), nn.ReLU()),
            nn.Linear(8, 1),
        )

    def forward(self, both):
        return self.mlp(torch.cat([self.visual_proj(both[0]), self.audio_proj(both[1])], -1)).squeeze(-1)


def test_training_follows_the_official_loop():
    train, val = pairs([30, 7, 41]), pairs([25, 12], seed=1)
    torch.manual_seed(43)
    network = Official()
    optimiser = torch.optim.Adam(network.parameters(), lr=0.02)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimiser, factor=0.1, patience=1)
    sets = []
    for data in (train, val):
        windows = [plain_windows(data[k], 3) for k in range(len(data))]
        sets.append([torch.cat(each).split(32) for each in zip(*windows, strict=True)])
    losses = []
    for _ in range(12):
        for video, windows in zip(*sets[0], strict=True):
            optimiser.zero_grad()
            plain_loss(network, video, windows).backward()
            optimiser.step()
        with torch.no_grad():
            total = sum(float(plain_loss(network, video, windows)) for video, windows in zip(*sets[1], strict=True))
        losses.append(total / 37)
        plateau.step(losses[-1])
    assert optimiser.param_groups[0]["lr"] < 0.02
    probe = SyncProbe(tau=3, sizes=SIZES, batch=32, learning_rate=0.02, decay_patience=1, epochs=12, patience=12)
    probe.fit(train, validation=val)
    np.testing.assert_allclose(probe.facts_["losses"], losses, rtol=1e-4)


def test_a_clip_with_its_sound_moved_scores_higher_than_the_clip_itself():
    probe = SyncProbe(tau=4, sizes=(64, 32), learning_rate=3e-3, batch=128, epochs=25)
    probe.fit(pairs([60] * 12), validation=pairs([40] * 40, seed=7))
    real = pairs([40] * 20, seed=5)
    video, audio = real.frames[:, : WIDTHS[0]], real.frames[:, WIDTHS[0] :]
    moved = FeatureSet.from_frames(torch.cat([video, audio.roll(2, 0)], 1), real.offsets, features=NAMES, widths=WIDTHS)
    assert (probe.decision_function(moved) > probe.decision_function(real)).mean() > 0.9
    assert probe.predict(moved).mean() > 0.8 > 0.3 > probe.predict(real).mean()


def test_the_pooling_is_chosen_when_scoring():
    data = pairs([9, 4, 30])
    probe = SyncProbe(tau=2, sizes=SIZES, epochs=2).fit(data)
    frames = probe.frame_scores(data)
    network = probe.network_
    for clip, scores in enumerate(frames):
        video, audio = (normalize(part, dim=1) for part in data[clip].split(WIDTHS, 1))
        np.testing.assert_allclose(scores, -network([video, audio]), atol=1e-5)
    plain = {"lse": lambda z: np.log(np.exp(z).sum()), "max": np.max, "mean": np.mean, "min": np.min}
    for pool, of in plain.items():
        probe.set_params(pool=pool)
        np.testing.assert_allclose(probe.decision_function(data), [of(z) for z in frames], atol=1e-5)


def test_video_comes_first_and_then_audio():
    data = pairs([9, 4])
    arrays = [data[k].numpy() for k in range(2)]
    probe = SyncProbe(tau=2, sizes=SIZES, epochs=1)
    assert probe.fit(arrays).features_ == ("video", "audio")
    assert probe.widths_ == (8, 8)
    for names in [("x.a", "x.v"), ("x.a@9", "other"), ("other", "x.video@3")]:
        with pytest.raises(ProbeError, match=f"name {names[1]} before {names[0]}"):
            probe.fit(FeatureSet.from_arrays(arrays, [0, 0], features=names, widths=WIDTHS))
    with pytest.raises(ProbeError, match="it was given 1: x"):
        probe.fit(FeatureSet.from_arrays(arrays, [0, 0], features=("x",)))
    with pytest.raises(ProbeError, match="these are 15 wide"):
        probe.fit([array[:, :15] for array in arrays])

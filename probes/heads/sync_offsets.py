"""The loss of audio-visual alignment over all offsets, from terms that are computed once for each frame.

For frame t with video v_t and audio a_s, s = t-τ … t+τ, zero vectors outside the clip, and the network's output f:

    loss = -Σ_t log softmax_s f(v_t, a_s) at s = t

The first hidden layer of f is a sum of a video term and an audio term (network.py). Both are computed once a frame and
added for the 2τ+1 pairs; windows of frames are never made. The gradient of the terms is gathered from all pairs, then
taken through the first layer once. On a processor sync_by_hand.py does it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from probes.cores import pieces, spread
from probes.featureset import FeatureSet
from probes.heads import sync_by_hand
from probes.heads.frames import Place, bounds, held, part
from probes.heads.network import FrameNetwork
from probes.heads.sync_by_hand import AUDIO, VIDEO, Room, cut

PAIRED_FRAMES = 32
"""Frames whose pairs are held at once: with 31 offsets and 512 numbers a pair 2 MB, about what a core's cache holds."""


@dataclass(frozen=True)
class Batch:
    """Frames in clip order with the audio around them.

    video: float32 [frames, width]; audio: float32 [rows, width], the last row zero.
    partners: int64 [frames, 2τ+1], the audio row for each offset; the last row where the clip has none.
    """

    video: Tensor
    audio: Tensor
    partners: Tensor


def batches(
    data: FeatureSet, clips: Sequence[int], tau: int, size: int, device: Place, room: Room | None = None
) -> Iterator[Batch]:
    """Yield the frames of these clips in order, ``size`` at a time; a clip may lie in several batches.

    room: where a batch is made, for use before the next step; without it each has its own.
    """
    planned = list(_plan(bounds(data, clips), size))
    for stretches in held(data, planned, lambda stretches: [_heard(*each, tau) for each in stretches]):
        yield _batch(data, stretches, tau, torch.device(device or data.device), room or Room())


def _plan(clips: Sequence[tuple[int, int]], size: int) -> Iterator[list[tuple[slice, tuple[int, int]]]]:
    """Yield the stretches of each batch, each with the bounds of its clip."""
    waiting: list[tuple[slice, tuple[int, int]]] = []
    room = size
    for first, last in clips:
        start = first
        while start < last:
            stop = min(last, start + room)
            waiting.append((slice(start, stop), (first, last)))
            room -= stop - start
            start = stop
            if room == 0:
                yield waiting
                waiting, room = [], size
    if waiting:
        yield waiting


def _heard(rows: slice, clip: tuple[int, int], tau: int) -> slice:
    """Return the rows whose audio is compared with the video of ``rows``."""
    return slice(max(clip[0], rows.start - tau), min(clip[1], rows.stop + tau))


def _batch(
    data: FeatureSet, stretches: Sequence[tuple[slice, tuple[int, int]]], tau: int, place: torch.device, room: Room
) -> Batch:
    partners, parts, seen, known = [], [], 0, 0
    offsets = torch.arange(-tau, tau + 1)
    for rows, (first, last) in stretches:
        heard = _heard(rows, (first, last), tau)
        wanted = torch.arange(rows.start, rows.stop)[:, None] + offsets
        outside = (wanted < first) | (wanted >= last)
        partners.append((wanted - heard.start + known).masked_fill_(outside, -1))
        parts += [(VIDEO, rows, seen), (AUDIO, heard, known)]
        seen += rows.stop - rows.start
        known += heard.stop - heard.start
    numbers = torch.cat(partners)
    numbers[numbers < 0] = known
    like, counts = torch.empty(0, device=place), {VIDEO: seen, AUDIO: known + 1}
    inputs = [room(like, (count, data.widths[feature]), "input", feature) for feature, count in counts.items()]
    inputs[AUDIO][-1] = 0

    def read(shared: Sequence[tuple[int, slice, int]]) -> None:
        for feature, rows, to in shared:
            inputs[feature][to : to + rows.stop - rows.start] = part(data, feature, rows, place)

    cores = pieces(place)
    spread(read, [parts[core::cores] for core in range(cores)])
    return Batch(inputs[VIDEO], inputs[AUDIO], numbers.to(place))


def loss(network: FrameNetwork, batch: Batch, room: Room | None = None) -> float:
    """Return the loss without a gradient; ``room`` saves time where there are more batches."""
    if batch.video.device.type == "cpu":
        inputs = batch.video, batch.audio
        return sync_by_hand.loss(network, inputs, batch.partners, _shares(batch), room or Room())
    return loss_by_autograd(network, batch)


def learn(network: FrameNetwork, batch: Batch, room: Room | None = None) -> float:
    """Add the gradient of the loss to the network's parameters and return the loss; for ``room`` see ``loss``."""
    if batch.video.device.type == "cpu":
        inputs = batch.video, batch.audio
        return sync_by_hand.learn(network, inputs, batch.partners, _shares(batch), room or Room())
    return learn_by_autograd(network, batch)


def loss_by_autograd(network: FrameNetwork, batch: Batch) -> float:
    """As ``loss``, on any device."""
    terms = network.term(VIDEO, batch.video), network.term(AUDIO, batch.audio)

    def work(stretches: Sequence[slice]) -> float:
        return sum(float(_Pairs(batch, rows, *terms).loss(network)) for rows in stretches)

    return sum(spread(work, _shares(batch)))


def learn_by_autograd(network: FrameNetwork, batch: Batch) -> float:
    """As ``learn``, on any device."""
    terms = network.term(VIDEO, batch.video), network.term(AUDIO, batch.audio)
    free = terms[VIDEO].detach(), terms[AUDIO].detach()
    later = list(network.mlp[1:].parameters())

    def work(stretches: Sequence[slice]) -> tuple[float, list[Tensor]]:
        # ``spread`` works without gradients; these threads need them.
        with torch.inference_mode(False), torch.enable_grad():
            total, sums = 0.0, [torch.zeros_like(each) for each in (*free, *later)]
            for rows in stretches:
                pairs = _Pairs(batch, rows, *free)
                value = pairs.loss(network)
                of_video, of_audio, *others = torch.autograd.grad(value, (*pairs.terms, *later))
                total += value.item()
                sums[VIDEO][rows] = of_video
                sums[AUDIO][pairs.heard] += of_audio[:-1]
                sums[AUDIO][-1] += of_audio[-1]
                torch._foreach_add_(sums[2:], others)
        return total, sums

    done = spread(work, _shares(batch))
    gradients = [torch.stack(each).sum(0) for each in zip(*(sums for _, sums in done), strict=True)]
    torch.autograd.backward((*terms, *later), gradients)
    return sum(total for total, _ in done)


class _Pairs:
    """Some frames of a batch with their partners.

    terms: of the video of these frames, and of the audio rows ``heard`` with the row of zeros last.
    """

    def __init__(self, batch: Batch, rows: slice, video: Tensor, audio: Tensor):
        numbers, silence = batch.partners[rows], len(audio) - 1
        first, last = int(numbers.min()), int(numbers.masked_fill(numbers == silence, -1).max())
        self.heard = slice(first, last + 1)
        self._partners = (numbers - first).masked_fill_(numbers == silence, last + 1 - first)
        self.terms = video[rows].requires_grad_(torch.is_grad_enabled()), torch.cat([audio[self.heard], audio[-1:]])
        self.terms[AUDIO].requires_grad_(torch.is_grad_enabled())

    def loss(self, network: FrameNetwork) -> Tensor:
        """Return the sum over these frames."""
        video, audio = self.terms
        partners = audio.index_select(0, self._partners.reshape(-1)).view(*self._partners.shape, -1)
        outputs = network.finish(video[:, None] + partners)
        return -outputs.log_softmax(1)[:, outputs.shape[1] // 2].sum()


def _shares(batch: Batch) -> list[list[slice]]:
    """Share out the frames to the cores, and cut them into stretches whose pairs are held at once."""
    device, frames = batch.video.device, len(batch.video)
    most = PAIRED_FRAMES * (64 if device.type == "cuda" else 1)
    own = cut(frames, min(pieces(device), frames))
    return [[slice(a, min(a + most, rows.stop)) for a in range(rows.start, rows.stop, most)] for rows in own]

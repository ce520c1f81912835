"""The loss of audio-visual alignment over all offsets, from terms that are computed once for each frame.

For frame t with video v_t and audio a_s, s = t-τ … t+τ, zero vectors outside the clip, and the network's output f:

    loss = -Σ_t log softmax_s f(v_t, a_s) at s = t

The first hidden layer of f is a sum of a video term and an audio term (network.py). Both are computed once a frame and
added for the 2τ+1 pairs; windows of frames are never made. The gradient of the terms is gathered from all pairs, then
taken through the first layer once. On a processor the pass over the pairs is that of sync_kernels.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from probes.cores import pieces, spread
from probes.featureset import FeatureSet
from probes.heads import sync_kernels
from probes.heads.frames import Place, blocks, bounds, held, part
from probes.heads.network import FrameNetwork

VIDEO, AUDIO = 0, 1

PAIRED_FRAMES = 16
"""Frames whose pairs are held at once: with 31 offsets and 512 numbers a pair 1 MB, which a core's cache may hold."""


@dataclass(frozen=True)
class Batch:
    """Frames in clip order with the audio around them.

    video: float32 [frames, width]; audio: float32 [rows, width], the last row zero.
    partners: int64 [frames, 2τ+1], the audio row for each offset; the last row where the clip has none.
    """

    video: Tensor
    audio: Tensor
    partners: Tensor


def batches(data: FeatureSet, clips: Sequence[int], tau: int, size: int, device: Place) -> Iterator[Batch]:
    """Yield the frames of these clips in order, ``size`` at a time; a clip may lie in several batches."""
    planned = list(_plan(bounds(data, clips), size))
    for stretches in held(data, planned, lambda stretches: [_heard(*each, tau) for each in stretches]):
        yield _batch(data, stretches, tau, device)


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


def _batch(data: FeatureSet, stretches: Sequence[tuple[slice, tuple[int, int]]], tau: int, device: Place) -> Batch:
    video, audio, partners, held = [], [], [], 0
    offsets = torch.arange(-tau, tau + 1)
    for rows, (first, last) in stretches:
        heard = _heard(rows, (first, last), tau)
        wanted = torch.arange(rows.start, rows.stop)[:, None] + offsets
        outside = (wanted < first) | (wanted >= last)
        partners.append((wanted - heard.start + held).masked_fill_(outside, -1))
        video.append(part(data, VIDEO, rows, device))
        audio.append(part(data, AUDIO, heard, device))
        held += heard.stop - heard.start
    audio.append(audio[0].new_zeros(1, audio[0].shape[1]))
    numbers = torch.cat(partners)
    numbers[numbers < 0] = held
    return Batch(torch.cat(video), torch.cat(audio), numbers.to(audio[0].device))


def loss(network: FrameNetwork, batch: Batch) -> float:
    """Return the loss without a gradient."""
    terms = network.term(VIDEO, batch.video), network.term(AUDIO, batch.audio)

    def work(stretches: Sequence[slice]) -> float:
        return sum(float(_Pairs(batch, rows, *terms).loss(network)) for rows in stretches)

    return sum(spread(work, _shares(batch)))


def learn(network: FrameNetwork, batch: Batch) -> float:
    """Add the gradient of the loss to the network's parameters and return the loss."""
    terms = network.term(VIDEO, batch.video), network.term(AUDIO, batch.audio)
    free = terms[VIDEO].detach(), terms[AUDIO].detach()
    work = partial(_by_hand if batch.video.device.type == "cpu" else _by_autograd, network, batch, free)
    done = spread(work, _shares(batch))
    gradients = [torch.stack(each).sum(0) for each in zip(*(sums for _, sums in done), strict=True)]
    torch.autograd.backward((*terms, *network.mlp[1:].parameters()), gradients)
    return sum(total for total, _ in done)


def _by_autograd(
    network: FrameNetwork, batch: Batch, terms: tuple[Tensor, Tensor], stretches: Sequence[slice]
) -> tuple[float, list[Tensor]]:
    """Return the loss of these frames and the gradients of both terms and of the later layers' parameters."""
    later = list(network.mlp[1:].parameters())
    # ``spread`` works without gradients; these threads need them.
    with torch.inference_mode(False), torch.enable_grad():
        total, sums = 0.0, [torch.zeros_like(each) for each in (*terms, *later)]
        for rows in stretches:
            pairs = _Pairs(batch, rows, *terms)
            value = pairs.loss(network)
            of_video, of_audio, *others = torch.autograd.grad(value, (*pairs.terms, *later))
            total += value.item()
            sums[VIDEO][rows] = of_video
            sums[AUDIO][pairs.heard] += of_audio[:-1]
            sums[AUDIO][-1] += of_audio[-1]
            torch._foreach_add_(sums[2:], others)
    return total, sums


def _by_hand(
    network: FrameNetwork, batch: Batch, terms: tuple[Tensor, Tensor], stretches: Sequence[slice]
) -> tuple[float, list[Tensor]]:
    """As ``_by_autograd``, quicker, on a processor."""
    offsets = batch.partners.shape[1]
    with torch.inference_mode(False), torch.no_grad():
        layers = sync_kernels.Layers(network.mlp[1:])
        video, audio = (each.numpy() for each in terms)
        total, sums = 0.0, [torch.zeros_like(each) for each in terms]
        for rows in stretches:
            partners = batch.partners[rows].numpy()
            h = terms[VIDEO].new_empty(partners.size, video.shape[1])
            sync_kernels.add_pairs(video[rows], audio, partners, h.numpy())
            loss, slope = layers.learn(h, offsets)
            total += loss
            sync_kernels.share_out(slope.numpy(), partners, sums[VIDEO][rows].numpy(), sums[AUDIO].numpy())
    return total, [*sums, *layers.gradients]


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
    """Cut a batch into stretches whose pairs are held at once, shared out to the cores."""
    device = batch.video.device
    stretches = blocks(len(batch.video), PAIRED_FRAMES * (64 if device.type == "cuda" else 1))
    count = min(pieces(device), len(stretches))
    return [stretches[len(stretches) * k // count : len(stretches) * (k + 1) // count] for k in range(count)]

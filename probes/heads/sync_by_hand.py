"""The loss of sync_offsets.py and its gradient on a processor, layer by layer: PyTorch's products, numba's loops.

Each core takes its share of the work without waiting for another, in three steps: the terms of h for some frames; the
pairs of some frames, from the terms to the loss and back; the gradient of some columns of the projections.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from probes.cores import one_thread_each, spread
from probes.heads import sync_kernels
from probes.heads.network import FrameNetwork

VIDEO, AUDIO = 0, 1

Shares = Sequence[Sequence[slice]]
"""For each core its stretches of frames, whose pairs are held at once."""


class Room:
    """Memory for what is computed on the way, kept for what comes after it.

    So numbers stay in the cache of a core, and the system need not find new memory, which takes it as long as a good
    part of the work.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[object, ...], Tensor] = {}

    def __call__(self, like: Tensor, shape: Sequence[int], *name: object) -> Tensor:
        """Return a tensor of like's dtype that holds any numbers; it is the only one of its name."""
        kept, count = self._kept.get(name), math.prod(shape)
        if kept is None or len(kept) < count or kept.dtype != like.dtype:
            with torch.inference_mode(False):
                self._kept[name] = kept = like.new_empty(count)
        return kept[:count].view(*shape)


@torch.no_grad()
@one_thread_each()
def loss(network: FrameNetwork, inputs: Sequence[Tensor], partners: Tensor, shares: Shares, room: Room) -> float:
    """Return the loss of a batch: inputs are its video and audio, see ``Batch``."""
    first = _First(network, inputs, room)
    first.compute(len(shares))
    workers = [_Pairs(network, first, partners, room, core) for core in range(len(shares))]
    return sum(spread(lambda each: each[0].loss(each[1]), list(zip(workers, shares, strict=True))))


@torch.no_grad()
@one_thread_each()
def learn(network: FrameNetwork, inputs: Sequence[Tensor], partners: Tensor, shares: Shares, room: Room) -> float:
    """Add the gradient of the loss to the network's parameters and return the loss."""
    first = _First(network, inputs, room)
    first.compute(len(shares))
    workers = [_Pairs(network, first, partners, room, core) for core in range(len(shares))]
    losses = spread(lambda each: each[0].learn(each[1]), list(zip(workers, shares, strict=True)))
    gradients, *others = [each.gradients for each in workers]
    for each in others:
        torch._foreach_add_(gradients, each)
    of_audio, *later = gradients
    gradients = [*first.gradients((first.of_video, of_audio), len(shares)), *later]
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient
    return sum(losses)


class _First:
    """The first layer: of the video and of the audio a term of h (see network.py).

    inputs: [rows, width] of both.
    terms: [rows, sizes[1]] of both, less the mean of each row: so the mean of each sum of two is 0.
    of_video: the gradient of the first of them, for others to write.
    """

    def __init__(self, network: FrameNetwork, inputs: Sequence[Tensor], room: Room):
        first = network.mlp[0]
        assert isinstance(first, nn.Linear)
        self.inputs, self.room = inputs, room
        projections = [each for each in network.projections if isinstance(each, nn.Linear)]
        self.projections = [(each.weight.detach(), each.bias.detach()) for each in projections]
        self.weight, self.bias = first.weight.detach(), first.bias.detach()
        self.columns = self.weight.chunk(2, 1)
        width, share = len(self.bias), self.columns[0].shape[1]
        self.projected = [room(each, (len(each), share), "projected", k) for k, each in enumerate(inputs)]
        self.terms = [room(each, (len(each), width), "term", k) for k, each in enumerate(inputs)]
        self.of_video = room(self.bias, (len(inputs[VIDEO]), width), "of video")

    def compute(self, cores: int) -> None:
        """Make the terms; the bias b goes with the video."""

        def work(core: int) -> None:
            for k, (weight, bias) in enumerate(self.projections):
                rows = cut(len(self.inputs[k]), cores)[core]
                term = self.terms[k][rows]
                torch.addmm(bias, self.inputs[k][rows], weight.T, out=self.projected[k][rows])
                torch.mm(self.projected[k][rows], self.columns[k].T, out=term)
                if k == VIDEO:
                    term += self.bias
                term -= term.mean(1, keepdim=True)

        spread(work, range(cores))

    def gradients(self, of_terms: Sequence[Tensor], cores: int) -> list[Tensor]:
        """Return those of the projections' weights and biases and of the first linear layer's."""
        of_projections = [(torch.empty_like(weight), torch.empty_like(bias)) for weight, bias in self.projections]
        of_weight = torch.empty_like(self.weight)

        def work(core: int) -> None:
            for k, (of_projection, of_bias) in enumerate(of_projections):
                own = cut(len(of_bias), cores)[core]
                torch.mm(of_terms[k].T, self.projected[k][:, own], out=of_weight.chunk(2, 1)[k][:, own])
                shape = len(of_terms[k]), own.stop - own.start
                of_projected = self.room(of_weight, shape, "of projected", core)
                torch.mm(of_terms[k], self.columns[k][:, own], out=of_projected)
                torch.mm(of_projected.T, self.inputs[k], out=of_projection[own])
                torch.sum(of_projected, 0, out=of_bias[own])

        spread(work, range(cores))
        return [*(each for both in of_projections for each in both), of_weight, of_terms[VIDEO].sum(0)]


class _Pairs:
    """The layers after the first over pairs of frames, on one core; the gradients gather here.

    partners: int64 [frames, offsets], the audio row for each offset.
    """

    def __init__(self, network: FrameNetwork, first: _First, partners: Tensor, room: Room, core: int):
        norms = [each for each in network.mlp if isinstance(each, nn.LayerNorm)]
        linears = [each for each in network.mlp if isinstance(each, nn.Linear)][1:]
        self.layers = [_Layer(*each, room, (core, k)) for k, each in enumerate(zip(norms, linears, strict=True))]
        self.video, self.audio, self.of_video = arrays(*first.terms, first.of_video)
        self.of_audio = room(first.terms[AUDIO], first.terms[AUDIO].shape, "of audio", core)
        self.partners = partners.numpy()

    @property
    def gradients(self) -> list[Tensor]:
        """Of the audio's term, then of ``mlp[1:].parameters()``."""
        return [self.of_audio, *(each for layer in self.layers for each in layer.gradients)]

    def loss(self, stretches: Sequence[slice]) -> float:
        """Return the loss of these frames."""
        return sum(self._forward(frames, self._listed(frames)) for frames in stretches)

    def learn(self, stretches: Sequence[slice]) -> float:
        """Return the loss of these frames and add its gradients; that of the video's term is written."""
        total = 0.0
        self.of_audio.zero_()
        for frames in stretches:
            listed = self._listed(frames)
            total += self._forward(frames, listed)
            self._back(frames, listed)
        return total

    def _listed(self, frames: slice) -> Sequence[NDArray[Any]]:
        listed: Sequence[NDArray[Any]] = sync_kernels.list_pairs(self.partners[frames], len(self.audio) - 1)
        return listed

    def _forward(self, frames: slice, listed: Sequence[NDArray[Any]]) -> float:
        """Return the loss; the last layer's ``outputs`` become its gradient."""
        starts, heard, times, middles = listed
        for layer in self.layers:
            layer.hold(len(heard))
        first, last = self.layers[0], self.layers[-1]
        norm = (*arrays(first.gain, first.shift), first.epsilon)
        sync_kernels.pairs_forward(self.video[frames], self.audio, starts, heard, *norm, *arrays(first.scales, first.y))
        first.multiply()
        for before, layer in pairwise(self.layers):
            norm = (*arrays(before.bias, layer.gain, layer.shift), layer.epsilon)
            sync_kernels.layer_forward(before.outputs.numpy(), *norm, *arrays(layer.scales, layer.y))
            layer.multiply()
        bias = arrays(last.bias, last.of_bias)
        loss: float = sync_kernels.loss_and_slope(last.outputs.numpy(), starts, times, middles, *bias)
        return loss

    def _back(self, frames: slice, listed: Sequence[NDArray[Any]]) -> None:
        """Take the gradient from the last layer's ``outputs`` to the terms."""
        starts, heard, _, _ = listed
        slope = self.layers[-1].outputs
        for before, layer in reversed(list(pairwise(self.layers))):
            layer.multiply_back(slope)
            norm = arrays(layer.gain, layer.scales, layer.of_gain, layer.of_shift, before.of_bias)
            sync_kernels.layer_back(*arrays(layer.slope, before.outputs, layer.y), *norm)
            slope = layer.slope
        first = self.layers[0]
        first.multiply_back(slope)
        sync_kernels.pairs_back(
            *(*arrays(first.slope, first.y), self.video[frames], self.audio, starts, heard),
            *arrays(first.gain, first.scales, first.of_gain, first.of_shift),
            *(self.of_video[frames], self.of_audio.numpy()),
        )


class _Layer:
    """A norm with its ReLU and the linear layer behind it, and what is held of some pairs.

    y, slope: [rows, width], what the ReLU gives and dloss/dy; scales: [rows], 1/σ of the norm.
    outputs: [rows, width of the next], without the bias.
    """

    def __init__(self, norm: nn.LayerNorm, linear: nn.Linear, room: Room, name: tuple[int, int]):
        self.epsilon, self.room, self.name = norm.eps, room, name
        parameters = [each.detach() for each in (*norm.parameters(), *linear.parameters())]
        self.gain, self.shift, self.weight, self.bias = parameters
        self.gradients = [torch.zeros_like(each) for each in parameters]
        self.of_gain, self.of_shift, self.of_weight, self.of_bias = self.gradients
        self.y = self.weight.new_empty(0)

    def hold(self, rows: int) -> None:
        """Take the room for so many rows."""
        if len(self.y) == rows:
            return
        after, width = self.weight.shape
        self.y = self.room(self.weight, (rows, width), "y", *self.name)
        self.slope = self.room(self.weight, (rows, width), "slope", *self.name)
        self.scales = self.room(self.weight, (rows,), "scales", *self.name)
        self.outputs = self.room(self.weight, (rows, after), "outputs", *self.name)

    def multiply(self) -> None:
        """Make outputs of y."""
        torch.mm(self.y, self.weight.T, out=self.outputs)

    def multiply_back(self, slope: Tensor) -> None:
        """Of dloss/d outputs make dloss/dy, and add what belongs to the weights."""
        self.of_weight.addmm_(slope.T, self.y)
        torch.mm(slope, self.weight, out=self.slope)


def arrays(*tensors: Tensor) -> list[NDArray[Any]]:
    """Return the same numbers as numba reads them."""
    return [each.numpy() for each in tensors]


def cut(count: int, cores: int) -> list[slice]:
    """Cut rows or columns 0 to ``count`` into a slice for each core."""
    return [slice(count * core // cores, count * (core + 1) // cores) for core in range(cores)]

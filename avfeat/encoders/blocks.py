"""Layers that several lip encoders share, in the form that is fastest for frozen weights.

Batch norms and weight norms are folded into the convolutions that they follow when weights are loaded (``folding.py``),
so the layers here have plain weights and biases. Attribute names are those of the official files, after folding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avfeat.timeline import SAMPLES_PER_FRAME

Activation = Callable[[int], nn.Module]
"""Makes the activation for a number of channels: PReLU has one slope for each, SiLU none."""

Convolution = type[nn.Conv1d] | type[nn.Conv2d]
"""Over time for sound, over space for pictures."""

STEM_REACH = 2
"""The stem looks at this many pictures before and after each picture."""

PIECE_FRAMES = 250
"""Frames of sound that go through the ResNet at once: ten seconds, whatever the clip's length."""


class ResidualBlock(nn.Module):
    """Two convolutions of 3 (x 3) and a shortcut: [n, inputs, ...] gives [n, outputs, ...], lengths / stride."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, activation: Activation, convolution: Convolution = nn.Conv2d
    ):
        super().__init__()
        self.conv1 = convolution(inputs, outputs, 3, stride, 1)
        self.relu1 = activation(outputs)
        self.conv2 = convolution(outputs, outputs, 3, 1, 1)
        self.relu2 = activation(outputs)
        changes = stride != 1 or inputs != outputs
        self.downsample = nn.Sequential(convolution(inputs, outputs, 1, stride)) if changes else nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Return the block's output."""
        inner: Tensor = self.conv2(self.relu1(self.conv1(maps)))
        out: Tensor = self.relu2(inner.add_(self.downsample(maps)))
        return out


class ResNet18(nn.Module):
    """The four stages of ResNet-18 and the mean over space: [n, width, h, w] gives [n, 8 width]."""

    def __init__(self, width: int, activation: Activation, convolution: Convolution = nn.Conv2d):
        super().__init__()
        stages = []
        for inputs, outputs, stride in ((1, 1, 1), (1, 2, 2), (2, 4, 2), (4, 8, 2)):
            first = ResidualBlock(inputs * width, outputs * width, stride, activation, convolution)
            second = ResidualBlock(outputs * width, outputs * width, 1, activation, convolution)
            stages.append(nn.Sequential(first, second))
        self.layer1, self.layer2, self.layer3, self.layer4 = stages

    def stages(self, maps: Tensor) -> Tensor:
        """Return [n, 8 width, ...] for [n, width, ...], each length an eighth, rounded up."""
        out: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(maps))))
        return out

    def forward(self, pictures: Tensor) -> Tensor:
        """Return one vector for each picture."""
        return self.stages(pictures).mean(dim=(2, 3))


class SoundTrunk(ResNet18):
    """A ResNet-18 over time: 16 kHz sound [n, samples] gives [n, samples / 640, 8 width]."""

    def __init__(self, width: int, activation: Activation):
        super().__init__(width, activation, nn.Conv1d)
        self.conv1 = nn.Conv1d(1, width, 80, 4, 38)
        self.relu = activation(width)

    def forward(self, sound: Tensor) -> Tensor:
        """Return one vector for every 640 samples."""
        maps = self.stages(self.relu(self.conv1(sound[:, None])))
        return F.avg_pool1d(maps, 20).transpose(1, 2)


class SoundResNet(nn.Module):
    """16 kHz sound in, one vector for each 40 ms out."""

    def __init__(self, width: int, activation: Activation):
        super().__init__()
        self.trunk = SoundTrunk(width, activation)

    def forward(self, sound: Tensor) -> Tensor:
        """Return float [clip, T, 8 width] for ``sound`` [clip, samples], T = samples // 640; the rest is not heard.

        Long sound goes through in pieces. A vector sees 236 samples beyond its own 640 on either side, so one frame
        more at both ends of a piece makes the pieces' vectors those of the whole.
        """
        frames = sound.shape[1] // SAMPLES_PER_FRAME
        pieces = []
        for first in range(0, frames, PIECE_FRAMES):
            last = min(first + PIECE_FRAMES, frames)
            start, stop = max(first - 1, 0), min(last + 1, frames)
            vectors = self.trunk(sound[:, start * SAMPLES_PER_FRAME : stop * SAMPLES_PER_FRAME])
            pieces.append(vectors[:, first - start : last - start])
        return torch.cat(pieces, dim=1)


class LipResNet(nn.Module):
    """3-D convolution over five pictures, then a ResNet-18 on each: grey lips in, one vector for each picture out.

    The stem has one input channel, so it runs as a 2-D convolution whose five channels are the pictures t-2 … t+2:
    the same sums, and faster, as all later layers, with channels last in memory.
    """

    def __init__(self, width: int, activation: Activation):
        super().__init__()
        stem = nn.Conv3d(1, width, (2 * STEM_REACH + 1, 7, 7), (1, 2, 2), (STEM_REACH, 3, 3))
        self.frontend3D = nn.ModuleList([stem, nn.Identity(), activation(width)])
        self.trunk = ResNet18(width, activation)

    def forward(self, video: Tensor) -> Tensor:
        """Return float [clip, T, 8 width] for ``video`` [clip, T, height, width]; beyond the ends all is zero."""
        clips, frames = video.shape[:2]
        padded = F.pad(video, (0, 0, 0, 0, STEM_REACH, STEM_REACH))
        windows: Tensor = padded.unfold(1, 2 * STEM_REACH + 1, 1)
        return self._windows(windows.flatten(0, 1)).view(clips, frames, -1)

    def stretch(self, pictures: Tensor) -> Tensor:
        """Return float [n, 8 width] for a stretch out of a clip.

        Args:
            pictures: [n + 4, height, width], with two pictures more on either side; zeros beyond the clip's ends.
        """
        return self._windows(pictures.unfold(0, 2 * STEM_REACH + 1, 1))

    def _windows(self, windows: Tensor) -> Tensor:
        stem, _, activation = self.frontend3D
        assert isinstance(stem, nn.Conv3d)
        channels = windows.permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
        weight = stem.weight[:, 0].contiguous(memory_format=torch.channels_last)
        maps = activation(F.conv2d(channels, weight, stem.bias, stride=2, padding=3))
        vectors: Tensor = self.trunk(F.max_pool2d(maps, 3, 2, 1))
        return vectors


class PositionalConvolution(nn.Module):
    """A wide grouped convolution over time whose output, after GELU, stands in for position embeddings.

    With an even kernel and ``kernel / 2`` zeros on both sides there is one step too many at the end, which is dropped.
    """

    def __init__(self, width: int, kernel: int, groups: int):
        super().__init__()
        self.groups = groups
        self.weight = nn.Parameter(torch.empty(width, width // groups, kernel))
        self.bias = nn.Parameter(torch.empty(width))

    def forward(self, steps: Tensor) -> Tensor:
        """Return [clip, T, width] to be added to ``steps`` [clip, T, width]."""
        half = self.weight.shape[2] // 2
        out = F.conv1d(steps.transpose(1, 2), self.weight, self.bias, padding=half, groups=self.groups)
        return F.gelu(out[..., : steps.shape[1]]).transpose(1, 2)


def attend(query: Tensor, key: Tensor, value: Tensor, heads: int, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q k' / sqrt(head width)) v, heads side by side.

    Args:
        query: as ``key`` and ``value`` [clip, T, width].
        heads: how many equal slices of the width attend apart.
        mask: broadcast to [clip, heads, T, T]; bool, False where a step must not look, or float, added to the scores.
    """
    clips, steps, width = query.shape
    q, k, v = (each.view(clips, steps, heads, width // heads).transpose(1, 2) for each in (query, key, value))
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2)


class SelfAttention(nn.Module):
    """Multi-head attention with biased projections, [clip, T, width] in and out."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj = nn.Linear(width, width)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)

    def forward(self, steps: Tensor, mask: Tensor | None = None) -> Tensor:
        """Return what each step gathers from the steps that ``mask`` (see ``attend``) lets it see."""
        gathered = attend(self.q_proj(steps), self.k_proj(steps), self.v_proj(steps), self.heads, mask)
        out: Tensor = self.out_proj(gathered)
        return out

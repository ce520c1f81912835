"""Layers that several lip encoders share, in the form that is fastest for frozen weights.

Batch norms and weight norms are folded into the convolutions that they follow when weights are loaded (``folding.py``),
so the layers here have plain weights and biases. Attribute names are those of the official files, after folding.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Activation = Callable[[int], nn.Module]
"""Makes the activation for a number of channels: PReLU has one slope for each, SiLU none."""

STEM_REACH = 2
"""The stem looks at this many pictures before and after each picture."""


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut: [n, inputs, h, w] gives [n, outputs, h / stride, w / stride]."""

    def __init__(self, inputs: int, outputs: int, stride: int, activation: Activation):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1)
        self.relu1 = activation(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1)
        self.relu2 = activation(outputs)
        changes = stride != 1 or inputs != outputs
        self.downsample = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride)) if changes else nn.Identity()

    def forward(self, pictures: Tensor) -> Tensor:
        """Return the block's output."""
        inner: Tensor = self.conv2(self.relu1(self.conv1(pictures)))
        out: Tensor = self.relu2(inner.add_(self.downsample(pictures)))
        return out


class ResNet18(nn.Module):
    """The four stages of ResNet-18 and the mean over space: [n, width, h, w] gives [n, 8 width]."""

    def __init__(self, width: int, activation: Activation):
        super().__init__()
        self.layer1 = self._stage(width, width, 1, activation)
        self.layer2 = self._stage(width, 2 * width, 2, activation)
        self.layer3 = self._stage(2 * width, 4 * width, 2, activation)
        self.layer4 = self._stage(4 * width, 8 * width, 2, activation)

    @staticmethod
    def _stage(inputs: int, outputs: int, stride: int, activation: Activation) -> nn.Sequential:
        return nn.Sequential(
            ResidualBlock(inputs, outputs, stride, activation), ResidualBlock(outputs, outputs, 1, activation)
        )

    def forward(self, pictures: Tensor) -> Tensor:
        """Return one vector for each picture."""
        maps: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(pictures))))
        return maps.mean(dim=(2, 3))


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

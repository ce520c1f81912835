"""The Auto-AVSR encoders in plain PyTorch, for frozen features: Conformers over lips and over sound, and their fusion.

Attribute names are those of the official files of version 1.0.0, but for the folded norms.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avfeat.encoders.readers import Modality, Sizes
from avfeat.encoders.relative import LAYER_NORM_EPSILON, Branch, FeedForward, RelativeAttention


class ConvolutionModule(nn.Module):
    """A gated map of each step, a convolution over time for each channel, and a map back: [clip, T, width]."""

    def __init__(self, width: int, kernel: int):
        super().__init__()
        self.pointwise_cov1 = nn.Conv1d(width, 2 * width, 1)
        self.depthwise_conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.pointwise_cov2 = nn.Conv1d(width, width, 1)

    def forward(self, steps: Tensor) -> Tensor:
        """Return [clip, T, width] as ``steps``."""
        gated = F.glu(self.pointwise_cov1(steps.transpose(1, 2)), dim=1)
        out: Tensor = self.pointwise_cov2(F.silu(self.depthwise_conv(gated), inplace=True))
        return out.transpose(1, 2)


class ConformerBlock(nn.Module):
    """Half a feed-forward, attention, convolution, half a feed-forward, a norm; each on a norm of its own."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        width = sizes.width
        self.feed_forward_macaron = FeedForward(width, sizes.ffn)
        self.self_attn = RelativeAttention(width, sizes.heads)
        self.conv_module = ConvolutionModule(width, sizes.kernel)
        self.feed_forward = FeedForward(width, sizes.ffn)
        self.norm_ff_macaron = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.norm_mha = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.norm_conv = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.norm_ff = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.norm_final = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)

    def forward(self, steps: Tensor, table: Tensor, padding: Tensor | None) -> Tensor:
        """Return the block's output, [clip, T, width] as ``steps``."""
        steps = steps + 0.5 * self.feed_forward_macaron(self.norm_ff_macaron(steps))
        steps = steps + self.self_attn(self.norm_mha(steps), table, padding)
        steps = steps + self.conv_module(self.norm_conv(steps))
        steps = steps + 0.5 * self.feed_forward(self.norm_ff(steps))
        out: Tensor = self.norm_final(steps)
        return out


class Fusion(nn.Module):
    """The two branches' rows side by side, lips first, through two linear maps."""

    def __init__(self, inputs: int, inner: int, width: int):
        super().__init__()
        self.fc1 = nn.Linear(inputs, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, seen: Tensor, heard: Tensor) -> Tensor:
        """Return [clip, T, width]."""
        out: Tensor = self.fc2(self.fc1(torch.cat([seen, heard], dim=2)).relu_())
        return out


class AudioVisual(nn.Module):
    """Both branches and their fusion; ``encoder`` sees, ``aux_encoder`` hears, as in the official files."""

    def __init__(self, seeing: Sizes, hearing: Sizes, inner: int):
        super().__init__()
        self.encoder = branch("video", seeing)
        self.aux_encoder = branch("audio", hearing)
        self.fusion = Fusion(seeing.width + hearing.width, inner, seeing.width)


def branch(modality: Modality, sizes: Sizes) -> Branch:
    """Return one modality's network, without weights."""
    return Branch(modality, sizes, [ConformerBlock(sizes) for _ in range(sizes.layers)])

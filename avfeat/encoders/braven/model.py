"""The BRAVEn encoders in plain PyTorch, for frozen features: one transformer over lips, another over sound.

Attribute names are those of the official files, but for the folded norms: the batch norm before each feed-forward is
part of ``w_1``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from avfeat.encoders.readers import Modality, Sizes
from avfeat.encoders.relative import LAYER_NORM_EPSILON, Branch, FeedForward, RelativeAttention


class Block(nn.Module):
    """Attention and feed-forward, each scaled channel by channel before it is added."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.norm_mha = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPSILON)
        self.self_attn = RelativeAttention(sizes.width, sizes.heads)
        self.gamma_mha = nn.Parameter(torch.empty(sizes.width))
        self.feed_forward = FeedForward(sizes.width, sizes.ffn)
        self.gamma_ff = nn.Parameter(torch.empty(sizes.width))

    def forward(self, steps: Tensor, table: Tensor, padding: Tensor | None) -> Tensor:
        """Return the block's output, [clip, T, width] as ``steps``."""
        steps = steps + self.gamma_mha * self.self_attn(self.norm_mha(steps), table, padding)
        out: Tensor = steps + self.gamma_ff * self.feed_forward(steps)
        return out


def branch(modality: Modality, sizes: Sizes) -> Branch:
    """Return one modality's network, without weights."""
    return Branch(modality, sizes, [Block(sizes) for _ in range(sizes.layers)])

"""What Auto-AVSR and BRAVEn share: attention by relative position, and the branch from a front-end to rows.

Letters as in Transformer-XL (Dai et al., 2019): query i and key j with offset i - j, biases u and v for each head.
Attribute names are those of the official files.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avfeat.encoders.blocks import LipResNet, SoundResNet
from avfeat.encoders.readers import Modality, Sizes

LAYER_NORM_EPSILON = 1e-12
"""Of every layer norm in both families; half precision cannot hold it."""

QUERIES = 256
"""Steps that look at all others at once: bounds the table of scores, whatever the clip's length."""


def position_table(steps: int, width: int) -> Tensor:
    """Return float32 [2 steps - 1, width], the sinusoids of the offsets steps - 1 down to 1 - steps.

    Column 2m is sin(o w), column 2m + 1 is cos(o w), with w = exp(-2m ln(10000) / width).
    """
    offsets = torch.arange(steps - 1, -steps, -1, dtype=torch.float32)
    waves = torch.exp(torch.arange(0, width, 2, dtype=torch.float32) * -(math.log(10_000) / width))
    angles = offsets[:, None] * waves
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class RelativeAttention(nn.Module):
    """Attention whose score also depends on how far apart two steps are: [clip, T, width] in and out.

    score(i, j) = ((q_i + u) k_j + (q_i + v) p_(i - j)) / sqrt(head width)
    """

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)
        self.linear_pos = nn.Linear(width, width, bias=False)
        self.pos_bias_u = nn.Parameter(torch.empty(heads, width // heads))
        self.pos_bias_v = nn.Parameter(torch.empty(heads, width // heads))

    def forward(self, steps: Tensor, table: Tensor, padding: Tensor | None = None) -> Tensor:
        """Return what each step gathers.

        Args:
            steps: [clip, T, width].
            table: ``position_table(T, width)``.
            padding: bool [clip, T], True where a shorter clip has ended and nobody must look.
        """
        count = steps.shape[1]
        q, k, v = (self._split(linear(steps)) for linear in (self.linear_q, self.linear_k, self.linear_v))
        positions = self._split(self.linear_pos(table)[None])
        by_content = q + self.pos_bias_u[:, None]
        by_place = (q + self.pos_bias_v[:, None]) / math.sqrt(q.shape[-1])
        hidden = None if padding is None else padding[:, None, None, :]
        # Filled piece by piece: kept pieces would pin the memory of the tables freed between them.
        gathered = torch.empty_like(v)
        for first in range(0, count, QUERIES):
            last = min(first + QUERIES, count)
            # Offsets first - (T - 1) ... last - 1 are all that these queries meet.
            near = positions[:, :, count - last : 2 * count - 1 - first]
            scores = _shifted(by_place[:, :, first:last] @ near.transpose(2, 3), count)
            if hidden is not None:
                scores = scores.masked_fill(hidden, -math.inf)
            gathered[:, :, first:last] = F.scaled_dot_product_attention(
                by_content[:, :, first:last], k, v, attn_mask=scores
            )
        out: Tensor = self.linear_out(gathered.transpose(1, 2).flatten(2))
        return out

    def _split(self, steps: Tensor) -> Tensor:
        """Return [clip, heads, T, head width]."""
        return steps.view(*steps.shape[:2], self.heads, -1).transpose(1, 2)


def _shifted(scores: Tensor, count: int) -> Tensor:
    """Return [clip, heads, queries, count], row i taken from column ``queries - 1 - i`` of ``scores`` on.

    A view: one step along a row less for each row, in the memory of [clip, heads, queries, count + queries - 1].
    """
    clips, heads, queries, columns = scores.shape
    scores = scores.contiguous()
    strides = (heads * queries * columns, queries * columns, columns - 1, 1)
    return scores.as_strided((clips, heads, queries, count), strides, queries - 1)


class FeedForward(nn.Module):
    """Two linear maps with a ReLU between."""

    def __init__(self, width: int, inner: int):
        super().__init__()
        self.w_1 = nn.Linear(width, inner)
        self.w_2 = nn.Linear(inner, width)

    def forward(self, steps: Tensor) -> Tensor:
        """Return [..., width] as ``steps``."""
        out: Tensor = self.w_2(self.w_1(steps).relu_())
        return out


class Branch(nn.Module):
    """One modality: a ResNet at 25 Hz, a linear map, the blocks, a last norm.

    Args:
        modality: what the ResNet reads.
        sizes: of the network.
        blocks: each takes steps, table and padding as ``RelativeAttention`` does.
    """

    frontend: LipResNet | SoundResNet

    def __init__(self, modality: Modality, sizes: Sizes, blocks: Sequence[nn.Module]):
        super().__init__()
        width = sizes.width
        resnet = LipResNet if modality == "video" else SoundResNet
        self.frontend = resnet(sizes.resnet_width, lambda channels: nn.SiLU(inplace=True))
        self.embed = nn.Sequential(nn.Linear(8 * sizes.resnet_width, width))
        self.encoders = nn.ModuleList(blocks)
        self.after_norm = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)

    def transform(
        self, vectors: Tensor, layers: Collection[int | None] = (None,), padding: Tensor | None = None
    ) -> dict[int | None, Tensor]:
        """Return the outputs asked for, [clip, T, width]: k is block k's own (from 1), None the last after its norm.

        Blocks after the last one asked for do not run.

        Args:
            vectors: [clip, T, 8 x the ResNet's width], from ``frontend``.
            layers: which outputs.
            padding: bool [clip, T], True where a shorter clip of the batch has ended.
        """
        steps = self.embed(vectors)
        width = steps.shape[2]
        table = position_table(steps.shape[1], width).to(steps)
        steps = steps * math.sqrt(width)
        found: dict[int | None, Tensor] = {}
        last = len(self.encoders) if None in layers else max(layer for layer in layers if layer is not None)
        for number, block in enumerate(self.encoders[:last], 1):
            steps = block(steps, table, padding)
            if number in layers:
                found[number] = steps
        if None in layers:
            found[None] = self.after_norm(steps)
        return found

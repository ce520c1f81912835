"""A small causal transformer that reads frames 1 … t-1 and predicts frame t.

Pre-norm blocks: x += Attention(norm(x)), x += W₂ gelu(W₁ norm(x)); attention looks back only, and knows how far by
rotating queries and keys (rotary positions: pair i of a head's numbers turns by t · 10000^(-2i/d) at position t). A
learned vector stands before the first frame, so that this one is predicted too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention

from avfeat.errors import ProbeError

SLOWEST = 10_000.0
"""The slowest pair of a head turns about this many times slower than the quickest."""


class CausalTransformer(nn.Module):
    """Gives for frames [clips, frames, inputs] the prediction of each from those before it, of the same shape."""

    def __init__(self, inputs: int, width: int, blocks: int, heads: int):
        super().__init__()
        if width % (2 * heads):
            raise ProbeError(f"A width of {width} cannot be cut into {heads} heads of an even width: change either.")
        self.start = nn.Parameter(torch.randn(width) / width**0.5)
        self.read = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.norm = nn.LayerNorm(width)
        self.write = nn.Linear(width, inputs)
        # A fresh network predicts zeros, whose error is the frame's own square: 1 for each feature, at any width.
        nn.init.zeros_(self.write.weight)
        nn.init.zeros_(self.write.bias)

    def forward(self, frames: Tensor) -> Tensor:
        """Return the predictions; what follows a frame, padding too, changes nothing of its own."""
        before = self.start.expand(len(frames), 1, -1)
        x = torch.cat([before, self.read(frames[:, :-1])], dim=1)
        angles = self._angles(x)
        for block in self.blocks:
            x = block(x, angles)
        predicted: Tensor = self.write(self.norm(x))
        return predicted

    def _angles(self, x: Tensor) -> Tensor:
        """Unit complex numbers [frames, head width / 2]."""
        first = self.blocks[0]
        assert isinstance(first, Block)
        half = x.shape[2] // first.heads // 2
        speeds = SLOWEST ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
        angles = torch.arange(x.shape[1], dtype=torch.float32, device=x.device)[:, None] * speeds
        return torch.polar(torch.ones_like(angles), angles)


class Block(nn.Module):
    """One block of width ``width``; its hidden layer is four times as wide."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width)
        self.joined = nn.Linear(width, width)
        self.hidden_norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, 4 * width)
        self.out = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, angles: Tensor) -> Tensor:
        """Return [clips, frames, width] of the same."""
        three = self.query_key_value(self.attention_norm(x)).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = three.unbind()
        seen = scaled_dot_product_attention(_turn(query, angles), _turn(key, angles), value, is_causal=True)
        x = x + self.joined(seen.transpose(1, 2).flatten(2))
        x = x + self.out(gelu(self.hidden(self.hidden_norm(x))))
        return x


def _turn(x: Tensor, angles: Tensor) -> Tensor:
    """Turn the pairs of numbers of [clips, heads, frames, head width] by the frames' angles."""
    pairs = torch.view_as_complex(x.reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * angles).flatten(-2)

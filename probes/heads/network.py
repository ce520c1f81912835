"""The small network of AVH-Align over the frames of one or several features, whose first layer is a sum over them.

With a frame x_k of each feature k, projections P_k, and the first linear layer's columns W_k that meet projection k:

    h = Σ_k W_k (P_k x_k + p_k) + b,  output = MLP(h)

where MLP is LayerNorm, ReLU, and after each further linear layer again, down to one number. The terms of the sum belong
to one frame each, so where frames meet in many pairs they need be computed only once.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from avfeat.errors import ProbeError

SIZES = (1024, 512, 256, 128)
"""The official widths: of all projections together, then of the hidden layers."""


class FrameNetwork(nn.Module):
    """Reads one float32 tensor [..., width] for each feature, gives [...]."""

    def __init__(self, widths: Sequence[int], sizes: Sequence[int] = SIZES):
        super().__init__()
        share, rest = divmod(sizes[0], len(widths))
        if rest:
            raise ProbeError(f"A width of {sizes[0]} cannot be shared out to {len(widths)} features: change sizes[0].")
        self.projections = nn.ModuleList(nn.Linear(width, share) for width in widths)
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [nn.Linear(before, after), nn.LayerNorm(after), nn.ReLU()]
        self.mlp = nn.Sequential(*layers, nn.Linear(sizes[-1], 1))

    def forward(self, parts: Sequence[Tensor]) -> Tensor:
        """Return the output for each frame."""
        projected = [project(part) for project, part in zip(self.projections, parts, strict=True)]
        output: Tensor = self.mlp(torch.cat(projected, dim=-1))
        return output[..., 0]

    def term(self, feature: int, part: Tensor) -> Tensor:
        """Return one feature's term of h, [..., sizes[1]]; the bias b goes with the first feature."""
        projected: Tensor = self.projections[feature](part)
        first = self.mlp[0]
        assert isinstance(first, nn.Linear)
        width = projected.shape[-1]
        columns = first.weight[:, feature * width : (feature + 1) * width]
        return nn.functional.linear(projected, columns, first.bias if feature == 0 else None)

    def finish(self, h: Tensor) -> Tensor:
        """Return the output [...] of h [..., sizes[1]]."""
        output: Tensor = self.mlp[1:](h)
        return output[..., 0]

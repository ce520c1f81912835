"""The plain vision transformer of FSFM in PyTorch, for frozen features. Attribute names are those of its files."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from avfeat.encoders import shapes
from avfeat.encoders.blocks import attend
from avfeat.encoders.fsfm import Sizes
from avfeat.encoders.shapes import Shapes

LAYER_NORM_EPSILON = 1e-6


class Attention(nn.Module):
    """Multi-head attention with one joint map for query, key and value: [n, tokens, width] in and out."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.heads = sizes.heads
        self.qkv = nn.Linear(sizes.width, 3 * sizes.width)
        self.proj = nn.Linear(sizes.width, sizes.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return what each token gathers from all."""
        query, key, value = self.qkv(tokens).chunk(3, dim=2)
        out: Tensor = self.proj(attend(query, key, value, self.heads))
        return out


class FeedForward(nn.Module):
    """Two linear maps with the exact GELU between."""

    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return [n, tokens, width] as ``tokens``."""
        out: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return out


class Block(nn.Module):
    """Attention and feed-forward, each on a norm of its own, each added to what came in."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPSILON)
        self.attn = Attention(sizes)
        self.norm2 = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPSILON)
        self.mlp = FeedForward(sizes.width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the block's output, [n, tokens, width] as ``tokens``."""
        tokens = tokens + self.attn(self.norm1(tokens))
        out: Tensor = tokens + self.mlp(self.norm2(tokens))
        return out


class FaceTransformer(nn.Module):
    """Squares of 224 pixels in, tokens out: the class token first, then the patches row by row."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.sizes = sizes
        self.cls_token = nn.Parameter(torch.empty(1, 1, sizes.width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + sizes.patches, sizes.width))
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(3, sizes.width, sizes.patch_px, sizes.patch_px)})
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.layers))
        self.norm = nn.LayerNorm(sizes.width, eps=LAYER_NORM_EPSILON)

    def embed(self, pictures: Tensor) -> Tensor:
        """Return the tokens that enter the first block, [n, 197, width], of normalised pictures [n, 3, 224, 224]."""
        patches = self.patch_embed["proj"](pictures).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1)
        return tokens + self.pos_embed

    def forward(self, pictures: Tensor, layers: Collection[int]) -> dict[int, Tensor]:
        """Return the raw tokens [n, 197, width] after each block of ``layers``, counted from 1; no later block runs."""
        tokens = self.embed(pictures)
        found: dict[int, Tensor] = {}
        for number, block in enumerate(self.blocks[: max(layers)], 1):
            tokens = block(tokens)
            if number in layers:
                found[number] = tokens
        return found


def official_shapes(sizes: Sizes) -> Shapes:
    """Return name and shape of every tensor of the encoder."""
    width = sizes.width
    found: Shapes = {"cls_token": (1, 1, width), "pos_embed": (1, 1 + sizes.patches, width)}
    found |= {"patch_embed.proj.weight": (width, 3, sizes.patch_px, sizes.patch_px), "patch_embed.proj.bias": (width,)}
    for number in range(sizes.layers):
        name = f"blocks.{number}"
        found |= shapes.norm(f"{name}.norm1", width)
        found |= shapes.linear(f"{name}.attn.qkv", 3 * width, width)
        found |= shapes.linear(f"{name}.attn.proj", width, width)
        found |= shapes.norm(f"{name}.norm2", width)
        found |= shapes.linear(f"{name}.mlp.fc1", 4 * width, width)
        found |= shapes.linear(f"{name}.mlp.fc2", width, 4 * width)
    found |= shapes.norm("norm", width)
    return found


def network_of(tensors: Mapping[str, Tensor], sizes: Sizes) -> FaceTransformer:
    """Return the frozen network in evaluation mode; ``tensors`` have been checked."""
    with torch.device("meta"):
        network = FaceTransformer(sizes)
    network.load_state_dict({key: shapes.own(tensor) for key, tensor in tensors.items()}, assign=True)
    return network.requires_grad_(False).eval()


def fresh_tensors(sizes: Sizes, seed: int) -> dict[str, Tensor]:
    """Return float32 tensors as the reference starts from them; the same seed gives the same ones on every machine.

    Linear maps and patches are Xavier uniform, the class token normal with deviation 0.02, biases 0, norms 1 and 0;
    positions are sines and cosines of row and column.
    """
    generator = torch.Generator().manual_seed(seed)
    return dict(_fresh(sizes, generator))


def _fresh(sizes: Sizes, generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    for key, shape in official_shapes(sizes).items():
        if key == "pos_embed":
            yield key, grid_positions(sizes.picture_px // sizes.patch_px, sizes.width)[None]
        elif key == "cls_token":
            yield key, 0.02 * torch.randn(shape, generator=generator)
        elif len(shape) == 1:
            yield key, torch.full(shape, 1.0 if "norm" in key and key.endswith("weight") else 0.0)
        else:
            bound = math.sqrt(6 / (shape[0] + math.prod(shape[1:])))
            yield key, torch.empty(shape).uniform_(-bound, bound, generator=generator)


def grid_positions(side: int, width: int) -> Tensor:
    """Return float32 [1 + side * side, width]: 0 for the class token, then sines and cosines, row by row.

    A patch's first half stands for its column, the second for its row: width / 4 sines, then as many cosines, of the
    angles p / 10000^(4m / width).
    """
    waves = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width // 4))
    angles = torch.arange(side, dtype=torch.float64)[:, None] * waves
    line = torch.cat([angles.sin(), angles.cos()], dim=1)
    row, column = line[:, None].expand(-1, side, -1), line[None].expand(side, -1, -1)
    grid = torch.cat([column, row], dim=2).flatten(0, 1)
    return torch.cat([torch.zeros(1, width), grid.float()])

"""Where in a picture the linear score of its vector comes from, for vision transformers: exact shares, and GradCAM.

The score is s = w·z/|z| + b with z the vector of the picture. Once computed, |z| and the deviation σ of the last norm
are fixed numbers, so s is linear in what the norm reads, with the direction d = (γ∘w - mean(γ∘w)) / (σ|z|); without a
last norm d = w/|z|. What the norm reads is a sum:

    a class token       its start value, and from each block the messages of all tokens (attention weight times value,
                        through the output map), the output map's bias, and the feed-forward's output
    a mean of patches   the patches themselves

so s splits into one signed share for each patch and a rest with names, and all add up to s.

GradCAM (Selvaraju et al., 2017) looks at the tokens A that enter the last block, since the tokens that leave it do not
reach a class token's score at all: with G = ∂s/∂A, the map is max(0, Σ_channels mean_patches(G) · A).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from avfeat.encoders.patch_encoder import PatchShares
from avfeat.errors import EncoderError

TOLERANCE = 1e-3
"""By how much the parts may miss the score, in sizes of the largest part, before the decomposition is called wrong."""


@dataclass(frozen=True)
class Tower:
    """What must be known of a transformer over patches to take its vector apart.

    run: float32 [n, 3, size, size] to vectors [n, width], through ``blocks``.
    blocks: those that the vector goes through, in order.
    norm: the last norm, None where the vector is read without one.
    heads: of its attention.
    leading: tokens before the patches.
    grid: rows and columns of patches.
    pooled: whether the vector is that of the mean of the patches; else it is the first token's.
    """

    run: Callable[[Tensor], Tensor]
    blocks: Sequence[nn.Module]
    norm: nn.LayerNorm | None
    heads: int
    leading: int
    grid: tuple[int, int]
    pooled: bool = False


@dataclass
class _Heard:
    """What hooks caught in one pass, by block: ``last`` is the token sequence that left the last block."""

    start: Tensor | None = None
    entering: Tensor | None = None
    last: Tensor | None = None
    query: dict[int, Tensor] = field(default_factory=dict)
    key: dict[int, Tensor] = field(default_factory=dict)
    value: dict[int, Tensor] = field(default_factory=dict)
    fed: dict[int, Tensor] = field(default_factory=dict)


def explain(tower: Tower, values: Tensor, weight: Tensor, bias: float) -> PatchShares:
    """Take the scores of pictures apart.

    Args:
        tower: the network.
        values: float32 [n, 3, size, size] as the network reads them.
        weight, bias: of the linear score, float32 [width].

    Raises:
        EncoderError: the parts do not add up to the score, so this network is not built as described above.
    """
    with _listening(tower) as heard, torch.enable_grad():
        vectors = tower.run(values)
        lengths = torch.linalg.vector_norm(vectors, dim=1)
        scores = vectors @ weight / lengths + bias
        assert heard.entering is not None
        (gradients,) = torch.autograd.grad(scores.sum(), heard.entering)
    with torch.inference_mode():
        own = heard.entering.detach()[:, tower.leading :]
        channels = gradients[:, tower.leading :].mean(dim=1)
        gradcam = torch.einsum("npc,nc->np", own, channels).relu().double()
        direction, shift = _direction(tower, heard, lengths, weight.double())
        shares, rest = (_pooled if tower.pooled else _class)(tower, heard, direction)
        rest |= {"norm": shift, "bias": torch.full_like(shift, bias)}
        _check(scores.detach().double(), shares, rest)
    shape = (len(values), *tower.grid)
    return PatchShares(
        scores.detach().double().cpu().numpy(),
        shares.reshape(shape).cpu().numpy(),
        {name: part.cpu().numpy() for name, part in rest.items()},
        gradcam.reshape(shape).cpu().numpy(),
    )


def _direction(tower: Tower, heard: _Heard, lengths: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return d float64 [n, width], and what the last norm's own bias adds to each score, float64 [n]."""
    lengths = lengths.detach().double()
    norm = tower.norm
    if norm is None:
        return weight / lengths[:, None], torch.zeros_like(lengths)
    assert heard.last is not None
    tokens = heard.last.detach().double()
    read = tokens[:, tower.leading :].mean(dim=1) if tower.pooled else tokens[:, 0]
    deviation = (read.var(dim=1, correction=0) + norm.eps).sqrt()
    through = weight if norm.weight is None else weight * norm.weight.double()
    shift = lengths.new_zeros(()) if norm.bias is None else norm.bias.double() @ weight
    return (through - through.mean()) / (deviation * lengths)[:, None], shift / lengths


def _pooled(tower: Tower, heard: _Heard, direction: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the shares [n, patches] of a mean of patches, and an empty rest."""
    assert heard.last is not None
    patches = heard.last.detach()[:, tower.leading :].double()
    return torch.einsum("npc,nc->np", patches, direction) / patches.shape[1], {}


def _class(tower: Tower, heard: _Heard, direction: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the shares [n, patches] of what was sent to the class token, and the rest by name, each [n]."""
    assert heard.start is not None
    rest = {
        "start": (heard.start.detach().double() * direction).sum(dim=1),
        "leading tokens": torch.zeros(len(direction), dtype=torch.float64, device=direction.device),
        "attention bias": torch.zeros(len(direction), dtype=torch.float64, device=direction.device),
        "feed-forward": torch.zeros(len(direction), dtype=torch.float64, device=direction.device),
    }
    shares: Any = 0.0
    for number, block in enumerate(tower.blocks):
        out = _output_map(block)
        scaled = direction * _layer_scale(block, "layer_scale1", direction)
        weights, values = _attention(heard, number, tower.heads)
        into = (scaled @ out.weight.double()).reshape(len(scaled), tower.heads, -1)
        sent = torch.einsum("nht,nhtc,nhc->nt", weights, values, into)
        shares = shares + sent[:, tower.leading :]
        rest["leading tokens"] += sent[:, : tower.leading].sum(dim=1)
        if out.bias is not None:
            rest["attention bias"] += scaled @ out.bias.double()
        fed = heard.fed[number].double() * _layer_scale(block, "layer_scale2", direction)
        rest["feed-forward"] += (fed * direction).sum(dim=1)
    return shares, rest


def _attention(heard: _Heard, number: int, heads: int) -> tuple[Tensor, Tensor]:
    """Return the class token's attention weights [n, heads, tokens] and the values [n, heads, tokens, channels]."""
    query, key, value = (caught[number].double() for caught in (heard.query, heard.key, heard.value))
    query = query.reshape(len(query), heads, -1)
    key, value = (each.reshape(*each.shape[:2], heads, -1).transpose(1, 2) for each in (key, value))
    weights = torch.einsum("nhc,nhtc->nht", query, key) / math.sqrt(key.shape[3])
    return weights.softmax(dim=2), value


def _layer_scale(block: nn.Module, name: str, like: Tensor) -> Tensor:
    scale = getattr(block, name, None)
    return like.new_ones(()) if scale is None else scale.lambda1.double()


def _check(scores: Tensor, shares: Tensor, rest: Mapping[str, Tensor]) -> None:
    parts = torch.cat([shares, torch.stack(list(rest.values()), dim=1)], dim=1)
    missed = (parts.sum(dim=1) - scores).abs()
    allowed = TOLERANCE * parts.abs().amax(dim=1).clamp(min=1.0)
    if not bool((missed <= allowed).all()):
        raise EncoderError(
            f"the shares of a picture's patches miss its score by {float(missed.max()):.3g}: this network is not built "
            "as avfeat takes it apart; perhaps this version of transformers computes it another way."
        )


@contextmanager
def _listening(tower: Tower) -> Iterator[_Heard]:
    """Catch what ``explain`` needs while the tower runs; the tokens that enter its last block become leaves."""
    heard = _Heard()
    final = len(tower.blocks) - 1

    def leave(module: nn.Module, inputs: Any, output: Any) -> None:
        heard.last = output[0] if isinstance(output, tuple) else output

    def enter(module: nn.Module, inputs: Any) -> Any:
        heard.entering = inputs[0].detach().requires_grad_()
        return (heard.entering, *inputs[1:])

    def begin(module: nn.Module, inputs: Any) -> None:
        heard.start = inputs[0][:, 0]

    handles = [tower.blocks[0].register_forward_pre_hook(begin)]
    handles.append(tower.blocks[final].register_forward_pre_hook(enter))
    handles.append(tower.blocks[final].register_forward_hook(leave))
    if not tower.pooled:
        for number, block in enumerate(tower.blocks):
            handles += _listen_to_block(heard, number, block)
    try:
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _listen_to_block(heard: _Heard, number: int, block: nn.Module) -> list[Any]:
    def joint(module: nn.Module, inputs: Any, output: Tensor) -> None:
        query, heard.key[number], heard.value[number] = output.detach().chunk(3, dim=2)
        heard.query[number] = query[:, 0]

    def query(module: nn.Module, inputs: Any, output: Tensor) -> None:
        heard.query[number] = output.detach()[:, 0]

    def key(module: nn.Module, inputs: Any, output: Tensor) -> None:
        heard.key[number] = output.detach()

    def value(module: nn.Module, inputs: Any, output: Tensor) -> None:
        heard.value[number] = output.detach()

    def fed(module: nn.Module, inputs: Any, output: Tensor) -> None:
        heard.fed[number] = output.detach()[:, 0]

    parts = _parts(block)
    hooks = {"qkv": joint} if "qkv" in parts else {"q_proj": query, "k_proj": key, "v_proj": value}
    hooks["mlp"] = fed
    absent = [name for name in hooks if name not in parts]
    if absent:
        raise EncoderError(f"a block of this network has no part {absent[0]}, so its score cannot be taken apart.")
    return [parts[name].register_forward_hook(hook) for name, hook in hooks.items()]


def _output_map(block: nn.Module) -> nn.Linear:
    parts = _parts(block)
    for name in ("out_proj", "o_proj", "proj"):
        found = parts.get(name)
        if isinstance(found, nn.Linear):
            return found
    raise EncoderError("the attention of this network has no output map, so its score cannot be taken apart.")


def _parts(block: nn.Module) -> dict[str, nn.Module]:
    """Return the parts of a block by the last word of their names."""
    return {name.rpartition(".")[2]: part for name, part in block.named_modules() if name}

"""CLIP, DINOv2, SigLIP: square pictures in, one vector for each out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avfeat.encoders.base import FeatureName, Request, Rows
from avfeat.encoders.hf_config import Facts
from avfeat.encoders.hf_load import load_network
from avfeat.encoders.patch_encoder import PatchEncoder, PatchShares
from avfeat.encoders.patch_shares import Tower, explain
from avfeat.errors import EncoderError


class PictureEncoder(PatchEncoder):
    """Without a layer: what the network itself calls the picture's vector (its ``pooler_output``).

    CLIP and DINOv2: the normed class token of the last block; SigLIP: its trained pooling over the normed tokens.
    ``@k``: the class token as block k gives it; for SigLIP, which has none, the mean of all tokens. With the setting
    ``final_norm`` on, the network's last norm is applied to inner layers too; off, it is left out of the last.
    """

    def __init__(self, facts: Facts, request: Request):
        self.card, self.wanted = facts.card, request.wanted
        (self.view,) = facts.card.outputs[""].reads
        self._device = request.device
        self._class_token = facts.family.class_token
        self._heads, self._patch_px = facts.config.num_attention_heads, facts.config.patch_size
        self._registers = getattr(facts.config, "num_register_tokens", 0)
        final, choice = facts.config.num_hidden_layers, facts.settings["final_norm"]
        self._pooled = [name for name in request.wanted if name.layer is None and choice != "off"]
        self._inner = {name: name.layer or final for name in request.wanted if name not in self._pooled}
        self._norm_inner = choice == "on"
        _check_pooling(facts, request.wanted, choice)
        blocks = final if self._pooled else max(self._inner.values())
        self._network = load_network(facts, blocks, request.seed, request.device)
        self.provenance = self._network.provenance
        # (x / 255 - mean) / std = x * scale + shift
        mean, std = (torch.tensor(facts.input[key], device=request.device) for key in ("image_mean", "image_std"))
        self._scale, self._shift = (1 / (255 * std))[:, None, None], (-mean / std)[:, None, None]

    @torch.inference_mode()
    def encode_pictures(self, pictures: NDArray[np.uint8], wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows]:
        """Return float32 [n, width] for uint8 RGB [n, size, size, 3]."""
        vectors = self._vectors(self._values(pictures), wanted)
        return {name: vector.float().cpu().numpy() for name, vector in vectors.items()}

    def explain_pictures(
        self, pictures: NDArray[np.uint8], name: FeatureName, weight: NDArray[np.float32], bias: float
    ) -> PatchShares:
        """Take scores apart, see PatchEncoder; not where a network pools its tokens by attention, as SigLIP does."""
        if not self._class_token:
            raise EncoderError(f"{name} has no class token, and its pooling cannot be taken apart here.")
        layers = self._network.layers
        normed = name in self._pooled or self._norm_inner
        side = self.view.size_px // self._patch_px
        tower = Tower(
            run=lambda values: self._vectors(values, [name])[name],
            blocks=layers[: self._inner.get(name, len(layers))],
            norm=cast(nn.LayerNorm, self._network.norm) if normed else None,
            heads=self._heads,
            leading=1 + self._registers,
            grid=(side, side),
        )
        return explain(tower, self._values(pictures), torch.from_numpy(weight).to(self._device), bias)

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of the tower."""
        return self._network.layers

    def _values(self, pictures: NDArray[np.uint8]) -> Tensor:
        """Return the pictures as the network reads them, float32 [n, 3, size, size]."""
        pixels = torch.from_numpy(np.ascontiguousarray(pictures)).to(self._device)
        return pixels.permute(0, 3, 1, 2).float() * self._scale + self._shift

    def _vectors(self, values: Tensor, wanted: Sequence[FeatureName]) -> dict[FeatureName, Tensor]:
        blocks = {self._inner[name] for name in wanted if name in self._inner}
        output, taken = self._network.run(blocks, values, keep=self._vector)
        return {name: taken[self._inner[name]] if name in self._inner else output.pooler_output for name in wanted}

    def _vector(self, tokens: Tensor) -> Tensor:
        """Return one vector for each picture from the tokens [n, tokens, width] of a block."""
        if self._class_token:
            tokens = tokens[:, :1]
        normed: Tensor = self._network.norm(tokens) if self._norm_inner else tokens
        return normed.mean(dim=1)


def _check_pooling(facts: Facts, wanted: Sequence[FeatureName], choice: str) -> None:
    last = [name for name in wanted if name.layer is None]
    if not last or facts.family.class_token:
        return
    layers = facts.config.num_hidden_layers
    if choice == "off":
        raise EncoderError(f"{last[0]}: its pooling reads normed tokens; for raw ones ask for {last[0]}@{layers}.")
    if not getattr(facts.config, "vision_use_head", True):
        raise EncoderError(f"{last[0]}: this checkpoint has no pooling; ask for a layer, e.g. {last[0]}@{layers}.")

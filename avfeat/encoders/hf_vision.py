"""CLIP, DINOv2, SigLIP: square pictures in, one vector for each out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avfeat.encoders.base import FeatureName, FrameEncoder, Request, Rows
from avfeat.encoders.hf_config import Facts
from avfeat.encoders.hf_load import load_network, module_ending
from avfeat.errors import EncoderError

_BATCH = 32
"""Pictures that go through the network at a time; on a CPU more gain nothing."""


class PictureEncoder(FrameEncoder):
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
        final, choice = facts.config.num_hidden_layers, facts.settings["final_norm"]
        self._pooled = [name for name in request.wanted if name.layer is None and choice != "off"]
        self._inner = {name: name.layer or final for name in request.wanted if name not in self._pooled}
        self._norm_inner = choice == "on"
        _check_pooling(facts, request.wanted, choice)
        blocks = final if self._pooled else max(self._inner.values())
        self._network, self.provenance = load_network(facts, blocks, request.seed, request.device)
        self._norm = module_ending(self._network, facts.family.norm)
        layers: Any = module_ending(self._network, facts.family.blocks)
        self._layers: Sequence[nn.Module] = list(layers)
        # (x / 255 - mean) / std = x * scale + shift
        mean, std = (torch.tensor(facts.input[key], device=request.device) for key in ("image_mean", "image_std"))
        self._scale, self._shift = (1 / (255 * std))[:, None, None], (-mean / std)[:, None, None]

    def encode_pictures(self, pictures: NDArray[np.uint8], wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows]:
        """Return float32 [n, width] for uint8 RGB [n, size, size, 3]."""
        batches = [self._batch(pictures[start : start + _BATCH], wanted) for start in range(0, len(pictures), _BATCH)]
        return {name: np.concatenate([batch[name] for batch in batches]) for name in wanted}

    @torch.inference_mode()
    def _batch(self, pictures: NDArray[np.uint8], wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows]:
        pixels = torch.from_numpy(np.ascontiguousarray(pictures)).to(self._device)
        values = pixels.permute(0, 3, 1, 2).float() * self._scale + self._shift
        taken: dict[int, Tensor] = {}

        def keep(block: int) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                taken[block] = self._vector(output[0] if isinstance(output, tuple) else output)

            return hook

        blocks = {self._inner[name] for name in wanted if name in self._inner}
        handles = [self._layers[block - 1].register_forward_hook(keep(block)) for block in blocks]
        try:
            pooled = self._network(values).pooler_output
        finally:
            for handle in handles:
                handle.remove()
        return {name: (taken[self._inner[name]] if name in self._inner else pooled).cpu().numpy() for name in wanted}

    def _vector(self, tokens: Tensor) -> Tensor:
        """Return one vector for each picture from the tokens [n, tokens, width] of a block."""
        if self._class_token:
            tokens = tokens[:, :1]
        normed: Tensor = self._norm(tokens) if self._norm_inner else tokens
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

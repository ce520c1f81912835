"""FSFM's weights, checked, and its rows: one for each picture."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from avfeat.checkpoints import open_checkpoint
from avfeat.device import prepare_device
from avfeat.encoders import shapes
from avfeat.encoders.base import Card, FeatureName, Rows
from avfeat.encoders.fsfm import NAME, SIZES, STATISTICS, Sizes, missing, where
from avfeat.encoders.fsfm_model import LAYER_NORM_EPSILON, fresh_tensors, network_of, official_shapes
from avfeat.encoders.patch_encoder import PatchEncoder, PatchShares
from avfeat.encoders.patch_shares import Tower, explain
from avfeat.errors import WeightsError
from avfeat.views import view_versions
from avfeat.weights import read_tensors, recorded_sha256

IGNORED = (
    "mask_token",
    "rep_decoder_",
    "decoder_",
    "projector.",
    "predictor.",
)
"""What the names of tensors begin with that only training uses."""

_FINE_TUNED = ("fc_norm.", "head.")

MEAN = (0.5482207536697388, 0.42340534925460815, 0.3654651641845703)
DEVIATION = (0.2789176106452942, 0.2438540756702423, 0.23493893444538116)
"""Of VGGFace2's red, green and blue between 0 and 1, for a checkpoint that has no statistics beside it."""


@dataclass(frozen=True)
class Weights:
    """The encoder's tensors, its sizes, the pictures' statistics, and where all that comes from, plain data."""

    tensors: Mapping[str, Tensor]
    sizes: Sizes
    mean: tuple[float, ...]
    deviation: tuple[float, ...]
    origin: Mapping[str, Any]


def find_weights(given: Path | None, seed: int | None) -> Weights:
    """Return the weights that a request asks for.

    Args:
        given: a file of the user's own in place of the published one.
        seed: random weights instead.

    Raises:
        WeightsError: there is no file, or not the right one.
    """
    if seed is not None:
        return Weights(fresh_tensors(SIZES, seed), SIZES, MEAN, DEVIATION, {"weights": "random", "seed": seed})
    if given is None and missing(NAME):
        raise WeightsError(f"{NAME}: {missing(NAME)}.")
    path = given or where(NAME)
    state = read_state(path)
    tensors = encoder_tensors(state, str(path), SIZES)
    mean, deviation, beside = statistics(path)
    origin = {
        "weights": [{"file": each.name, "sha256": recorded_sha256(each)} for each in (path, *beside)],
        "network": _network_kind(state),
    }
    return Weights(tensors, SIZES, mean, deviation, origin)


def read_state(path: Path) -> dict[str, Tensor]:
    """Return all tensors of an official file, or of a safetensors file with the same names.

    Raises:
        WeightsError: it cannot be read, or holds no table of tensors called ``model``.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    state = open_checkpoint(path).content.get("model")
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise WeightsError(f"{path} holds no table of tensors called 'model', so it is no file of FSFM.")
    return state


def encoder_tensors(state: Mapping[str, Tensor], source: str, sizes: Sizes) -> dict[str, Tensor]:
    """Return the encoder's tensors as float32.

    Raises:
        WeightsError: it is a fine-tuned file; or a tensor is missing, unknown or of another shape; names it.
    """
    tuned = [key for key in state if key.startswith(_FINE_TUNED)]
    if tuned:
        raise WeightsError(
            f"{source} is fine-tuned: {shapes.some(tuned)} there. {NAME} is the pre-trained network: take a file of "
            "the folder pretrained_models."
        )
    tensors = {key: tensor.float() for key, tensor in state.items() if not key.startswith(IGNORED)}
    shapes.check_tensors(tensors, official_shapes(sizes), source)
    return tensors


def _network_kind(state: Mapping[str, Tensor]) -> str:
    """Return which of the two networks of training it is; the authors recommend the online one."""
    if not any(key.startswith("projector.") for key in state):
        return "unknown"
    return "online" if any(key.startswith("predictor.") for key in state) else "target"


def statistics(checkpoint: Path) -> tuple[tuple[float, ...], tuple[float, ...], list[Path]]:
    """Return mean and deviation of the training's pictures, and the file they are from, if there is one.

    Raises:
        WeightsError: there is one beside the checkpoint, and its first line does not say them.
    """
    path = checkpoint.with_name(STATISTICS.name)
    if not path.is_file():
        return MEAN, DEVIATION, []
    try:
        said = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
        mean, deviation = (tuple(float(value) for value in said[key]) for key in ("mean", "std"))
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise WeightsError(f"{path} should begin with a line of JSON with mean and std ({error}).") from error
    if len(mean) != 3 or len(deviation) != 3 or not min(deviation) > 0:
        raise WeightsError(f"{path} should give three numbers as mean and three above 0 as std.")
    return mean, deviation, [path]


class FsfmEncoder(PatchEncoder):
    """FSFM over one picture at a time; see ``avfeat.encoders.fsfm`` for what its rows are."""

    def __init__(
        self,
        card: Card,
        wanted: tuple[FeatureName, ...],
        weights: Weights,
        settings: Mapping[str, str],
        device: str = "cpu",
    ):
        prepare_device(device)
        self.card, self.wanted = card, wanted
        (self.view,) = card.outputs[""].reads
        self._device = device
        self._class_token = settings["pooling"] == "class"
        self._network = network_of(weights.tensors, weights.sizes).to(device)
        self._margin = (self.view.size_px - weights.sizes.picture_px) // 2
        # (x / 255 - mean) / std = x * scale + shift
        mean, deviation = (torch.tensor(each, device=device) for each in (weights.mean, weights.deviation))
        self._scale, self._shift = (1 / (255 * deviation))[:, None, None], (-mean / deviation)[:, None, None]
        self.provenance = dict(weights.origin) | {
            "settings": dict(settings),
            "input": {"mean": list(weights.mean), "std": list(weights.deviation), "face": _FACES[settings["crop"]]},
            "versions": {"torch": torch.__version__.split("+")[0]} | view_versions(),
        }

    @torch.inference_mode()
    def encode_pictures(self, pictures: NDArray[np.uint8], wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows]:
        """Return float32 [n, width] for uint8 RGB [n, size, size, 3]."""
        last = self._network.sizes.layers
        tokens = self._network(self.values(pictures), {name.layer or last for name in wanted})
        return {name: self._vector(tokens[name.layer or last], name.layer).float().cpu().numpy() for name in wanted}

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of the transformer."""
        return list(self._network.blocks)

    def values(self, pictures: NDArray[np.uint8]) -> Tensor:
        """Return the middle of the pictures as the network reads it, float32 [n, 3, 224, 224]."""
        inner = slice(self._margin, pictures.shape[1] - self._margin)
        pixels = torch.from_numpy(np.ascontiguousarray(pictures[:, inner, inner])).to(self._device)
        return pixels.permute(0, 3, 1, 2).float() * self._scale + self._shift

    def explain_pictures(
        self, pictures: NDArray[np.uint8], name: FeatureName, weight: NDArray[np.float32], bias: float
    ) -> PatchShares:
        """Take scores apart, see PatchEncoder."""
        sizes = self._network.sizes
        last = name.layer or sizes.layers
        plain = torch.nn.LayerNorm(sizes.width, LAYER_NORM_EPSILON, elementwise_affine=False)
        class_norm = self._network.norm if name.layer is None else None
        side = sizes.picture_px // sizes.patch_px
        tower = Tower(
            run=lambda values: self._vector(self._network(values, {last})[last], name.layer),
            blocks=list(self._network.blocks[:last]),
            norm=class_norm if self._class_token else plain,
            heads=sizes.heads,
            leading=1,
            grid=(side, side),
            pooled=not self._class_token,
        )
        return explain(tower, self.values(pictures), torch.from_numpy(weight).to(self._device), bias)

    def patch_box(self) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the grid of patches, in pixels of the view."""
        end = self.view.size_px - self._margin
        return self._margin, self._margin, end, end

    def _vector(self, tokens: Tensor, layer: int | None) -> Tensor:
        """Return one vector for each picture from the raw tokens [n, 197, width] of a block."""
        if self._class_token:
            token = tokens[:, 0]
            return token if layer is not None else self._network.norm(token)
        return F.layer_norm(tokens[:, 1:].mean(dim=1), tokens.shape[2:], eps=LAYER_NORM_EPSILON)


_FACES = {
    "upright": "square of face_margin times the tight box of 68 smoothed landmarks, upright, black outside the picture",
    "plain": "square of 1.3 times the box of the frame's 68 landmarks, as the picture is, shrunk at its borders",
}
"""What stands in for the authors' detector, dlib: written into the store."""

"""VideoMAE over a clip that comes in blocks: what is kept is one window of pictures, and a row for each frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from avfeat.encoders.base import Encoder, Encoding, FeatureName, Request, Rows
from avfeat.encoders.hf import Source
from avfeat.encoders.hf_config import Facts, check_version
from avfeat.encoders.hf_files import CONFIG, find_folder
from avfeat.encoders.hf_load import load_network, module_ending
from avfeat.encoders.settings import chosen
from avfeat.encoders.videomae import FAMILY, RECORD, SETTINGS, card_of
from avfeat.errors import NoPicturesError, WeightsError
from avfeat.views import Views

Pictures = NDArray[np.uint8]


def inspect(request: Request) -> Facts:
    """Read and check everything but the tensors.

    Raises:
        EncoderError: no such setting.
        WeightsError: a user's folder holds another network, or one whose input is prepared otherwise.
        SetupError: transformers is too old.
    """
    check_version()
    card = card_of(request.encoder, request.settings)
    settings = chosen(request.encoder, request.settings, SETTINGS[request.encoder])
    source = Source(request.encoder, RECORD.repository, request.weights, record=RECORD)
    if request.weights is None:
        config = transformers.VideoMAEConfig(**RECORD.config)
    else:
        checkpoint = find_folder(source, weights=False)
        kind = (checkpoint.read_json(CONFIG) or {}).get("model_type")
        if kind != RECORD.family:
            raise WeightsError(f"{source.place} is of the architecture {kind!r}, not {RECORD.family!r}.")
        config = transformers.VideoMAEConfig.from_pretrained(checkpoint.folder)
        _check(source, config, checkpoint.read_input() or {})
    return Facts(source, FAMILY, config, RECORD.input, settings, card)


def _check(source: Source, config: Any, given: Mapping[str, Any]) -> None:
    """Refuse a folder that holds another network than its name says."""
    differ = {name: (getattr(config, name, None), right) for name, right in RECORD.config.items()}
    differ |= {name: (tuple(given[name]), RECORD.input[name]) for name in ("image_mean", "image_std") if name in given}
    said = [f"{name} {found} instead of {right}" for name, (found, right) in differ.items() if found != right]
    if said:
        hint = " (fine-tuned networks have use_mean_pooling and no last norm)" if "pooling" in " ".join(said) else ""
        raise WeightsError(f"{source.place} is not {source.name}: it has {', '.join(said)}{hint}.")


class VideoMaeEncoder(Encoder):
    """The last norm is applied to every token, then the mean is taken: the other way round is another vector.

    ``final_norm``: ``auto`` norms the last layer only, ``on`` all, ``off`` none.
    """

    def __init__(self, facts: Facts, request: Request):
        self.card, self.wanted = facts.card, request.wanted
        (self.view,) = facts.card.outputs[""].reads
        self.sampling = int(facts.settings["sampling"])
        self.pictures: int = facts.config.num_frames
        self._device = request.device
        self._tube: int = facts.config.tubelet_size
        final, choice = facts.config.num_hidden_layers, facts.settings["final_norm"]
        self._blocks = {name: name.layer or final for name in request.wanted}
        self._normed = {name: choice == "on" or (choice == "auto" and name.layer is None) for name in request.wanted}
        self._network, self.provenance = load_network(facts, max(self._blocks.values()), request.seed, request.device)
        self._norm = module_ending(self._network, facts.family.norm)
        layers: Any = module_ending(self._network, facts.family.blocks)
        self._layers: Sequence[nn.Module] = list(layers)
        # (x / 255 - mean) / std = x * scale + shift
        mean, std = (torch.tensor(facts.input[key], device=request.device) for key in ("image_mean", "image_std"))
        self._scale, self._shift = (1 / (255 * std))[:, None, None], (-mean / std)[:, None, None]

    @property
    def span(self) -> int:
        """Frames that a window covers."""
        return self.pictures * self.sampling

    def begin(self) -> Encoding:
        """Start a new clip."""
        return _Windows(self)

    @torch.inference_mode()
    def encode_window(self, window: Pictures) -> dict[FeatureName, Rows]:
        """Return float32 [span, width] for uint8 RGB [span, size, size, 3].

        With a sampling of s these are s sets of pictures, each every s-th one; a frame's row is its own set's vector.
        """
        shape = (self.pictures, self.sampling, *window.shape[1:])
        sets = torch.from_numpy(np.ascontiguousarray(window)).to(self._device).view(shape).transpose(0, 1)
        taken = self._run(sets.permute(0, 1, 4, 2, 3).float() * self._scale + self._shift)
        rows = {}
        for name in self.wanted:
            tokens = taken[self._blocks[name]]
            tokens = self._norm(tokens) if self._normed[name] else tokens
            vectors = tokens.unflatten(1, (self.pictures // self._tube, -1)).mean(dim=2)
            frames = vectors.repeat_interleave(self._tube, dim=1).transpose(0, 1).flatten(0, 1)
            rows[name] = frames.cpu().numpy()
        return rows

    def _run(self, values: Tensor) -> dict[int, Tensor]:
        """Return the raw tokens [sets, 8 x 196, width] of the blocks that are wanted, counted from 1."""
        taken: dict[int, Tensor] = {}

        def keep(block: int) -> Any:
            def hook(module: nn.Module, inputs: Any, output: Any) -> None:
                taken[block] = output[0] if isinstance(output, tuple) else output

            return hook

        handles = [self._layers[block - 1].register_forward_hook(keep(block)) for block in set(self._blocks.values())]
        try:
            self._network(values)
        finally:
            for handle in handles:
                handle.remove()
        return taken


class _Windows(Encoding):
    """Frames 0 … ``_done`` - 1 have their rows; ``_held`` are the last pictures, up to frame ``_total``."""

    def __init__(self, encoder: VideoMaeEncoder):
        self._encoder = encoder
        self._held: Pictures | None = None
        self._done = self._total = 0
        self._rows: dict[FeatureName, list[Rows]] = {name: [] for name in encoder.wanted}

    def take(self, views: Views) -> None:
        pictures = views.pictures.get(self._encoder.view)
        if pictures is None or not len(pictures):
            return
        held = pictures if self._held is None else np.concatenate([self._held, pictures])
        self._total += len(pictures)
        span = self._encoder.span
        while self._total - self._done >= span:
            first = len(held) - (self._total - self._done)
            self._add(held[first : first + span], span)
            self._done += span
        self._held = held[-span:].copy()

    def finish(self, wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows]:
        if self._held is None:
            raise NoPicturesError(f"{self._encoder.card.name} was given no picture of this clip.")
        rest, span = self._total - self._done, self._encoder.span
        if rest:
            short = span - len(self._held)
            window = np.concatenate([self._held, np.repeat(self._held[-1:], short, axis=0)])
            self._add(window, rest, first=span - rest if not short else 0)
        return {name: np.concatenate(self._rows[name]) for name in wanted}

    def _add(self, window: Pictures, count: int, first: int = 0) -> None:
        """Keep the rows of ``count`` frames of a window, from its ``first`` on."""
        for name, rows in self._encoder.encode_window(window).items():
            self._rows[name].append(rows[first : first + count])

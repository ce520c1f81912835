"""VideoMAE, V-JEPA 2: windows of pictures in, one vector for every frame out.

A window's pictures become tubes of two each; a vector is the mean of one tube's tokens, so rows come in equal pairs.
Windows lie end to end; where the last would lack pictures one more window ends with the clip. A clip shorter than a
window shows its last picture until the window is full. ``@k`` is the mean of block k's own output.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from avfeat.encoders.base import Encoder, Encoding, FeatureName, Request, Rows
from avfeat.encoders.hf_config import Facts
from avfeat.encoders.hf_load import load_network
from avfeat.errors import NoPicturesError
from avfeat.views import Views

Pictures = NDArray[np.uint8]


class WindowEncoder(Encoder):
    """The last norm is applied to every token, then the mean is taken: the other way round is another vector.

    ``final_norm``: ``auto`` norms the last layer only, ``on`` all, ``off`` none.
    """

    def __init__(self, facts: Facts, request: Request):
        self.card, self.wanted = facts.card, request.wanted
        (self.view,) = facts.card.outputs[""].reads
        self.sampling = int(facts.settings["sampling"])
        self.pictures: int = getattr(facts.config, facts.family.frames)
        self._device = request.device
        self._tube: int = facts.config.tubelet_size
        final, choice = facts.config.num_hidden_layers, facts.settings["final_norm"]
        self._blocks = {name: name.layer or final for name in request.wanted}
        self._normed = {name: choice == "on" or (choice == "auto" and name.layer is None) for name in request.wanted}
        self._network = load_network(facts, max(self._blocks.values()), request.seed, request.device)
        self.provenance = self._network.provenance
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

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of the transformer."""
        return self._network.layers

    @torch.inference_mode()
    def encode_window(self, window: Pictures) -> dict[FeatureName, Rows]:
        """Return float32 [span, width] for uint8 RGB [span, size, size, 3].

        With a sampling of s these are s sets of pictures, each every s-th one; a frame's row is its own set's vector.
        """
        shape = (self.pictures, self.sampling, *window.shape[1:])
        sets = torch.from_numpy(np.ascontiguousarray(window)).to(self._device).view(shape).transpose(0, 1)
        values = sets.permute(0, 1, 4, 2, 3).float() * self._scale + self._shift
        _, taken = self._network.run(set(self._blocks.values()), values)
        rows = {}
        for name in self.wanted:
            tokens = taken[self._blocks[name]]
            tokens = self._network.norm(tokens) if self._normed[name] else tokens
            vectors = tokens.unflatten(1, (self.pictures // self._tube, -1)).mean(dim=2)
            frames = vectors.repeat_interleave(self._tube, dim=1).transpose(0, 1).flatten(0, 1)
            rows[name] = frames.float().cpu().numpy()
        return rows


class _Windows(Encoding):
    """Frames 0 … ``_done`` - 1 have their rows; ``_held`` are the last pictures, up to frame ``_total``."""

    def __init__(self, encoder: WindowEncoder):
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

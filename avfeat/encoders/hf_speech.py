"""wav2vec 2.0, HuBERT, WavLM: 16 kHz sound in, two joined 20 ms steps of the network for every 40 ms out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avfeat.encoders.base import ClipEncoder, Encoding, FeatureName, Request, Rows, WholeClip
from avfeat.encoders.batches import buckets
from avfeat.encoders.hf import HOP, WINDOW
from avfeat.encoders.hf_config import Facts
from avfeat.encoders.hf_load import load_network
from avfeat.errors import EncoderError, TooLongError, TooShortError
from avfeat.timeline import SOUND_RATE_HZ
from avfeat.views import Views

_PIECE_STEPS = 500
"""Steps that the convolutions make at a time: 10 s."""

_WHOLE_STEPS = 1500
"""Sound of up to 30 s goes through the convolutions in one piece."""

BATCH_SAMPLES = 60 * SOUND_RATE_HZ
"""Sound, padding included, that goes through the network at a time where clips go together."""


def step_count(samples: int) -> int:
    """Return how many 20 ms steps the network makes of ``samples`` >= 400."""
    return (samples - WINDOW) // HOP + 1


def unit_variance(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the clip with mean 0 and variance 1 over all its samples, as the networks' own preparation does."""
    normalised: NDArray[np.float32] = (sound - sound.mean()) / np.sqrt(sound.var() + 1e-7)
    return normalised


def joined_pairs(steps: Tensor) -> Tensor:
    """Join steps 2i and 2i + 1 of [n, width] to row i of [ceil(n / 2), 2 width]; an odd last step is repeated."""
    if len(steps) % 2:
        steps = torch.cat([steps, steps[-1:]])
    return steps.reshape(len(steps) // 2, -1)


class SpeechEncoder(ClipEncoder):
    """Whole clips: attention looks at all of one. Alone, or behind a mask where no norm would see a batch's padding.

    ``final_norm``: networks with pre-norm blocks end in a norm that was trained for the last block. ``auto`` applies
    it to the last layer only, as the network does itself; the others have no such norm.
    """

    def __init__(self, facts: Facts, request: Request):
        self.card, self.wanted = facts.card, request.wanted
        self._device = request.device
        self._normalise: bool = facts.input["do_normalize"]
        self._limit_seconds: float = facts.settings["limit_seconds"]
        self._limit_samples = self._limit_seconds * SOUND_RATE_HZ
        # A norm over the whole clip takes its mean over the padding too, and no mask can undo that.
        self._masks = facts.config.feat_extract_norm == "layer"
        final = facts.config.num_hidden_layers
        self._blocks = {name: final if name.layer is None else name.layer for name in request.wanted}
        self._normed = _normed(facts, request.wanted)
        self._network = load_network(facts, max(self._blocks.values()), request.seed, request.device)
        self.provenance = self._network.provenance
        self._network.module.feature_extractor = Convolutions(self._network.module.feature_extractor)

    def encode(self, views: Views, wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows]:
        """Return float32 [ceil(steps / 2), 2 x the network's width]; 640 T samples give T rows.

        Raises:
            TooShortError: fewer than 400 samples.
            TooLongError: more than ``limit_seconds``.
        """
        assert views.sound is not None
        samples = len(views.sound)
        if samples < WINDOW:
            raise TooShortError(f"the sound has {samples} samples and {self.card.name} needs {WINDOW}, 25 ms.")
        if samples > self._limit_samples:
            raise TooLongError(
                f"the sound lasts {samples / SOUND_RATE_HZ:.1f} s and {self.card.name} takes {self._limit_seconds:g} s "
                "in one piece; where memory allows, set limit_seconds higher."
            )
        rows = self._rows([self._prepared(views.sound)])[0]
        return {name: rows[name] for name in wanted}

    def together(self, encodings: Sequence[Encoding]) -> None:
        """Encode clips of like length at once, each behind a mask; those that only one piece can hold stay alone."""
        if not self._masks:
            return
        clips, sounds = [], []
        for each in encodings:
            assert isinstance(each, WholeClip)
            sound = each.views().sound
            if sound is not None and WINDOW <= len(sound) <= min(_WHOLE_STEPS * HOP, self._limit_samples):
                clips.append(each)
                sounds.append(self._prepared(sound))
        for bucket in buckets([len(sound) for sound in sounds], BATCH_SAMPLES):
            if len(bucket) > 1:
                for place, rows in zip(bucket, self._rows([sounds[place] for place in bucket]), strict=True):
                    clips[place].ready = rows

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of the transformer."""
        return self._network.layers

    def _prepared(self, sound: NDArray[np.float32]) -> NDArray[np.float32]:
        return unit_variance(sound) if self._normalise else sound

    @torch.inference_mode()
    def _rows(self, sounds: Sequence[NDArray[np.float32]]) -> list[dict[FeatureName, Rows]]:
        """Return the rows of all features for each sound, as it has been prepared."""
        longest = max(map(len, sounds))
        values = torch.zeros(len(sounds), longest)
        mask = torch.zeros(len(sounds), longest, dtype=torch.long)
        for place, sound in enumerate(sounds):
            values[place, : len(sound)] = torch.from_numpy(sound)
            mask[place, : len(sound)] = 1
        masked: dict[str, Any] = {"attention_mask": mask.to(self._device)} if len(sounds) > 1 else {}
        _, taken = self._network.run(set(self._blocks.values()), values.to(self._device), **masked)
        steps = {
            name: self._network.norm(taken[block]) if self._normed[name] else taken[block]
            for name, block in self._blocks.items()
        }
        return [
            {
                name: joined_pairs(each[place, : step_count(len(sound))]).float().cpu().numpy()
                for name, each in steps.items()
            }
            for place, sound in enumerate(sounds)
        ]


def _normed(facts: Facts, wanted: Sequence[FeatureName]) -> dict[FeatureName, bool]:
    choice = facts.settings["final_norm"]
    if not facts.config.do_stable_layer_norm:
        if choice == "on":
            raise EncoderError(f"{facts.source.name} has no final norm: its blocks end in norms of their own.")
        return dict.fromkeys(wanted, False)
    return {name: choice == "on" or (choice == "auto" and name.layer is None) for name in wanted}


class Convolutions(nn.Module):
    """The network's own convolutions, in pieces where the sound is long: the same numbers in bounded memory.

    No convolution pads, so step k depends on samples 320 k ... 320 k + 399 alone. Where the first convolution ends
    in a norm over the whole clip, its statistics are taken in a first pass over the pieces.
    """

    def __init__(self, extractor: Any):
        super().__init__()
        self.extractor = extractor

    def forward(self, sound: Tensor) -> Tensor:
        """Return [1, channels, steps] for [1, samples]."""
        steps = step_count(sound.shape[1])
        if steps <= _WHOLE_STEPS:
            whole: Tensor = self.extractor(sound)
            return whole
        first = self.extractor.conv_layers[0]
        over_clip = isinstance(getattr(first, "layer_norm", None), nn.GroupNorm)
        statistics = _channel_statistics(first, sound) if over_clip else None
        pieces = []
        for start in range(0, steps, _PIECE_STEPS):
            stop = min(start + _PIECE_STEPS, steps)
            piece = sound[:, HOP * start : HOP * (stop - 1) + WINDOW]
            pieces.append(self.extractor(piece) if statistics is None else self._with(statistics, piece))
        return torch.cat(pieces, dim=2)

    def _with(self, statistics: tuple[Tensor, Tensor], sound: Tensor) -> Tensor:
        mean, variance = statistics
        first, *others = self.extractor.conv_layers
        norm = first.layer_norm
        hidden = first.conv(sound[:, None])
        scale = norm.weight / torch.sqrt(variance + norm.eps)
        hidden = first.activation((hidden - mean[:, None]) * scale[:, None] + norm.bias[:, None])
        for layer in others:
            hidden = layer(hidden)
        result: Tensor = hidden
        return result


def _channel_statistics(first: Any, sound: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance of each channel of the first convolution over the whole clip."""
    kernel, stride = first.conv.kernel_size[0], first.conv.stride[0]
    columns = (sound.shape[1] - kernel) // stride + 1
    piece = _PIECE_STEPS * HOP // stride
    total = square = torch.zeros(first.conv.out_channels, dtype=torch.float64, device=sound.device)
    for start in range(0, columns, piece):
        stop = min(start + piece, columns)
        hidden = first.conv(sound[:, None, stride * start : stride * (stop - 1) + kernel])[0].double()
        total = total + hidden.sum(dim=1)
        square = square + (hidden * hidden).sum(dim=1)
    mean = total / columns
    return mean.float(), (square / columns - mean * mean).float()

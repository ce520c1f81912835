"""Whisper's encoder: log-mel spectra of 30 s of sound in, two joined 20 ms steps of the network for every 40 ms out.

The network takes 30 s, no more and no less: shorter sound is filled up with silence, which takes part, as in training,
and whose steps are left out. Longer sound is read in windows that lie end to end; each is prepared for itself, and none
hears across a seam. Trained with transcripts: not self-supervised.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from torch import Tensor, nn

from avfeat.encoders.base import ClipEncoder, FeatureName, Request, Rows
from avfeat.encoders.hf import HOP
from avfeat.encoders.hf_config import Facts
from avfeat.encoders.hf_load import load_network
from avfeat.encoders.hf_speech import joined_pairs
from avfeat.errors import TooShortError
from avfeat.timeline import SOUND_RATE_HZ
from avfeat.views import Views


class WhisperEncoder(ClipEncoder):
    """Window by window, so that a clip of any length needs the memory of one.

    ``final_norm``: ``auto`` norms the last layer only, as the network does itself, ``on`` all, ``off`` none.
    """

    def __init__(self, facts: Facts, request: Request):
        self.card, self.wanted = facts.card, request.wanted
        self._device = request.device
        seconds: int = facts.input["window_seconds"]
        self._window = seconds * SOUND_RATE_HZ
        preparation: Any = transformers.WhisperFeatureExtractor
        self._spectra = preparation(feature_size=facts.input["mel_bands"], chunk_length=seconds)
        final, choice = facts.config.num_hidden_layers, facts.settings["final_norm"]
        self._blocks = {name: name.layer or final for name in request.wanted}
        self._normed = {name: choice == "on" or (choice == "auto" and name.layer is None) for name in request.wanted}
        self._network = load_network(facts, max(self._blocks.values()), request.seed, request.device)
        self.provenance = self._network.provenance

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of the encoder."""
        return self._network.layers

    def encode(self, views: Views, wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows]:
        """Return float32 [ceil(samples / 640), 2 x the network's width].

        Raises:
            TooShortError: there is not one sample.
        """
        assert views.sound is not None
        if not len(views.sound):
            raise TooShortError("the sound track holds no sample.")
        rows: dict[FeatureName, list[Rows]] = {name: [] for name in wanted}
        for start in range(0, len(views.sound), self._window):
            sound = views.sound[start : start + self._window]
            steps = -(-len(sound) // HOP)
            for name, tokens in self._run(sound, wanted).items():
                rows[name].append(joined_pairs(tokens[:steps]).float().cpu().numpy())
        return {name: np.concatenate(each) for name, each in rows.items()}

    @torch.inference_mode()
    def _run(self, sound: NDArray[np.float32], wanted: Sequence[FeatureName]) -> dict[FeatureName, Tensor]:
        """Return [steps, width] of one window, those of the silence behind the sound too."""
        with torch.autocast("cpu", enabled=False):
            spectra = self._spectra(sound, sampling_rate=SOUND_RATE_HZ, return_tensors="pt").input_features
        _, taken = self._network.run({self._blocks[name] for name in wanted}, spectra.to(self._device))
        tokens = {name: taken[self._blocks[name]][0] for name in wanted}
        return {name: self._network.norm(each) if self._normed[name] else each for name, each in tokens.items()}

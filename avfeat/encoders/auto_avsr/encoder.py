"""Auto-AVSR over one clip: what is heard normalised, what is seen, and both joined."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from avfeat.encoders.auto_avsr.model import AudioVisual
from avfeat.encoders.base import Card, FeatureName, Rows
from avfeat.encoders.blocks import LipResNet
from avfeat.encoders.branches import BranchEncoder, Sound
from avfeat.errors import ClipError, EncoderError, LengthError, TooShortError
from avfeat.timeline import SAMPLES_PER_FRAME

_EPSILON = 1e-8


def unit_variance(sound: Sound) -> Sound:
    """Return float32 (x - mean) / sqrt(var + 1e-8) over all samples, those behind the last whole frame too."""
    wide = sound.astype(np.float64)
    normalised: Sound = ((wide - wide.mean()) / np.sqrt(wide.var() + _EPSILON)).astype(np.float32)
    return normalised


class AutoAvsrEncoder(BranchEncoder):
    """``a`` and ``v`` from a network each; ``av`` from one that has both branches and joins their rows.

    ``av`` has a row for each picture: its sound is cut or filled with zeros to as many frames, then normalised, as the
    reference's data set does. Sound and pictures that differ by more than a frame fail, unless ``short_stream`` is
    ``fit``.
    """

    def __init__(
        self,
        card: Card,
        wanted: tuple[FeatureName, ...],
        networks: Mapping[str, nn.Module],
        settings: Mapping[str, Any],
        origin: Mapping[str, Any],
        device: str = "cpu",
    ):
        inner = [name for name in wanted if name.stream == "av" and name.layer is not None]
        if inner:
            raise EncoderError(f"{inner[0]}: the joined stream has no layers of its own; name a layer of .a or .v.")
        super().__init__(card, wanted, networks, dict(origin) | {"settings": dict(settings)}, device)
        self._fit = settings["short_stream"] == "fit"

    def prepared(self, sound: Sound) -> Sound:
        """Return the sound with mean 0 and variance 1."""
        return unit_variance(sound) if len(sound) else sound

    def stream_rows(
        self, stream: str, names: Sequence[FeatureName], sound: Sound | None, seen: Mapping[LipResNet, Tensor]
    ) -> Mapping[FeatureName, Rows | ClipError]:
        """Return the rows of one stream's features.

        Raises:
            TooShortError: there is no picture, no sample, or less than a frame of sound for ``a``.
            LengthError: ``av``'s sound and pictures differ by more than a frame.
        """
        if stream != "av":
            return super().stream_rows(stream, names, sound, seen)
        network = self.networks[stream]
        assert isinstance(network, AudioVisual) and sound is not None
        vectors = self.seen(network.encoder, seen)
        fitting = self.prepared(self._fitting(sound, vectors.shape[1]))
        lips = network.encoder.transform(vectors)[None]
        voice = network.aux_encoder.transform(self.heard(network.aux_encoder, fitting))[None]
        rows: Rows = network.fusion(lips, voice)[0].float().cpu().numpy()
        return dict.fromkeys(names, rows)

    def _fitting(self, sound: Sound, frames: int) -> Sound:
        if not len(sound):
            raise TooShortError("there is no sample of sound.")
        heard = len(sound) // SAMPLES_PER_FRAME
        if abs(heard - frames) > 1 and not self._fit:
            raise LengthError(
                f"its sound gives {heard} steps of 40 ms and its pictures {frames}, more than one apart: have the clip "
                "mended, or cut or fill the sound with the setting short_stream=fit."
            )
        samples = frames * SAMPLES_PER_FRAME
        fitting: Sound = np.pad(sound[:samples], (0, max(samples - len(sound), 0)))
        return fitting

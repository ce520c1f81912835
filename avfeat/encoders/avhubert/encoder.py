"""One clip's mouths and sound in, the rows of all wanted streams and layers out; the streams share what they can."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avfeat.device import prepare_device
from avfeat.encoders import filterbank
from avfeat.encoders.avhubert.model import AvHubert
from avfeat.encoders.avhubert.preprocess import central, normalised, silent_frames
from avfeat.encoders.avhubert.reencode import reencoded
from avfeat.encoders.base import Card, ClipEncoder, FeatureName, Late, Result, Rows
from avfeat.encoders.blocks import STEM_REACH
from avfeat.encoders.lips import BLOCK_FRAMES, LipStream
from avfeat.errors import ClipError, LengthError, TooShortError
from avfeat.timeline import RATE_HZ, SAMPLES_PER_FRAME
from avfeat.views import MOUTH, MOUTH_COLOUR, Views

Mouths = NDArray[np.uint8]
Sound = NDArray[np.float32]


class AvHubertEncoder(ClipEncoder):
    """AV-HuBERT over whole clips, one at a time.

    ``a`` has a row for each stacked step of the sound, ``v`` one for each picture. ``av`` has as many as the shorter of
    the two; when they differ by more than one frame it fails, or with ``short_stream: trim`` is cut all the same. With
    ``common_length: true`` that holds for all three, as in the reference, whose sound mostly has a step too many.
    Each stream depends on what it reads alone, never on which others are wanted beside it.
    """

    def __init__(
        self,
        card: Card,
        wanted: tuple[FeatureName, ...],
        model: AvHubert,
        settings: Mapping[str, Any],
        provenance: Mapping[str, Any],
        *,
        trimmed: bool = False,
        device: str = "cpu",
    ):
        prepare_device(device)
        self.card = card
        self.wanted = wanted
        self.model = model.to(device)
        self._settings = settings
        self._common_length = settings["common_length"] == "true"
        self._trimmed = trimmed
        self._device = device
        self.provenance = {
            **provenance,
            "settings": dict(settings),
            "trim_silence": trimmed,
            "versions": {"torch": torch.__version__.split("+")[0], "numpy": np.__version__},
        }

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of the transformer."""
        return list(self.model.encoder.layers)

    @torch.inference_mode()
    def encode(self, views: Views, wanted: Sequence[FeatureName]) -> dict[FeatureName, Result]:
        """Return float32 [T, width] for each feature; trimmed ones say how much later they begin.

        Raises:
            TooShortError: there is no sample of sound, no picture, or nothing but silence.
        """
        sound = views.sound
        mouths = next((views.pictures[view] for view in (MOUTH, MOUTH_COLOUR) if view in views.pictures), None)
        if mouths is not None and len(mouths) and self._settings["mouth_reencode"] == "true":
            mouths = reencoded(mouths)
        if self._trimmed:
            assert sound is not None
            skipped = silent_frames(sound)
            sound = sound[skipped * SAMPLES_PER_FRAME :]
            mouths = None if mouths is None else mouths[skipped:]
            rows = self._streams(sound, mouths, wanted)
            late = skipped / RATE_HZ
            return {name: each if isinstance(each, ClipError) else Late(each, late) for name, each in rows.items()}
        return dict(self._streams(sound, mouths, wanted))

    def _streams(
        self, sound: Sound | None, mouths: Mouths | None, wanted: Sequence[FeatureName]
    ) -> dict[FeatureName, Rows | ClipError]:
        streams = {name.stream for name in wanted}
        heard = seen = None
        if streams & {"a", "av"}:
            assert sound is not None
            heard = self._heard(sound)
        if mouths is not None:
            mouths = central(mouths)
        if streams & {"v", "av"}:
            assert mouths is not None
            seen = self._seen(mouths)
        rows: dict[FeatureName, Rows | ClipError] = {}
        for stream in sorted(streams):
            names = [name for name in wanted if name.stream == stream]
            try:
                frames = self._common(sound, mouths) if stream == "av" or self._common_length else None
            except LengthError as error:
                rows |= dict.fromkeys(names, error)
                continue
            sounding = heard[:frames] if heard is not None and "a" in stream else None
            showing = self._until(mouths, seen, frames) if seen is not None and "v" in stream else None
            rows |= self._rows(names, sounding, showing)
        return {name: rows[name] for name in wanted}

    def _heard(self, sound: Sound) -> Tensor:
        if not len(sound):
            raise TooShortError("there is no sample of sound.")
        steps = torch.from_numpy(filterbank.stacked_filterbank(sound)).to(self._device)
        out: Tensor = self.model.feature_extractor_audio(steps)
        return out

    def _seen(self, mouths: Mouths) -> Tensor:
        """Return the front-end's output for a clip's pictures."""
        if not len(mouths):
            raise TooShortError("there is no picture.")
        front_end = self.model.feature_extractor_video
        lips = LipStream(front_end.resnet, self._device)
        for start in range(0, len(mouths), BLOCK_FRAMES):
            lips.take(torch.from_numpy(normalised(mouths[start : start + BLOCK_FRAMES])).to(self._device))
        out: Tensor = front_end.proj(lips.finish())
        return out

    def _until(self, mouths: Mouths | None, seen: Tensor, frames: int | None) -> Tensor:
        """Return ``seen`` as it is for a clip that ends after ``frames`` pictures: the stem sees none behind."""
        if frames is None or frames == len(seen):
            return seen
        assert mouths is not None
        tail = self._seen(mouths[max(frames - 2 * STEM_REACH, 0) : frames])
        changed = min(STEM_REACH, frames)
        return torch.cat([seen[: frames - changed], tail[-changed:]])

    def _common(self, sound: Sound | None, mouths: Mouths | None) -> int:
        """Return how many steps both streams have.

        Raises:
            LengthError: they differ by more than one.
        """
        assert sound is not None and mouths is not None
        heard, seen = filterbank.row_count(len(sound)), len(mouths)
        if abs(heard - seen) > 1 and self._settings["short_stream"] == "error":
            raise LengthError(
                f"its sound gives {heard} steps of 40 ms and its pictures {seen}, more than one apart: have the clip "
                "mended, or cut the longer one with --set short_stream=trim."
            )
        if not len(sound) or not seen:
            raise TooShortError(f"there is no {'picture' if len(sound) else 'sample of sound'}.")
        return min(heard, seen)

    def _rows(self, names: Sequence[FeatureName], heard: Tensor | None, seen: Tensor | None) -> dict[FeatureName, Rows]:
        batch = [None if each is None else each[None] for each in (heard, seen)]
        found = self.model.transform(batch[0], batch[1], {name.layer for name in names})
        return {name: found[name.layer][0].float().cpu().numpy() for name in names}

"""How well sound and picture agree where both are embedded in one space: z_t = -cos(v_t, a_t), with nothing to train.

A clip's score is the mean over its frames or another pooling: higher = less alike = more likely fake. It tells
something only where the features' audio and video share a space, such as the streams of one AV-HuBERT.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Self

import torch
from numpy.typing import NDArray
from torch import Tensor

from avfeat.device import resolve_device
from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.heads.base import Clips, Probe
from probes.heads.frames import parts, score_rows
from probes.heads.pair import as_pair
from probes.heads.training import other_real_clips
from probes.solving import Progress

BLOCK_ROWS = 4096
"""Frames that are scored at once."""


class CosineScore(Probe):
    """The negated cosine of exactly two features of the same width: a video feature, then an audio feature.

    Args:
        pool: lse, lse:T, lse-mean, lse-mean:T, max, mean, min or top:K.
        device: a torch device; None: where the frames are.
    """

    kind: ClassVar[str] = "cosine"
    learns_from = "real"
    reads = 2

    def __init__(self, pool: str = "mean", device: str | None = None):
        self.pool = pool
        self.device = device

    def fit(
        self,
        X: Clips,  # noqa: N803
        y: Sequence[int] | NDArray[Any] | None = None,
        validation: FeatureSet | tuple[Clips, Sequence[int]] | None = None,
        tell: Callable[[Progress], None] = lambda progress: None,
    ) -> Self:
        """Note the features; no score depends on the clips.

        The real ones, of ``validation`` when it is given, say where the decision line of ``predict`` lies.

        Raises:
            ProbeError: no real clip, not two features in the right order, or of unequal width.
        """
        data, real = as_pair(X, y, "Training set")
        if data.widths[0] != data.widths[1]:
            (video, audio), (left, right) = data.features, data.widths
            raise ProbeError(f"A cosine needs equal widths, but {video} is {left} wide and {audio} {right}.")
        self.features_, self.widths_, self.facts_ = data.features, data.widths, {"real_clips": len(real)}
        return self.draw_line(*(other_real_clips(validation, data) if validation is not None else (data, real)))

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return no tensor: there is nothing to learn."""
        return {}

    @classmethod
    def from_file(cls, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Self:
        """Return the head that ``save`` wrote; its file's facts are ``facts_``."""
        return cls(**facts["parameters"]).take_facts(facts)

    def _rows(self, data: FeatureSet) -> Tensor:
        place = data.device if self.device is None else torch.device(resolve_device(self.device))

        def score(rows: slice) -> Tensor:
            video, audio = parts(data, rows, place)
            return -(video * audio).sum(1)

        return score_rows(data, BLOCK_ROWS, score)

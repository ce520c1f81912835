"""A picture encoder that can say which patches of a picture a linear score comes from."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from avfeat.encoders.base import FeatureName, FrameEncoder


@dataclass(frozen=True)
class PatchShares:
    """The linear scores of n pictures taken apart, as ``avfeat.encoders.patch_shares`` describes.

    scores: float64 [n].
    shares: float64 [n, rows, columns], what each patch adds to the score or takes from it.
    rest: what else adds to it, by name, float64 [n] each: with ``shares`` it sums to ``scores``.
    gradcam: float64 [n, rows, columns], 0 or more.
    """

    scores: NDArray[np.float64]
    shares: NDArray[np.float64]
    rest: Mapping[str, NDArray[np.float64]]
    gradcam: NDArray[np.float64]


class PatchEncoder(FrameEncoder):
    """A picture encoder whose patches' part in a linear score can be told."""

    @abstractmethod
    def explain_pictures(
        self, pictures: NDArray[np.uint8], name: FeatureName, weight: NDArray[np.float32], bias: float
    ) -> PatchShares:
        """Take the scores weight · row / |row| + bias of the rows of ``name`` apart.

        Args:
            pictures: uint8 [n, size, size, 3], as in ``encode_pictures``.
            name: one of ``wanted``.
            weight: [width].
            bias: added to every score.

        Raises:
            EncoderError: the rows of ``name`` cannot be taken apart.
        """

    def patch_box(self) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of the grid of patches, in pixels of the view."""
        return 0, 0, self.view.size_px, self.view.size_px

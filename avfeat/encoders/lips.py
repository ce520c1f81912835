"""Mouths in colour as Auto-AVSR and BRAVEn read them, and their ResNet over a clip that comes in blocks."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from avfeat.encoders.blocks import STEM_REACH, LipResNet

CROP_PX = 88
"""Side of the square that the networks read out of the middle of each mouth."""

BLOCK_FRAMES = 32
"""Pictures that go through the ResNet at once: enough to keep the processor busy, whatever the clip's length."""

_GREY = np.array([0.2989, 0.587, 0.114])
"""Parts of red, green and blue; they sum to 0.9999, as in the reference."""

_MEAN, _DEVIATION = 0.421, 0.165


def normalised(mouths: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return float32 [T, 88, 88], (grey / 255 - 0.421) / 0.165, the middle of uint8 RGB [T, height, width, 3].

    What is left above and left of the middle is (side - 88) / 2, rounded half to even. A side shorter than 88 is
    filled up with black, the odd pixel below or right.
    """
    missing = [max(CROP_PX - side, 0) for side in mouths.shape[1:3]]
    if any(missing):
        sides = [(pixels // 2, pixels - pixels // 2) for pixels in missing]
        mouths = np.pad(mouths, ((0, 0), *sides, (0, 0)))
    top, left = (round((side - CROP_PX) / 2) for side in mouths.shape[1:3])
    middle = mouths[:, top : top + CROP_PX, left : left + CROP_PX]
    grey: NDArray[np.float32] = middle.astype(np.float32) @ (_GREY / 255).astype(np.float32)
    grey -= np.float32(_MEAN)
    grey /= np.float32(_DEVIATION)
    return grey


class LipStream:
    """One clip's pictures on their way through one ResNet; what it keeps is four pictures, and a vector for each.

    Beyond the clip's ends the network sees zeros.
    """

    def __init__(self, resnet: LipResNet, device: str):
        self._resnet = resnet
        self._rest = torch.zeros(STEM_REACH, CROP_PX, CROP_PX, device=device)
        self._vectors: list[Tensor] = []

    def take(self, pictures: Tensor) -> None:
        """Take the clip's next pictures, float32 [n, 88, 88]."""
        for some in torch.split(pictures, BLOCK_FRAMES):
            known = torch.cat([self._rest, some])
            if len(known) > 2 * STEM_REACH:
                self._vectors.append(self._resnet.stretch(known))
            self._rest = known[-2 * STEM_REACH :]

    def finish(self) -> Tensor:
        """Return float32 [T, 8 x the ResNet's width] for the T pictures taken, of which there is at least one."""
        self._vectors.append(self._resnet.stretch(F.pad(self._rest, (0, 0, 0, 0, 0, STEM_REACH))))
        return torch.cat(self._vectors)

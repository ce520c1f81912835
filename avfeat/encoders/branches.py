"""Encoders made of one network for each modality, as Auto-AVSR and BRAVEn are: a clip's views in, rows out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avfeat.device import prepare_device
from avfeat.encoders.base import Card, Encoder, Encoding, FeatureName, Rows
from avfeat.encoders.blocks import LipResNet
from avfeat.encoders.lips import LipStream, normalised
from avfeat.encoders.relative import Branch
from avfeat.errors import ClipError, TooShortError
from avfeat.timeline import SAMPLES_PER_FRAME
from avfeat.views import View, Views

Sound = NDArray[np.float32]


class BranchEncoder(Encoder):
    """Streams ``a`` and ``v``, each with its own network, clip by clip: padding would change what sound gives.

    Args:
        card: the mouth view that it names is what ``v`` reads.
        wanted: the features to be had.
        networks: stream to network, for the streams in ``wanted``.
        provenance: where the weights come from, and the settings.
        device: a torch device.
    """

    def __init__(
        self,
        card: Card,
        wanted: tuple[FeatureName, ...],
        networks: Mapping[str, nn.Module],
        provenance: Mapping[str, Any],
        device: str = "cpu",
    ):
        prepare_device(device)
        self.card = card
        self.wanted = wanted
        self.device = device
        self.networks = {stream: network.to(device) for stream, network in networks.items()}
        self.provenance = dict(provenance) | {
            "versions": {"torch": torch.__version__.split("+")[0], "numpy": np.__version__}
        }

    def begin(self) -> Encoding:
        """Start a new clip."""
        return _BranchEncoding(self)

    def blocks(self) -> Sequence[nn.Module]:
        """The blocks of all branches, each once."""
        modules = [module for network in self.networks.values() for module in network.modules()]
        found = [block for module in modules if isinstance(module, Branch) for block in module.encoders]
        return list(dict.fromkeys(found))

    def seeing(self) -> list[LipResNet]:
        """Return the front-ends that read the mouth, each once."""
        branches = [branch for network in self.networks.values() for branch in network.modules()]
        found = [each.frontend for each in branches if isinstance(each, Branch)]
        return list(dict.fromkeys(each for each in found if isinstance(each, LipResNet)))

    def prepared(self, sound: Sound) -> Sound:
        """Return the sound as the network reads it: as it is."""
        return sound

    def stream_rows(
        self, stream: str, names: Sequence[FeatureName], sound: Sound | None, seen: Mapping[LipResNet, Tensor]
    ) -> Mapping[FeatureName, Rows | ClipError]:
        """Return the rows of one stream's features.

        Raises:
            ClipError: this stream has none.
        """
        branch = self.networks[stream]
        assert isinstance(branch, Branch)
        if stream == "a":
            assert sound is not None
            vectors = self.heard(branch, self.prepared(sound))
        else:
            vectors = self.seen(branch, seen)
        found = branch.transform(vectors, {name.layer for name in names})
        return {name: found[name.layer][0].float().cpu().numpy() for name in names}

    def heard(self, branch: Branch, sound: Sound) -> Tensor:
        """Return the front-end's vectors [1, T, width] of sound [samples], T = samples // 640.

        Raises:
            TooShortError: the sound is shorter than one frame.
        """
        if len(sound) < SAMPLES_PER_FRAME:
            raise TooShortError(f"its sound has {len(sound)} samples, fewer than the {SAMPLES_PER_FRAME} of one frame.")
        vectors: Tensor = branch.frontend(torch.from_numpy(sound)[None].to(self.device))
        return vectors

    def seen(self, branch: Branch, seen: Mapping[LipResNet, Tensor]) -> Tensor:
        """Return the front-end's vectors [1, T, width] of the clip's pictures.

        Raises:
            TooShortError: the clip has none.
        """
        assert isinstance(branch.frontend, LipResNet)
        if branch.frontend not in seen:
            raise TooShortError("there is no picture.")
        return seen[branch.frontend][None]


class _BranchEncoding(Encoding):
    def __init__(self, encoder: BranchEncoder):
        self._encoder = encoder
        self._lips = {resnet: LipStream(resnet, encoder.device) for resnet in encoder.seeing()}
        self._mouths: set[View] = {view for view in encoder.reads() if view.kind == "mouth"}
        self._frames = 0
        self._sound: Sound | None = None

    @torch.inference_mode()
    def take(self, views: Views) -> None:
        for view in self._mouths & views.pictures.keys():
            pictures = torch.from_numpy(normalised(views.pictures[view])).to(self._encoder.device)
            self._frames += len(pictures)
            for lips in self._lips.values():
                lips.take(pictures)
        if views.sound is not None:
            self._sound = views.sound

    @torch.inference_mode()
    def finish(self, wanted: Sequence[FeatureName]) -> dict[FeatureName, Rows | ClipError]:
        seen = {resnet: lips.finish() for resnet, lips in self._lips.items()} if self._frames else {}
        rows: dict[FeatureName, Rows | ClipError] = {}
        for stream in sorted({name.stream for name in wanted}):
            names = [name for name in wanted if name.stream == stream]
            try:
                rows |= self._encoder.stream_rows(stream, names, self._sound, seen)
            except ClipError as error:
                rows |= dict.fromkeys(names, error)
        return {name: rows[name] for name in wanted}

"""What the heads that are networks share: the network by its settings, its tensors, its scores in bounded memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from avfeat.device import resolve_device
from avfeat.errors import ProbeError
from probes.featureset import FeatureSet, check_features
from probes.heads.base import Clips, Probe, as_set


class NeuralProbe(Probe):
    """A head whose frame scores are a network's; ``network_`` is on the CPU between calls.

    A head adds ``make_network``, ``fit`` and ``_rows``, and has a setting ``device``: None is where the frames are.
    """

    device: str | None
    network_: nn.Module

    def make_network(self, widths: Sequence[int]) -> nn.Module:
        """Return the network of these settings with fresh weights.

        Raises:
            ProbeError: settings that do not fit each other.
        """
        raise NotImplementedError

    def set_network(
        self, network: nn.Module, features: Sequence[str], widths: Sequence[int], facts: dict[str, Any]
    ) -> Self:
        """Make this a fitted probe with a network of ``make_network``'s kind; returns itself."""
        self.network_ = network.cpu().eval().requires_grad_(False)
        self.features_, self.widths_, self.facts_ = tuple(features), tuple(widths), facts
        return self

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the network's state."""
        return {name: value.numpy() for name, value in self.network_.state_dict().items()}

    @classmethod
    def from_file(cls, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Self:
        """Return the probe that ``save`` wrote; its file's facts are ``facts_``.

        Raises:
            ProbeError: a tensor is missing or does not fit the features.
        """
        probe = cls(**{name: _restored(value) for name, value in facts["parameters"].items()})
        network = probe.make_network(facts["widths"])
        found = {name: torch.from_numpy(np.array(value)) for name, value in tensors.items()}
        load_state(network, found, "The file", cls.kind)
        return probe.set_network(network, facts["features"], facts["widths"], {}).take_facts(facts)

    def _place(self, data: FeatureSet) -> torch.device:
        return data.device if self.device is None else torch.device(resolve_device(self.device))


def load_state(network: nn.Module, state: Mapping[str, Tensor], source: str, kind: str) -> None:
    """Put tensors into a network: each that it needs, no other, all of its shapes, all finite.

    Raises:
        ProbeError: otherwise; the message has the first three that are wrong.
    """
    needed = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    wrong = [name for name in sorted(needed.keys() | found.keys()) if needed.get(name) != found.get(name)]
    if wrong:
        lines = [f"{name} is {found.get(name, 'missing')} but needed {needed.get(name, 'not')}" for name in wrong[:3]]
        raise ProbeError(f"{source} does not hold the tensors of this {kind} head: {'; '.join(lines)}.")
    bad = [name for name, value in state.items() if not bool(value.isfinite().all())]
    if bad:
        raise ProbeError(f"{source} holds a {kind} head whose tensor {bad[0]} is not all finite.")
    network.load_state_dict(dict(state))


def _restored(value: Any) -> Any:
    """JSON knows no tuples; settings are."""
    return tuple(value) if isinstance(value, list) else value


def labelled(
    clips: Clips, labels: Any, validation: FeatureSet | tuple[Clips, Any] | None
) -> tuple[FeatureSet, FeatureSet | None]:
    """Return training and validation sets of a head that needs both classes in each.

    Raises:
        ProbeError: one class only, an unknown label, other features or widths in the validation set.
    """
    data = as_set(clips, labels)
    data.check_labels("Training set")
    if validation is None:
        return data, None
    val = validation if isinstance(validation, FeatureSet) else as_set(*validation)
    val.check_labels("Validation set")
    check_features(val, data.features, data.widths, "Validation set")
    return data, val

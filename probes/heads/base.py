"""What all heads share: what they accept as clips, from scores to probabilities, saving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet, check_features
from probes.probe_file import write_probe

Frames = NDArray[Any]
Clips = FeatureSet | Sequence[Frames]
"""What heads read: a FeatureSet, or one array [frames, width] for each clip."""


class Probe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn classifier of ragged clips; labels are 0 real and 1 fake. See ``probes.heads.Head``.

    A head adds ``fit``, ``decision_function``, ``frame_scores``, ``tensors`` and ``from_file``.
    """

    kind: ClassVar[str]
    learns_from: ClassVar[Literal["real and fake", "real"]] = "real and fake"
    reads: ClassVar[int | None] = None
    features_: tuple[str, ...]
    widths_: tuple[int, ...]
    facts_: dict[str, Any]

    def decision_function(self, X: Clips) -> NDArray[np.float32]:  # noqa: N803
        """Return clip scores, float32 [clips].

        Raises:
            ProbeError: frames of other features or widths than the probe's.
        """
        raise NotImplementedError

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the numbers that make the probe what it is, by name."""
        raise NotImplementedError

    def predict_proba(self, X: Clips) -> NDArray[np.float64]:  # noqa: N803
        """Return the probabilities of real and fake, float64 [clips, 2]."""
        fake = 1 / (1 + np.exp(-2 * self.decision_function(X).astype(np.float64)))
        return np.stack([1 - fake, fake], axis=1)

    def predict(self, X: Clips) -> NDArray[np.int64]:  # noqa: N803
        """Return 1 where the score is above 0, int64 [clips]."""
        return (self.decision_function(X) > 0).astype(np.int64)

    def save(self, path: Path, facts: Mapping[str, Any] | None = None) -> None:
        """Write the probe with what is known about it and ``facts`` (plain data).

        Raises:
            ProbeError: the file cannot be written.
        """
        write_probe(path, self.kind, self.tensors(), {**self.known(), **(facts or {})})

    def known(self) -> dict[str, Any]:
        """Return what the probe's file says of it besides its numbers, plain data."""
        check_is_fitted(self)
        return {
            "parameters": self.get_params(),
            "features": self.features_,
            "widths": self.widths_,
            "fit": self.facts_,
        }

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "features_")

    @property
    def classes_(self) -> NDArray[np.int64]:
        """Real and fake, as scikit-learn asks."""
        return np.array([0, 1])

    def _readable(self, clips: Clips) -> FeatureSet:
        check_is_fitted(self)
        if not isinstance(clips, FeatureSet):
            return FeatureSet.from_arrays(clips, features=self.features_, widths=self.widths_)
        check_features(clips, self.features_, self.widths_, "Clips to score")
        return clips


def as_set(clips: Clips, labels: Sequence[int] | NDArray[Any] | None) -> FeatureSet:
    """Return a FeatureSet of what a user gave to ``fit``.

    Raises:
        ProbeError: no label for an array, or labels besides 0 and 1.
        LengthError: not one label for each clip.
    """
    if isinstance(clips, FeatureSet):
        return clips if labels is None else clips.with_labels(labels)
    if labels is None:
        raise ProbeError("Arrays need labels: fit(X, y) with y of 0 (real) and 1 (fake).")
    return FeatureSet.from_arrays(clips, labels)

"""What all heads share: what they accept as clips, from frame scores to probabilities, saving."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted
from torch import Tensor

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet, check_features
from probes.pooling import Pooling
from probes.probe_file import write_probe
from probes.ragged import cut

Frames = NDArray[Any]
Numbers = NDArray[np.float64]
Clips = FeatureSet | Sequence[Frames]
"""What heads read: a FeatureSet, or one array [frames, width] for each clip."""

REAL, FAKE = 0, 1

FALSE_ALARMS = 0.05
"""A head that has learned from real clips only calls fake what scores above all but this share of them."""

POOLED_ROWS = 1 << 16
"""Frame scores that are laid out for pooling at once."""


class Probe(ClassifierMixin, BaseEstimator):  # type: ignore[misc]
    """A scikit-learn classifier of ragged clips; labels are 0 real and 1 fake. See ``probes.heads.Head``.

    A head adds ``fit``, ``from_file``, ``tensors`` and either ``_rows`` and a setting ``pool``, or the two scores.

    Attributes:
        line_, unit_: the probability of fake is sigmoid(2 (s - line_) / unit_). They are 0 and 1, but where a head has
            seen real clips only: there the line that 5 % of them lie above, and their scores' standard deviation.
    """

    kind: ClassVar[str]
    learns_from: ClassVar[Literal["real and fake", "real"]] = "real and fake"
    reads: ClassVar[int | None] = None
    pool: str
    features_: tuple[str, ...]
    widths_: tuple[int, ...]
    facts_: dict[str, Any]
    line_ = 0.0
    unit_ = 1.0

    def decision_function(self, X: Clips) -> NDArray[np.float32]:  # noqa: N803
        """Return clip scores, float32 [clips].

        Raises:
            ProbeError: frames of other features or widths than the probe's.
        """
        with torch.inference_mode():
            return self._clip_scores(self._readable(X))

    def frame_scores(self, X: Clips) -> list[NDArray[np.float32]]:  # noqa: N803
        """Return the scores of each clip's frames, float32 [frames].

        Raises:
            ProbeError: frames of other features or widths than the probe's.
        """
        with torch.inference_mode():
            data = self._readable(X)
            return np.split(self._rows(data).numpy(), data.offsets[1:-1].cpu().numpy())

    def predict_proba(self, X: Clips) -> NDArray[np.float64]:  # noqa: N803
        """Return the probabilities of real and fake, float64 [clips, 2]."""
        fake = probability(self.decision_function(X).astype(np.float64), self.line_, self.unit_)
        return np.stack([1 - fake, fake], axis=1)

    def predict(self, X: Clips) -> NDArray[np.int64]:  # noqa: N803
        """Return 1 where fake is the likelier, int64 [clips]."""
        return (self.decision_function(X) > self.line_).astype(np.int64)

    def save(self, path: Path, facts: Mapping[str, Any] | None = None) -> None:
        """Write the probe with what is known about it and ``facts`` (plain data).

        Raises:
            ProbeError: the file cannot be written.
        """
        write_probe(path, self.kind, self.tensors(), {**self.known(), **(facts or {})})

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the numbers that make the probe what it is, by name."""
        raise NotImplementedError

    def known(self) -> dict[str, Any]:
        """Return what the probe's file says of it besides its numbers, plain data."""
        check_is_fitted(self)
        return {
            # A probe that was loaded keeps all that its file said of it.
            **(self.facts_ if "fit" in self.facts_ else {"fit": self.facts_}),
            # Where it ran says nothing of the probe, and another machine may not have that device.
            "parameters": {name: value for name, value in self.get_params().items() if name != "device"},
            "features": self.features_,
            "widths": self.widths_,
            "line": [self.line_, self.unit_],
        }

    def take_facts(self, facts: Mapping[str, Any]) -> Self:
        """Take what a file says about features and decision line; returns itself."""
        self.features_, self.widths_ = tuple(facts["features"]), tuple(facts["widths"])
        self.line_, self.unit_ = facts.get("line", (0.0, 1.0))
        self.facts_ = dict(facts)
        return self

    def draw_line(self, data: FeatureSet, real: Sequence[int]) -> Self:
        """Set ``line_`` and ``unit_`` by the scores of the real clips of a set; returns itself."""
        scores = self.decision_function(data)[real].astype(np.float64)
        self.line_, self.unit_ = float(np.quantile(scores, 1 - FALSE_ALARMS)), float(scores.std()) or 1.0
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "features_")

    @property
    def classes_(self) -> NDArray[np.int64]:
        """Real and fake, as scikit-learn asks."""
        return np.array([REAL, FAKE])

    def _rows(self, data: FeatureSet) -> Tensor:
        """Return the score of each frame, float32 [rows] on the CPU."""
        raise NotImplementedError

    def _clip_scores(self, data: FeatureSet) -> NDArray[np.float32]:
        rows, offsets, pooling = self._rows(data)[:, None], data.offsets.cpu(), Pooling.parse(self.pool)
        spans = cut(offsets, POOLED_ROWS)
        pooled = [pooling.pool(span.lay_out(rows[span.start : span.stop]), span.lengths)[0] for span in spans]
        scores: NDArray[np.float32] = torch.cat(pooled)[:, 0].numpy()
        return scores

    def _readable(self, clips: Clips) -> FeatureSet:
        check_is_fitted(self)
        if not isinstance(clips, FeatureSet):
            return FeatureSet.from_arrays(clips, features=self.features_, widths=self.widths_)
        check_features(clips, self.features_, self.widths_, "Clips to score")
        return clips


def probability(scores: Numbers, line: Numbers | float, unit: Numbers | float) -> Numbers:
    """Return sigmoid(2 (scores - line) / unit)."""
    return 0.5 * (1 + np.tanh((scores - line) / unit))


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

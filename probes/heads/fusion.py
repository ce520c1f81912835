"""Late fusion: the mean of what several trained probes say of a clip.

With s_k the score of probe k, its decision line l_k and unit u_k (0 and 1 for probes that learn from both classes):

    logits         s = mean s_k                                  the paper's, as far as it says
    probabilities  s = mean sigmoid(2 (s_k - l_k) / u_k)
    standardised   s = mean (s_k - m_k) / d_k                    m_k and d_k: mean and deviation over the clips of fit

Frame scores are fused in the same way. For early fusion, give any head several features: their frames, each divided by
its own norm, then stand side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted

from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.heads import Head, head_class
from probes.heads.base import Clips, Probe, probability
from probes.on_disk import copied
from probes.solving import Progress

Numbers = NDArray[np.float64]

RULES = ("logits", "probabilities", "standardised")
LINE = ("line_", "unit_")


class LateFusion(Probe):
    """Two or more trained probes as one; it reads the features of all of them, each feature once.

    Args:
        probes: trained heads, of one kind or several; they stay as they are, in copies of this head too.
        combine: ``logits``, ``probabilities`` or ``standardised``.
    """

    kind: ClassVar[str] = "late-fusion"

    def __init__(self, probes: Sequence[Head] = (), combine: str = "logits"):
        self.probes = probes
        self.combine = combine

    def fit(
        self,
        X: Clips | None = None,  # noqa: N803
        y: Sequence[int] | NDArray[Any] | None = None,
        validation: FeatureSet | tuple[Clips, Sequence[int]] | None = None,
        tell: Callable[[Progress], None] = lambda progress: None,
    ) -> Self:
        """Take the probes' means and deviations over these clips, for ``standardised`` only; labels are not needed.

        Raises:
            ProbeError: fewer than two probes, another rule, a feature of two widths, no clips for ``standardised``, or
                clips that do not fit.
        """
        if len(self.probes) < 2 or self.combine not in RULES:
            raise ProbeError(
                f"Late fusion needs two or more trained probes and one of the rules {', '.join(RULES)}; "
                f"these are {len(self.probes)} probes and {self.combine!r}. Files of probes: probes fuse."
            )
        self._join_features()
        self.centre_, self.spread_ = np.zeros(len(self.probes)), np.ones(len(self.probes))
        if self.combine == "standardised":
            if X is None:
                raise ProbeError("Scores are standardised over a set of clips: give one to fit.")
            data = self._readable(X)
            scores = np.stack([probe.decision_function(part) for probe, part in self._parts(data)]).astype(np.float64)
            self.centre_, self.spread_ = scores.mean(1), scores.std(1)
            if not self.spread_.all():
                flat = int(np.argmin(self.spread_))
                raise ProbeError(f"Probe {flat} gives all {len(data)} clips one score, which cannot be standardised.")
        lines, units = (np.array([getattr(probe, name) for probe in self.probes]) for name in LINE)
        self.line_ = float(self._fuse(lines))
        self.unit_ = float(self._fuse(lines + units)) - self.line_
        return self

    def decision_function(self, X: Clips) -> NDArray[np.float32]:  # noqa: N803
        """Return clip scores, float32 [clips].

        Raises:
            ProbeError: frames of other features or widths than the probes'.
        """
        parts = self._parts(self._readable(X))
        return self._fuse(np.stack([probe.decision_function(part) for probe, part in parts])).astype(np.float32)

    def frame_scores(self, X: Clips) -> list[NDArray[np.float32]]:  # noqa: N803
        """Return the scores of each clip's frames, float32 [frames].

        Raises:
            ProbeError: frames of other features or widths than the probes'.
        """
        frames = [probe.frame_scores(part) for probe, part in self._parts(self._readable(X))]
        return [self._fuse(np.stack(clip)).astype(np.float32) for clip in zip(*frames, strict=True)]

    def predict_proba(self, X: Clips) -> NDArray[np.float64]:  # noqa: N803
        """Return the probabilities of real and fake, float64 [clips, 2]."""
        if self.combine != "probabilities":
            return super().predict_proba(X)
        fake = self.decision_function(X).astype(np.float64)
        return np.stack([1 - fake, fake], axis=1)

    def _readable(self, clips: Clips) -> FeatureSet:
        check_is_fitted(self)
        # Features go by their names here, so their order, and others beside them, do not matter.
        if isinstance(clips, FeatureSet) and set(self.features_) <= set(clips.features):
            clips = choose(clips, self.features_)
        return super()._readable(clips)

    def _fuse(self, scores: NDArray[Any]) -> Numbers:
        """Return the fusion of scores [probes, …]."""
        each = scores.astype(np.float64).reshape(len(self.probes), -1).T
        if self.combine == "probabilities":
            each = probability(each, *(np.array([getattr(probe, name) for probe in self.probes]) for name in LINE))
        fused: Numbers = ((each - self.centre_) / self.spread_).mean(1).reshape(scores.shape[1:])
        return fused

    def _join_features(self) -> None:
        widths: dict[str, int] = {}
        for probe in self.probes:
            for name, width in zip(probe.features_, probe.widths_, strict=True):
                if widths.setdefault(name, width) != width:
                    raise ProbeError(f"One probe reads {name} {widths[name]} wide, another {width} wide.")
        self.features_, self.widths_ = tuple(widths), tuple(widths.values())
        self.facts_ = {"combine": self.combine}

    def _parts(self, data: FeatureSet) -> Iterator[tuple[Head, FeatureSet]]:
        """Yield each probe with what it reads; where that is a copy, it is gone at the next one."""
        return ((probe, choose(data, probe.features_)) for probe in self.probes)

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the probes' tensors, each name behind its probe's number, and what ``fit`` measured."""
        own = {f"{k}.{name}": value for k, probe in enumerate(self.probes) for name, value in probe.tensors().items()}
        return {**own, "centre": self.centre_, "spread": self.spread_}

    def known(self) -> dict[str, Any]:
        """Return what the file says besides the numbers: all that each probe's own file would say too."""
        found = super().known()
        made: dict[str, Any] = {}
        for probe in self.probes:
            made |= probe.facts_.get("attributes", {})
        members = [{"head": probe.kind, "facts": probe.known()} for probe in self.probes]
        parameters = {"combine": self.combine}
        line = [self.line_, self.unit_]
        return {"attributes": made, **found, "parameters": parameters, "members": members, "line": line}

    @classmethod
    def from_file(cls, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Self:
        """Return the head that ``save`` wrote; its file's facts are ``facts_``.

        Raises:
            ProbeError: a tensor is missing or does not fit its probe.
        """
        probes = []
        for k, member in enumerate(facts["members"]):
            own = {name.removeprefix(f"{k}."): value for name, value in tensors.items() if name.startswith(f"{k}.")}
            probes.append(head_class(member["head"]).from_file(own, member["facts"]))
        fused = cls(probes, **facts["parameters"]).take_facts(facts)
        fused.centre_, fused.spread_ = tensors["centre"], tensors["spread"]
        return fused

    def __sklearn_clone__(self) -> Self:
        return type(self)(self.probes, self.combine)


def choose(data: FeatureSet, features: Sequence[str]) -> FeatureSet:
    """Return the set with these of its features only, in this order; a view where they stand side by side.

    Raises:
        ProbeError: the set is on disk, where there is no room for a copy.
    """
    numbers = [data.features.index(name) for name in features]
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        frames, file = data.frames[:, data.columns[numbers[0]].start : data.columns[numbers[-1]].stop], data.file
    else:
        frames, file = copied(data.frames, data.file, [slice(0, len(data.frames))], [data.columns[k] for k in numbers])
    widths = tuple(data.widths[k] for k in numbers)
    norms = data.inverse_norms[:, numbers]
    return replace(data, frames=frames, inverse_norms=norms, features=tuple(features), widths=widths, file=file)

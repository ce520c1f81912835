"""The linear probe: z_t = w·x_t/|x_t| + b for each frame, s = pool(z) for the clip, higher = more likely fake.

The probability of fake is sigmoid(2s), from the two logits (-s, +s) that training compares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from avfeat.device import resolve_device
from avfeat.errors import ProbeError
from probes.featureset import FeatureSet
from probes.fit import PAPER_SEED, Fitted, fit, settings_for
from probes.heads.base import Clips, Probe, as_set
from probes.objective import all_frame_scores, clip_scores
from probes.pooling import Pooling
from probes.solving import Progress


class LinearProbe(Probe):
    """A linear probe of one feature or, side by side, of several (early fusion).

    Args:
        pool: lse, lse:T, lse-mean, lse-mean:T, max, mean, min or top:K.
        solver: ``lbfgs`` goes to the optimum, ``adam`` follows the paper's trainer step by step.
        weight_decay: the loss gains ½·wd·|w|².
        class_weight: ``none``, or ``balanced``.
        seed: of the initial weights and of adam's order of clips.
        steps: epochs of adam or evaluations of lbfgs at most; None: the solver's default.
        patience: end after so many without a better validation loss; None: the solver's default.
        device: a torch device; None: where the frames are.

    Attributes after ``fit``: weight_ float32 [width], bias_, features_ and widths_, classes_ [0, 1], facts_ (plain data
    on how the fit went).
    """

    kind: ClassVar[str] = "linear"

    def __init__(
        self,
        pool: str = "lse",
        solver: str = "lbfgs",
        weight_decay: float = 0.0,
        class_weight: str = "none",
        seed: int = PAPER_SEED,
        steps: int | None = None,
        patience: int | None = None,
        device: str | None = None,
    ):
        self.pool = pool
        self.solver = solver
        self.weight_decay = weight_decay
        self.class_weight = class_weight
        self.seed = seed
        self.steps = steps
        self.patience = patience
        self.device = device

    def fit(
        self,
        X: Clips,  # noqa: N803
        y: Sequence[int] | NDArray[Any] | None = None,
        validation: FeatureSet | tuple[Clips, Sequence[int]] | None = None,
        tell: Callable[[Progress], None] = lambda progress: None,
    ) -> LinearProbe:
        """Fit on clips; ``y`` may be left out when X is a FeatureSet with labels.

        Raises:
            ProbeError: one class only, unknown labels, or frames that do not fit each other.
        """
        train = self._placed(as_set(X, y))
        val = validation if validation is None or isinstance(validation, FeatureSet) else as_set(*validation)
        fitted = fit(
            train,
            val if val is None else self._placed(val),
            pools=[Pooling.parse(self.pool)],
            weight_decays=[self.weight_decay],
            seeds=[self.seed],
            settings=settings_for(self.solver, self.steps, self.patience),
            class_weight=self.class_weight,
            tell=tell,
        )
        return self._take(train, fitted, 0)

    @classmethod
    def from_fitted(cls, train: FeatureSet, fitted: Fitted, column: int) -> LinearProbe:
        """Return one of the probes that were fitted together on ``train``."""
        facts = fitted.facts(column)
        asked = {name: facts[name] for name in ("pool", "solver", "weight_decay", "seed", "class_weight")}
        steps = facts["settings"].get("epochs") or facts["settings"].get("evaluations")
        probe = cls(**asked, steps=steps, patience=facts["settings"]["patience"])
        return probe._take(train, fitted, column)

    def decision_function(self, X: Clips) -> NDArray[np.float32]:  # noqa: N803
        """Return clip scores s, float32 [clips].

        Raises:
            ProbeError: frames of another feature or width than the probe's.
        """
        with torch.inference_mode():
            data = self._placed(self._readable(X))
            scores: NDArray[np.float32] = (
                clip_scores(data, self._theta(data), [Pooling.parse(self.pool)])[:, 0].cpu().numpy()
            )
        return scores

    def frame_scores(self, X: Clips) -> list[NDArray[np.float32]]:  # noqa: N803
        """Return z of each clip, float32 [frames].

        Raises:
            ProbeError: frames of another feature or width than the probe's.
        """
        with torch.inference_mode():
            data = self._placed(self._readable(X))
            scores = all_frame_scores(data, self._theta(data))[:, 0].cpu().numpy()
        return np.split(scores, data.offsets[1:-1].cpu().numpy())

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return weight [1, width] and bias [1]."""
        return {"weight": self.weight_[None], "bias": np.array([self.bias_], np.float32)}

    @classmethod
    def from_file(cls, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> LinearProbe:
        """Return the probe that ``save`` wrote; its file's facts are ``facts_``.

        Raises:
            ProbeError: a tensor is missing or does not fit the features.
        """
        weight, bias = tensors.get("weight"), tensors.get("bias")
        width = sum(facts["widths"])
        if weight is None or bias is None or weight.shape != (1, width) or bias.shape != (1,):
            found = {name: list(tensor.shape) for name, tensor in tensors.items()}
            raise ProbeError(f"A linear probe needs weight [1, {width}] and bias [1]; the file has {found}.")
        probe = cls(**facts["parameters"])
        names, widths = tuple(facts["features"]), tuple(facts["widths"])
        return probe.set_weights(weight[0], float(bias[0]), names, widths, {}).take_facts(facts)

    def _placed(self, data: FeatureSet) -> FeatureSet:
        return data if self.device is None else data.to(resolve_device(self.device))

    def _take(self, train: FeatureSet, fitted: Fitted, column: int) -> LinearProbe:
        theta = fitted.theta[column].numpy()
        return self.set_weights(theta[:-1], float(theta[-1]), train.features, train.widths, fitted.facts(column))

    def set_weights(
        self,
        weight: NDArray[Any],
        bias: float,
        features: tuple[str, ...],
        widths: tuple[int, ...],
        facts: dict[str, Any],
    ) -> LinearProbe:
        """Make this a fitted probe with weights [width], as one that was fitted elsewhere; returns itself."""
        self.weight_, self.bias_ = weight.astype(np.float32), bias
        self.features_, self.widths_ = features, widths
        self.facts_ = facts
        return self

    def _theta(self, data: FeatureSet) -> torch.Tensor:
        return torch.from_numpy(np.append(self.weight_, np.float32(self.bias_)))[None].to(data.device)

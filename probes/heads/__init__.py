"""The heads: each a small file with its formula, loaded when it is first used.

All keep one contract, ``Head``: scikit-learn's conventions over ragged clips, higher scores = more likely fake.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, cast

from avfeat.errors import ProbeError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from probes.featureset import FeatureSet
    from probes.solving import Progress

    Clips = FeatureSet | Sequence[NDArray[Any]]

HEADS: Mapping[str, str] = {
    "linear": "probes.heads.linear:LinearProbe",
    "mlp": "probes.heads.mlp:MlpProbe",
    "sync": "probes.heads.sync:SyncProbe",
    "ntp": "probes.heads.ntp:NtpProbe",
    "cosine": "probes.heads.cosine:CosineScore",
    "late-fusion": "probes.heads.fusion:LateFusion",
}
"""Each head's name, in files and commands, and where its class is."""


class Head(Protocol):
    """What every head is and does; its constructor only stores settings, each with a default.

    learns_from: ``real and fake`` needs both classes; ``real`` takes the clips labelled 0 and needs no other.
    reads: how many features it takes side by side; None: one or several.

    Attributes after ``fit`` or ``from_file``: features_ and widths_ of the frames it reads, in their order, and facts_
    (plain data; of a loaded probe, all that its file says). The probability of fake is sigmoid(2 (s - line_) / unit_).
    """

    kind: ClassVar[str]
    learns_from: ClassVar[Literal["real and fake", "real"]]
    reads: ClassVar[int | None]
    features_: tuple[str, ...]
    widths_: tuple[int, ...]
    facts_: dict[str, Any]
    line_: float
    unit_: float

    def __init__(self, **settings: Any) -> None: ...

    def fit(
        self,
        X: Clips,  # noqa: N803
        y: Sequence[int] | NDArray[Any] | None = None,
        validation: FeatureSet | tuple[Clips, Sequence[int]] | None = None,
        tell: Callable[[Progress], None] = ...,
    ) -> Head:
        """Learn; ``y`` (0 real, 1 fake) may be left out when X is a FeatureSet with labels.

        Ctrl-C ends the fit early and keeps the best so far.

        Raises:
            ProbeError: a class it learns from is missing, or frames that do not fit it or each other.
        """

    def decision_function(self, X: Clips) -> NDArray[np.float32]:  # noqa: N803
        """Return clip scores, float32 [clips].

        Raises:
            ProbeError: frames of other features or widths than the head's.
        """

    def frame_scores(self, X: Clips) -> list[NDArray[np.float32]]:  # noqa: N803
        """Return the scores of each clip's frames, float32 [frames].

        Raises:
            ProbeError: frames of other features or widths than the head's.
        """

    def predict_proba(self, X: Clips) -> NDArray[np.float64]:  # noqa: N803
        """Return the probabilities of real and fake, float64 [clips, 2]."""

    def predict(self, X: Clips) -> NDArray[np.int64]:  # noqa: N803
        """Return 1 where fake is the likelier, int64 [clips]."""

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the settings by name."""

    def set_params(self, **settings: Any) -> Head:
        """Change settings."""

    def tensors(self) -> dict[str, NDArray[Any]]:
        """Return the numbers that make the head what it is, by name."""

    def known(self) -> dict[str, Any]:
        """Return what its file says of it besides its numbers, plain data."""

    def save(self, path: Path, facts: Mapping[str, Any] | None = None) -> None:
        """Write the head with what is known about it and ``facts`` (plain data), for ``probe_file.load_probe``.

        Raises:
            ProbeError: the file cannot be written.
        """

    @classmethod
    def from_file(cls, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> Head:
        """Return the head that ``save`` wrote.

        Raises:
            ProbeError: a tensor is missing or does not fit the features.
        """


def head_class(name: str) -> type[Head]:
    """Return the class of a head by its name.

    Raises:
        ProbeError: no such head; the message lists those there are.
    """
    if name not in HEADS:
        raise ProbeError(f"There is no head {name!r}; choose from {', '.join(HEADS)}.")
    module, _, member = HEADS[name].partition(":")
    return cast("type[Head]", getattr(import_module(module), member))

"""Where in a picture a score comes from: avfeat, which knows the network, is given the weights of the probe.

Two maps. ``shares`` splits the linear score exactly: what a patch adds to it, or takes from it. ``gradcam`` is where
the tokens that enter the last block agree with the score's gradient; it has no sign and no sum.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import avfeat
from avfeat.errors import ProbeError
from avfeat.options import Options
from avfeat.patches import PatchExplainer, PatchMap
from probes.heads import Head

MAPS: Mapping[str, Callable[[PatchMap], NDArray[np.float64]]] = {
    "shares": lambda found: found.shares,
    "gradcam": lambda found: found.gradcam,
}


def explainer(
    probe: Head,
    *,
    like: Mapping[str, Any] | None = None,
    weights: Path | None = None,
    options: Options | None = None,
) -> PatchExplainer:
    """Return what takes the frame scores of a probe apart.

    Args:
        probe: a linear probe of one feature.
        like: the feature's attributes in the store; None: as the probe's file has them.
        weights: where the encoder's weights are now, if not where they were.
        options: the encoder's device, the landmarker and the time limit.

    Raises:
        ProbeError: another head, several features, or nobody says how the feature was made.
        EncoderError: the feature does not come from patches of pictures.
        AvfeatError: the encoder cannot be made here as it was.
    """
    if probe.kind != "linear" or len(probe.features_) != 1:
        raise ProbeError(
            "Only the score of a linear probe of one feature can be taken apart exactly; this is a "
            f"{probe.kind} head of {' and '.join(probe.features_)}."
        )
    (feature,) = probe.features_
    known = like or probe.facts_.get("attributes", {}).get(feature)
    if not known:
        raise ProbeError(f"This probe does not say how {feature} was made, so it can score stored features only.")
    linear: Any = probe
    return avfeat.PatchExplainer(feature, linear.weight_, linear.bias_, like=known, weights=weights, options=options)


def probability(score: float) -> float:
    """Return sigmoid(2 z): what a frame's score alone would make the probability of fake."""
    return float(0.5 * (1 + np.tanh(score)))


def facts(found: PatchMap) -> dict[str, Any]:
    """Return one frame's explanation as plain data."""
    return {
        "frame": found.frame,
        "seconds": found.seconds,
        "score": found.score,
        "probability": probability(found.score),
        "patches": float(found.shares.sum()),
        "rest": dict(found.rest),
        "highest": {name: found.highest(values(found)) for name, values in MAPS.items()},
        "face": found.face,
        "shares": found.shares.round(6).tolist(),
        "gradcam": found.gradcam.round(6).tolist(),
    }

"""Made clips with a weak planted direction, for the tests of the probes."""

import numpy as np

from probes.featureset import FeatureSet


def planted_arrays(clips=60, width=16, seed=0, strength=1.5, dtype=np.float32, shortest=3, longest=14):
    """Clips of unequal length; the frames of fakes (label 1) lean towards one direction. Returns arrays, labels."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(1234).normal(size=width)
    direction /= np.linalg.norm(direction)
    labels = np.arange(clips) % 2
    arrays = []
    for label in labels:
        rows = rng.normal(size=(rng.integers(shortest, longest + 1), width)) + strength * label * direction
        arrays.append((rows * rng.uniform(0.5, 20)).astype(dtype))
    return arrays, labels


def planted(**settings) -> FeatureSet:
    """The same as a FeatureSet."""
    return FeatureSet.from_arrays(*planted_arrays(**settings))

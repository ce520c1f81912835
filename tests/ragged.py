"""Made clips with a weak planted direction, for the tests of the probes."""

import numpy as np

from avfeat.errors import NoFaceError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import write_feature
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


def write_planted(
    store, name, clips=120, seed=0, width=12, feature="logmel", strength=1.0, spoil=(), speakers=7, fakes=True
):
    """The same as a feature of a store, with splits and speakers; the face is missing in ``spoil``."""
    arrays, labels = planted_arrays(clips=clips, width=width, seed=seed, strength=strength, dtype=np.float16)
    splits = np.array(["train", "train", "val", "test"])[np.arange(clips) // 2 % 4]
    labels = labels * fakes
    people = [f"s{k % speakers}" if speakers else None for k in range(clips)]
    rows = [Row(f"c{k:04}", f"c{k:04}.mp4", str(splits[k]), int(labels[k]), speaker=people[k]) for k in range(clips)]
    manifest = Manifest.from_rows(rows, DatasetInfo(name))
    values = {row.clip_id: array for row, array in zip(rows, arrays, strict=True)}
    values |= {clip_id: NoFaceError("no face from 0.2 to 1.4 s") for clip_id in spoil}
    write_feature(store, manifest, feature, values, rate_hz=25.0, first_seconds=0.02)
    return manifest

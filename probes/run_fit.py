"""Make the probes of one recipe, and score clips with them; whatever may change a number begins here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from probes.featureset import FeatureSet
from probes.fit import fit, settings_for
from probes.heads import Head, head_class
from probes.heads.linear import LinearProbe
from probes.loading import Choice, Loaded, Source
from probes.pooling import Pooling
from probes.subsets import fraction


def load(source: Source, choice: Choice, shuffle: int | None = None) -> Loaded:
    """Return the labelled clips of a choice; with a seed, as many fakes as there are, but chosen by lot.

    The lot is a hash of the seed and the clip's id: neither the labels nor the order of the clips have a say in it.

    Raises:
        ManifestError, StoreError, ProbeError: as ``Source.load``.
    """
    loaded = source.load(choice)
    if shuffle is None:
        return loaded
    lots = [blake2b(f"{shuffle} {clip_id}".encode(), digest_size=16).digest() for clip_id in loaded.data.clip_ids]
    labels = np.zeros(len(lots), np.int64)
    labels[sorted(range(len(lots)), key=lots.__getitem__)[: int(loaded.data.labels.sum())]] = 1
    return replace(loaded, data=loaded.data.with_labels(labels))


def fit_probes(
    head: str,
    settings: Mapping[str, Any],
    seeds: Sequence[int],
    train: FeatureSet,
    val: FeatureSet | None,
    share: float = 1.0,
) -> list[Head]:
    """Return one probe for each seed; linear ones are fitted all at once, so that the frames are read once.

    Args:
        head, settings: its name, and what its class takes besides the seed.
        seeds: of initial weights and orders; the first one also draws the share.
        train, val: clips to learn from, and those that choose when to end, if any.
        share: of the training clips.

    Raises:
        ProbeError: the head refuses a setting, the clips or their labels.
    """
    taken = fraction(train, share, seeds[0])
    if head == "linear":
        return _fit_linear(settings, seeds, taken, val)
    probes = [head_class(head)(**settings) for _ in seeds]
    for probe, seed in zip(probes, seeds, strict=True):
        if "seed" in probe.get_params():
            probe.set_params(seed=seed)
    return [probe.fit(taken, validation=val) for probe in probes]


def score_clips(probes: Sequence[Head], data: FeatureSet) -> NDArray[np.float64]:
    """Return the clip scores of each probe, float64 [clips, probes]."""
    return np.stack([probe.decision_function(data) for probe in probes], axis=1).astype(np.float64)


def _fit_linear(
    settings: Mapping[str, Any], seeds: Sequence[int], train: FeatureSet, val: FeatureSet | None
) -> list[Head]:
    asked = LinearProbe(**settings)
    fitted = fit(
        train,
        val,
        pools=[Pooling.parse(asked.pool)],
        weight_decays=[asked.weight_decay],
        seeds=seeds,
        settings=settings_for(asked.solver, asked.steps, asked.patience),
        class_weight=asked.class_weight,
    )
    return [LinearProbe.from_fitted(train, fitted, column) for column in range(len(seeds))]

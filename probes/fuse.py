"""Late fusion of probes that lie in files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from avfeat.errors import ProbeError
from probes.heads.fusion import LateFusion
from probes.loading import Choice, Source
from probes.probe_file import load_probe


def fuse_files(
    paths: Sequence[Path],
    combine: str,
    stores: Sequence[Path] = (),
    over: str | None = None,
    memory: str | None = None,
) -> LateFusion:
    """Return the fusion of probes by one of the rules of ``heads.fusion``.

    Args:
        paths: files of two or more probes.
        combine: ``logits``, ``probabilities`` or ``standardised``.
        stores: for ``standardised``: where the features of all probes are.
        over: for ``standardised``: ``MANIFEST[:SPLIT]``, the clips that give each probe's mean and deviation.
        memory: for ``standardised``: what frames may take of it, like ``1GB``; None: no limit.

    Raises:
        ProbeError: a file is no probe, there are fewer than two, or the clips for ``standardised`` are not named.
        StoreError, ManifestError: a store, manifest, split or feature is not there.
    """
    fused = LateFusion([load_probe(path) for path in paths], combine)
    if combine != "standardised":
        return fused.fit()
    if not stores or over is None:
        raise ProbeError("Standardised scores need clips: name --store and --over, such as favc:val.")
    features = dict.fromkeys(name for probe in fused.probes for name in probe.features_)
    return fused.fit(Source(stores, list(features), memory).load(Choice.parse(over), labelled=False).data)

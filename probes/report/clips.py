"""Clips of a stored feature as a page shows them: media, frame scores of several probes, fake segments."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

import avfeat
from avfeat.errors import ClipError, MediaError, ProbeError
from probes.explain.temporal import fake_stretches
from probes.loading import Choice, Loaded, Source
from probes.probe_file import load_probe
from probes.report.content import Line, ShownClip


def shown_clips(
    stores: Sequence[Path],
    probes: Mapping[str, Path],
    choice: Choice,
    clip_ids: Sequence[str],
    root: Path | None = None,
) -> Iterator[ShownClip]:
    """Yield clips with the frame scores of every probe that has them.

    Args:
        stores: hold the features that the probes read.
        probes: name on the page → file.
        choice: the manifest that has the clips.
        clip_ids: which clips, in the order of the page.
        root: where the media are; None: where the manifest says.

    Raises:
        ProbeError: a clip is in no probe's features.
        StoreError, ManifestError: a store, manifest or feature is not there.
    """
    heads = {name: load_probe(path) for name, path in probes.items()}
    sources = {name: Source(stores, head.features_) for name, head in heads.items()}
    manifest = next(iter(sources.values())).manifest(choice.manifest)
    table = manifest.select(choice.split).table
    chosen = table.filter(pc.is_in(table["clip_id"], value_set=pa.array(clip_ids, pa.string())))
    rows = {row["clip_id"]: row for row in chosen.to_pylist()}
    unknown = [clip_id for clip_id in clip_ids if clip_id not in rows]
    if unknown:
        raise ProbeError(f"{choice} has no clip {unknown[0]!r}; avfeat manifest show lists those it has.")
    loaded = {name: (heads[name], _load(source, choice, clip_ids)) for name, source in sources.items()}
    for clip_id in clip_ids:
        yield _shown(rows[clip_id], loaded, root or Path(manifest.info.root))


def _load(source: Source, choice: Choice, clip_ids: Sequence[str]) -> Loaded | None:
    """The clips that can be used; None where the feature is there, but has none of them."""
    try:
        return source.load(choice, labelled=False, only=clip_ids)
    except ProbeError:
        return None


def _shown(row: Mapping[str, Any], loaded: Mapping[str, tuple[Any, Loaded | None]], folder: Path) -> ShownClip:
    lines, said = [], []
    for name, (probe, found) in loaded.items():
        if found is None or row["clip_id"] not in found.data.clip_ids:
            said.append(f"{name}: no score, for its features lack this clip")
            continue
        place = found.data.clip_ids.index(row["clip_id"])
        one = found.data.select([place])
        lines.append(Line(name, probe.frame_scores(one)[0], float(found.starts[place]), found.times[1], probe.line_))
        score, chance = float(probe.decision_function(one)[0]), float(probe.predict_proba(one)[0, 1])
        said.append(f"{name}: score {score:.2f}, probability of fake {chance:.2f}")
    verdict = [" · ".join(_known(row)), "; ".join(said)]
    segments = fake_stretches(row)
    try:
        return ShownClip(row["clip_id"], verdict, lines, segments, avfeat.preview(folder / row["path"]))
    except (ClipError, MediaError, OSError) as error:
        return ShownClip(row["clip_id"], verdict, lines, segments, missing=str(error))


def _known(row: Mapping[str, Any]) -> list[str]:
    label = {0: "real", 1: "fake", None: "label unknown"}[row["label"]]
    extra = [str(row[name]) for name in ("method", "speaker") if row[name] not in (None, label)]
    return [label, *extra, *([f"split {row['split']}"] if row["split"] else [])]

"""From probes, stores and media to the clips of figure 3."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from avfeat.errors import ProbeError
from avfeat.manifest import Manifest, Row
from avfeat.store import open_store
from probes.explain.media import Seen, look
from probes.explain.temporal import Trace, stretches_for, traces
from probes.figures.figure3 import Column
from probes.heads import Head
from probes.loading import Choice, Source
from probes.localization import frame_auc

SHARES = (1 / 6, 1 / 2, 5 / 6)
"""Where in a clip its three pictures are from."""


def columns(
    heads: Mapping[str, Head],
    stores: Sequence[Path],
    clip_ids: Sequence[str],
    manifest: str | None = None,
    root: Path | None = None,
) -> list[Column]:
    """Return clips with the frame scores of every probe, and what the probes read of them: sound, pictures or both.

    Args:
        heads: probes by the name that the figure gives them.
        stores: hold the features that they read.
        clip_ids: in the order of the figure.
        manifest: that of the clips; None: the one in the stores that has them.
        root: where the media are; None: where the manifest says. Without media the curves stand alone.

    Raises:
        ProbeError: no manifest or several have the clips, or a clip has no usable frames.
        ManifestError: there is no folder ``root``.
        ClipError: a clip's media cannot be read.
    """
    key = manifest or find_manifest(stores, clip_ids)
    by_clip: dict[str, dict[str, Trace]] = {clip_id: {} for clip_id in clip_ids}
    attributes: dict[str, Mapping[str, Any]] = {}
    for name, head in heads.items():
        source = Source(stores, head.features_)
        listed = source.manifest(key)
        loaded = source.load(Choice(key), labelled=False, only=clip_ids)
        own = source.attributes(key)
        for trace in traces(head, loaded, stretches_for(loaded, own)):
            by_clip[trace.clip_id][name] = trace
        absent = sorted(set(clip_ids) - set(loaded.data.clip_ids))
        if absent:
            raise ProbeError(f"{name} has no frames of {absent[0]}: {loaded.count}.")
        attributes |= own
    folder, missing = _media_folder(listed, root)
    found = []
    for clip_id, by_probe in by_clip.items():
        row = listed.row(clip_id)
        seen = None if folder is None else _look(row, folder / row.path, attributes.values())
        found.append(Column(by_probe, seen, _notes(row, by_probe), missing))
    return found


def find_manifest(stores: Sequence[Path], clip_ids: Sequence[str]) -> str:
    """Return the key of the only manifest in the stores that has all these clips.

    Raises:
        ProbeError: none has, or several have; names them.
    """
    groups = {key: store[key] for store in map(open_store, stores) for key in store}
    having = [key for key, group in groups.items() if set(clip_ids) <= set(group.manifest().clip_ids)]
    if len(having) == 1:
        return having[0]
    if having:
        raise ProbeError(f"Several manifests have these clips: choose one of {', '.join(having)} with --manifest.")
    known = ", ".join(f"{key} (e.g. {group.manifest().clip_ids[0]})" for key, group in groups.items())
    raise ProbeError(f"No manifest has {' and '.join(clip_ids)}; there are: {known or 'none'}.")


def _media_folder(manifest: Manifest, root: Path | None) -> tuple[Path | None, str]:
    """Return where the media are; where nobody says so, None and a sentence for the figure."""
    if root is None and not (manifest.info.root and Path(manifest.info.root).is_dir()):
        return None, "media not at hand"
    return manifest.media_root(root), ""


def _look(row: Row, path: Path, attributes: Any) -> Seen:
    reads = [set() if "reads" not in each["identity"] else _kinds(each) for each in attributes]
    # Features from elsewhere do not say what they read: show all that the file has.
    kinds = set().union(*reads) if all(reads) else {"sound", "frame"}
    sound = "sound" in kinds and row.has_audio is not False
    pictures = bool(kinds - {"sound"}) and row.has_video is not False
    return look(path, row.clip_id, sound=sound, shares=SHARES if pictures else ())


def _kinds(attributes: Mapping[str, Any]) -> set[str]:
    return {view["kind"] for view in attributes["identity"]["reads"]}


def _notes(row: Row, own: Mapping[str, Trace]) -> list[str]:
    label = {0: "real", 1: "fake", None: "label unknown"}[row.label]
    words = label if not row.method or row.method == label else f"{label}, {row.method}"
    notes = []
    for name, trace in own.items():
        text = f"clip score {trace.score:.2f}"
        auc = _own_auc(trace)
        notes.append((f"{name}: " if len(own) > 1 else f"{words}, ") + text + auc)
    return [words, *notes] if len(own) > 1 else notes


def _own_auc(trace: Trace) -> str:
    if not trace.segments:
        return ""
    labels = trace.track().labels()
    if labels.all() or not labels.any():
        return ""
    micro, _ = frame_auc([trace.track()])
    return "" if math.isnan(micro) else f", frame AUC {micro:.2f}"

"""Two rendered datasets through the whole path: manifest, extract, linear probes, table, figure."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyarrow.compute as pc

from avfeat import open_store
from avfeat.datasets import csv
from avfeat.manifest import DatasetInfo, Manifest
from avfeat.manifest_build import build
from avfeat.run import extract
from demo.cast import A, B, Release
from demo.dataset import LABELS, RELEASES, fingerprint, is_rendered, render
from demo.findings import Study, draw_figure, reading, silences, study, tops_in_silence, untrained
from probes.tables.cross_dataset import cross_dataset

OUT = Path(__file__).parent / "out"
RANDOM = ("avhubert-base-random.a", "avhubert-base-random.v")
"""Sound and lips through an encoder that has learned nothing, as the paper has them for a baseline."""

DRAWN = ("logmel", "landmarks")
FEATURES = (*DRAWN, *RANDOM)
SHORT = {A.name: "A", B.name: "B"}
TABLE = "table.md"
FIGURE = "frame_scores.png"

_SOURCE = "rendered from the portraits of Grace Hopper (in matplotlib) and Eileen Collins (in scikit-image)"


def main(out: Path = OUT) -> None:
    """Run the whole demo, do only what is missing of it, and print the table."""
    began = time.monotonic()
    with _step("render two datasets"):
        if not is_rendered(out / "data"):
            # Labels decide a manifest's digest, pictures do not: features of an older rendering must go, and first.
            shutil.rmtree(out / "store", ignore_errors=True)
            render(out / "data", done=_count)
    with _step("list and probe the clips"):
        manifests = {release.name: _manifest(release, out) for release in RELEASES}
    with _step(f"extract {', '.join(FEATURES)}"):
        for manifest in manifests.values():
            extract(manifest, Path(manifest.info.root), FEATURES, out / "store")
    with _step("fit linear probes, test them on both datasets"):
        found = study(out / "store", FEATURES, SHORT, out / "probes")
    with _step("draw"):
        draw_figure(found, {SHORT[release.name]: release for release in RELEASES}, DRAWN, "A", out / FIGURE)
        text = _report(found, out / "store")
        (out / TABLE).write_text(text)
    print(text)
    print(f"Table: {out / TABLE}\nFigure: {out / FIGURE}")
    _say(f"all in {time.monotonic() - began:.0f} s")


def _manifest(release: Release, out: Path) -> Manifest:
    root = out / "data" / release.name
    info = DatasetInfo(release.name, fingerprint()[:8], str(root), _SOURCE, "both portraits are in the public domain")
    manifest = build(csv.read(root / LABELS), info).manifest
    manifest.write(out / f"{release.name}.parquet")
    return manifest


def _report(found: Study, store: Path) -> str:
    letters = SHORT.values()
    table = cross_dataset(found.cells, [("A", "A"), ("A", "B"), ("B", "B"), ("B", "A")])
    sizes = ", ".join(f"{len(found.tests[FEATURES[0], letter].data)} clips of {letter}" for letter in letters)
    what = f"AUC with the middle 95 % of bootstrap replicates; train → test; tested on {sizes}."
    sentences = reading(found, tops_in_silence(found, "logmel", "A", silences(A)))
    return f"{table}\n{what}\n\n{sentences} {untrained(found, RANDOM)}\n\n{_faces(store)}\n"


def _faces(store: Path) -> str:
    """Return a sentence on how many rendered frames show a face, by the landmarks in the store."""
    group = open_store(store)
    found = frames = 0.0
    for key in group:
        index = group[key]["track"].index()
        found += pc.sum(pc.multiply(index["face_ratio"], index["length"])).as_py()
        frames += pc.sum(index["length"]).as_py()
    return f"A face was found in {100 * found / frames:.1f} % of {frames:.0f} frames."


@contextmanager
def _step(what: str) -> Iterator[None]:
    _say(f"{what} …")
    began = time.monotonic()
    yield
    _say(f"{what}: {time.monotonic() - began:.1f} s")


def _count(done: int, of: int) -> None:
    if done % 16 == 0 or done == of:
        _say(f"  {done} of {of} clips")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)

"""``make real CLIPS=folder``: manifest, extract and status on real files, for any folder with a clips.csv.

The file names ``path`` and ``label`` (0 real, 1 fake). A folder ``broken`` with a broken.csv beside it becomes a second
manifest. All that is made goes to ./real.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from avfeat.console import errors_to_exit
from avfeat.datasets import csv
from avfeat.errors import ManifestError
from avfeat.manifest import DatasetInfo, Manifest
from avfeat.manifest_build import build
from avfeat.run import extract
from avfeat.store_status import FeatureStatus, Reason, reasons, status
from probes.tables.markdown import table

FEATURES = ("logmel", "landmarks")
OUT = Path("real")

_USAGE = "usage: python -m demo.real FOLDER, where FOLDER holds a clips.csv with the columns path and label"


def main(folder: Path, out: Path = OUT) -> str:
    """Run the path over ``folder`` and return what came of it, as Markdown.

    Raises:
        AvfeatError: there is no clips.csv, or nothing can be extracted here.
    """
    keys = set()
    for name, listing in _listings(folder):
        _say(f"{name}: probing the files that {listing} lists")
        manifest = _manifest(name, listing)
        manifest.write(out / f"{name}.parquet")
        keys.add(manifest.key)
        _say(f"{name}: {len(manifest)} clips, extracting {' and '.join(FEATURES)}")
        began = time.monotonic()
        report = extract(manifest, listing.parent, FEATURES, out / "store")
        _say(f"{name}: {report.clips} clips in {time.monotonic() - began:.0f} s, the others were there already")
    # The store may hold what an earlier run made of other listings.
    rows = [row for row in status(out / "store") if row.manifest in keys and row.feature in FEATURES]
    why = [each for each in reasons(out / "store") if each.manifest in keys and each.feature in FEATURES]
    text = describe(rows, why)
    (out / "status.md").write_text(text)
    return text


def describe(rows: Iterable[FeatureStatus], why: Iterable[Reason]) -> str:
    """Return two Markdown tables: clips by outcome for each feature, and one line for each clip that is not done."""
    heads = ("manifest", "feature", "clips", "done", "cut short", "failed", "missing")
    counts = [(row.manifest, row.feature, row.clips, row.done, row.truncated, row.failed, row.missing) for row in rows]
    odd = [(each.clip_id, each.feature, each.status, each.error or "", each.detail or "") for each in why]
    parts = [table(heads, counts)]
    if odd:
        parts.append(table(("clip", "feature", "status", "error", "why"), odd))
    return "\n".join(parts)


def _listings(folder: Path) -> list[tuple[str, Path]]:
    found = [("real", folder / "clips.csv")]
    if (folder / "broken" / "broken.csv").is_file():
        found.append(("broken", folder / "broken" / "broken.csv"))
    return found


def _manifest(name: str, listing: Path) -> Manifest:
    built = build(csv.read(listing), DatasetInfo(name, root=str(listing.parent)))
    for clip_id in built.missing:
        _say(f"{name}: {clip_id} is listed but not there")
    return built.manifest


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


@errors_to_exit()
def _run(arguments: Sequence[str]) -> None:
    if len(arguments) != 1:
        raise ManifestError(_USAGE)
    print(main(Path(arguments[0])))


if __name__ == "__main__":
    _run(sys.argv[1:])

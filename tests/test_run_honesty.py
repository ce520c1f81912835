"""The pipeline's own honesty: where labels say nothing, it finds nothing, whatever the order of clips and splits."""

import numpy as np
import pytest

from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import write_feature
from probes.run import run
from tests.running import write_protocol

CLIPS, WIDTH, SHUFFLES = 240, 8, 8
LABELS = np.arange(CLIPS) % 2
SPLITS = np.array(["train", "val", "test", "train"])[np.arange(CLIPS) // 2 % 4]


def protocol_of(names):
    """Every shuffle is a dataset of its own, fitted to the optimum; half of them also by the paper's solver."""
    stepped = [f"{name} by adam" for name in names[: SHUFFLES // 2]]
    lines = [
        "title: Signal and none",
        "datasets:",
        "  told: {manifest: told}",
        *(f"  {name}: {{manifest: told, shuffle: {name[1:]}}}" for name in names),
        "probes:",
        "  lbfgs: {settings: {solver: lbfgs, steps: 60}, seeds: [1, 2]}",
        "  adam: {settings: {solver: adam, steps: 50}, seeds: [1]}",
        "rows:",
        "  - {name: planted, features: [planted]}",
        "columns:",
        "  - {name: told, train: told, test: told, probe: lbfgs}",
        "  - {name: told by adam, train: told, test: told, probe: adam}",
        *(f"  - {{name: {name}, train: {name[:2]}, test: {name[:2]}, probe: adam}}" for name in stepped),
        f"  - {{name: shuffled by adam, mean_of: [{', '.join(stepped)}]}}",
        *(f"  - {{name: {name}, train: {name}, test: {name}, probe: lbfgs}}" for name in names),
        f"  - {{name: shuffled, mean_of: [{', '.join(names)}]}}",
    ]
    return "\n".join(lines)


def clip_ids(arrangement, rng):
    """Names, which decide the order in store and manifest: in blocks by label or by split, or in no order."""
    order = {
        "mixed": rng.permutation(CLIPS),
        "by label": np.argsort(np.argsort(LABELS, kind="stable")),
        "by split": np.argsort(np.argsort(SPLITS, kind="stable")),
    }[arrangement]
    return [f"c{k:03}" for k in order]


def manifest_of(ids, labels):
    rows = [Row(c, f"{c}.mp4", s, int(y)) for c, s, y in zip(ids, SPLITS.tolist(), labels, strict=True)]
    return Manifest.from_rows(rows, DatasetInfo("told"))


@pytest.mark.parametrize("arrangement", ["mixed", "by label", "by split"])
def test_true_labels_are_found_and_shuffled_ones_are_at_one_half_within_the_interval(arrangement, tmp_path):
    rng = np.random.default_rng(5)
    ids = clip_ids(arrangement, rng)
    direction = rng.normal(size=WIDTH)
    frames = {
        clip_id: (rng.normal(size=(rng.integers(4, 12), WIDTH)) + 0.8 * label * direction).astype(np.float16)
        for clip_id, label in zip(ids, LABELS, strict=True)
    }
    store = tmp_path / "store"
    write_feature(store, manifest_of(ids, LABELS), "planted", frames, rate_hz=25.0, first_seconds=0.02)
    names = [f"s{seed}" for seed in range(SHUFFLES)]
    report = run([write_protocol(tmp_path, protocol_of(names))], [store], tmp_path / "out", jobs=2)
    found = {cell.column: cell.measures["auc"] for cell in report.cells}
    assert found["told"].value > 0.9 and found["told by adam"].value > 0.9
    for name in ("shuffled", "shuffled by adam"):
        assert found[name].low < 0.5 < found[name].high
        # One shuffle of 60 test clips strays by 0.075, the mean of four by half of that.
        assert abs(found[name].value - 0.5) < 0.11

"""A small store of two datasets and three features, and a protocol over it, for the tests of runs and tables."""

import fcntl
import multiprocessing
from pathlib import Path

import numpy as np

from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import write_feature
from probes import run_pool
from probes.run import run

SPLITS = ("train", "train", "val", "test")

PROTOCOL = """\
title: A small grid
datasets:
  near: {manifest: near}
  far: {manifest: far}
probes:
  plain: {settings: {solver: lbfgs, steps: 20}, seeds: [1, 2]}
  late: {settings: {solver: lbfgs, steps: 20}, seeds: [1, 2], join: late}
rows:
  - {name: one, features: [one], group: single}
  - {name: two, features: [two], group: single}
  - {name: both, features: [one, two], group: pair}
columns:
  - {name: near_near, title: near → near, train: near, test: near, probe: plain}
  - {name: near_far, title: near → far, train: near, test: far, probe: late}
  - {name: far_near, title: far → near, train: far, test: near, probe: plain}
  - {name: away, mean_of: [near_far, far_near]}
"""
FITS, TESTS = 6, 8
"""Of the grid above: three rows learn from near and from far; near_near and far_near test three, near_far the two
single ones, whose probes and scores ``both`` shares."""


def planted_rows(clips=48, width=6, seed=0, strength=1.0, labels=None):
    """Rows of clips whose fakes lean towards one direction, and the labels."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(99).normal(size=width)
    labels = np.arange(clips) % 2 if labels is None else labels
    lengths = np.random.default_rng(7).integers(3, 12, clips)
    arrays = [
        (rng.normal(size=(length, width)) + strength * label * direction).astype(np.float16)
        for label, length in zip(labels, lengths, strict=True)
    ]
    return arrays, labels


def manifest_of(name, labels, splits=SPLITS, changed=None):
    """Clips c000, c001, …; ``changed`` has values of some columns by clip."""
    rows = []
    for k, label in enumerate(labels):
        facts = {"split": splits[k // 2 % len(splits)], "label": int(label), **(changed or {}).get(k, {})}
        rows.append(Row(f"c{k:03}", f"c{k:03}.mp4", **facts))
    return Manifest.from_rows(rows, DatasetInfo(name))


def make_store(folder, clips=48, features=("one", "two")):
    """Write both datasets; returns the store."""
    store = folder / "store"
    for n, name in enumerate(("near", "far")):
        for k, feature in enumerate(features):
            write(store, name, feature, seed=10 * n + k, clips=clips)
    return store


def write(store, name, feature, seed=0, clips=48, changed=None, strength=1.0):
    """Write one feature of one dataset."""
    arrays, labels = planted_rows(clips, seed=seed, strength=strength)
    manifest = manifest_of(name, labels, changed=changed)
    rows = dict(zip(manifest.clip_ids, arrays, strict=True))
    write_feature(store, manifest, feature, rows, rate_hz=25.0, first_seconds=0.02)
    return manifest


def write_protocol(folder, text=PROTOCOL, name="small"):
    """Write a protocol's file."""
    path = folder / f"{name}.yaml"
    path.write_text(text)
    return path


def start_run(protocol: Path, store: Path, out: Path, jobs: int):
    """Start a run in a process that can be killed."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["probes.run_work"])
    process = context.Process(target=_run_forking, args=(protocol, store, out, jobs))
    process.start()
    return process


def kill_run(process, out: Path):
    """Kill a run as ``kill -9`` does, and wait until its own processes have noticed and are gone too."""
    process.kill()
    process.join()
    with (out / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)


def _run_forking(protocol, store, out, jobs):
    # A fork server of its own would load the libraries once more, which takes longer than the whole run.
    run_pool.CONTEXT = multiprocessing.get_context("fork")
    run([protocol], [store], out, jobs=jobs)

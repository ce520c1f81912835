"""Sets of frames larger than the memory they may take: real stores, real files, the memory of a real process."""

import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import psutil
import pytest
import torch
from typer.testing import CliRunner

from avfeat.errors import ProbeError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import write_feature
from probes.adam import AdamSettings
from probes.cli import app
from probes.featureset import FeatureSet, inverse_norms
from probes.fit import fit
from probes.heads import head_class
from probes.heads.fusion import LateFusion, choose
from probes.lbfgs import LbfgsSettings
from probes.loading import Choice, Source
from probes.on_disk import RowFile
from probes.pooling import Pooling
from probes.probe_file import load_probe, read_probe
from tests.ragged import planted_arrays


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Two features in several parts, of which one clip was extracted again."""
    folder = tmp_path_factory.mktemp("streaming") / "store"
    arrays, labels = planted_arrays(clips=40, width=24, dtype=np.float16)
    manifest = Manifest.from_rows(
        [Row(f"c{k:02}", f"c{k:02}.mp4", ("train", "train", "val")[k // 2 % 3], int(y)) for k, y in enumerate(labels)],
        DatasetInfo("tiny"),
    )
    rows = dict(zip(manifest.clip_ids, arrays, strict=True))
    others = {clip_id: each[::-1].copy() for clip_id, each in rows.items()}
    slow = {clip_id: each[: (len(each) + 1) // 2, :5].astype(np.float32) for clip_id, each in rows.items()}
    write_feature(folder, manifest, "fast", rows, rate_hz=25.0, first_seconds=0.02, part_clips=7)
    write_feature(folder, manifest, "other", others, rate_hz=25.0, first_seconds=0.02, part_clips=7)
    write_feature(folder, manifest, "slow", slow, rate_hz=12.5, first_seconds=0.04, dtype="float32", part_clips=7)
    return folder


@pytest.mark.parametrize("features", [["fast"], ["slow", "fast"]])
def test_a_set_on_disk_is_that_in_memory(store, features):
    kept = Source([store], features).load(Choice("tiny", "train")).data
    streamed = Source([store], features, memory=3000).load(Choice("tiny", "train")).data
    assert kept.file is None and streamed.file is not None
    assert streamed.clip_ids == kept.clip_ids
    assert streamed.frames.dtype == kept.frames.dtype
    for name in ("frames", "inverse_norms", "offsets", "labels"):
        assert torch.equal(getattr(streamed, name), getattr(kept, name)), name
    for chosen in (kept.select([3, 1], skipped=[0, 2]), streamed.select([3, 1], skipped=[0, 2])):
        assert torch.equal(chosen.frames, torch.cat([kept[3], kept[1][2:]]))
        assert torch.equal(chosen.inverse_norms, inverse_norms(chosen.frames, chosen.widths))
        assert chosen.offsets.tolist() == [0, len(kept[3]), len(chosen.frames)]
        assert chosen.labels.tolist() == [kept.labels[3], kept.labels[1]]
        assert chosen.clip_ids == (kept.clip_ids[3], kept.clip_ids[1])
    assert chosen.file is not None and chosen.file is not streamed.file


@pytest.mark.parametrize("probes", [1, 3])
@pytest.mark.parametrize("features", [["fast"], ["fast", "slow"]])
@pytest.mark.parametrize("settings", [AdamSettings(epochs=3), LbfgsSettings(evaluations=15)])
def test_a_fit_on_frames_on_disk_is_that_on_frames_in_memory(store, features, settings, probes):
    found = []
    for memory in (None, 3000):
        source = Source([store], features, memory)
        train, val = (source.load(Choice("tiny", split)).data for split in ("train", "val"))
        assert (train.file is None) == (memory is None)
        pools = [Pooling("lse"), Pooling("max"), Pooling("mean")][:probes]
        found.append(fit(train, val, pools=pools, settings=settings))
    assert torch.equal(found[0].theta, found[1].theta)
    assert found[0].history == found[1].history


def test_the_operations_of_a_gpu_read_from_disk_too(store):
    from probes.adam import Adam, general_walk
    from probes.objective import all_frame_scores, general_evaluator

    found = []
    for memory in (None, 3000):
        data = Source([store], ["fast"], memory).load(Choice("tiny", "train")).data
        theta = torch.linspace(-1, 1, 2 * 25).view(2, 25)
        pools, clips = (Pooling(), Pooling("max")), len(data)
        scores = torch.empty(clips, 2)
        with torch.inference_mode():
            gradient = general_evaluator(data, theta, pools, torch.ones(clips), scores, True)(data.spans)
            adam = Adam(theta.clone(), 1e-3)
            general_walk(data, list(range(clips))[::-1], adam, pools, torch.zeros(2), torch.ones(clips))
            found.append((scores, gradient, adam.theta, all_frame_scores(data, theta)))
    for kept, streamed in zip(*found, strict=True):
        assert torch.equal(kept, streamed)


TINY = {
    "mlp": {"sizes": (16, 8), "epochs": 3},
    "sync": {"sizes": (16, 8), "epochs": 3, "tau": 2, "batch": 50},
    "ntp": {"width": 16, "blocks": 1, "heads": 2, "context": 8, "batch": 30, "epochs": 3},
    "cosine": {},
}
"""The heads that are not linear, with settings with which a fit takes a moment."""


@pytest.mark.parametrize("memory", [3000, 9000])
@pytest.mark.parametrize("name", TINY)
def test_a_head_learns_and_says_the_same_of_frames_on_disk(store, name, memory, monkeypatch):
    for module in ("mlp", "sync", "cosine"):  # so that clips lie in several blocks
        monkeypatch.setattr(f"probes.heads.{module}.BLOCK_ROWS", 7)
    found = []
    for limit in (None, memory):
        source = Source([store], ["fast", "other"], limit)
        train, val, alike = (source.load(Choice("tiny", split)).data for split in ("train", "val", "train"))
        assert (train.file is None) == (alike.file is None) == (limit is None)
        for validation in (val, None):
            head = head_class(name)(**TINY[name]).fit(train, validation=validation)
            scores = head.decision_function(alike), np.concatenate(head.frame_scores(alike))
            found.append([*head.tensors().values(), *scores, np.array([head.line_, head.unit_])])
    for kept, streamed in zip(found[0] + found[1], found[2] + found[3], strict=True):
        assert np.array_equal(kept, streamed)


def test_late_fusion_reads_any_of_the_features_from_disk(store):
    scores = []
    for limit in (None, 3000):
        data = Source([store], ["slow", "fast", "other"], limit).load(Choice("tiny", "train")).data
        apart = choose(data, ["other", "slow"])
        assert (apart.file is None) == (limit is None)
        assert torch.equal(apart.frames, torch.cat([data.frames[:, 29:], data.frames[:, :5]], dim=1))
        probes = [head_class("mlp")(**TINY["mlp"]).fit(part) for part in (apart, choose(data, ["fast"]))]
        fused = LateFusion(probes, "standardised").fit(data)
        scores.append([fused.decision_function(data), np.concatenate(fused.frame_scores(data))])
    for kept, streamed in zip(*scores, strict=True):
        assert np.array_equal(kept, streamed)


def test_sets_in_use_count_and_those_that_are_gone_do_not(store):
    source = Source([store], ["fast"], "20kB")
    first = source.load(Choice("tiny", "val"))
    assert first.data.file is None
    assert source.load(Choice("tiny", "val")).data.file is not None
    del first
    assert source.load(Choice("tiny", "val")).data.file is None


def test_windows_hold_every_clip_once_in_order_and_keep_to_their_size():
    file = RowFile(100, 8, np.dtype(np.float32), memory=32 * 32 * 10)
    assert file.window_rows == 10
    clips = [slice(a, b) for a, b in pairwise([0, 4, 8, 9, 30, 33, 60, 65, 70, 100])]
    groups = list(file.windows(clips))
    assert [clip for group in groups for clip in group] == clips
    for group in groups:
        assert len(group) == 1 or sum(clip.stop - clip.start for clip in group) <= 10
    assert groups[0] == clips[:3]


def test_rows_that_were_let_go_are_still_there():
    file = RowFile(3000, 16, np.dtype(np.float16), memory=1 << 20)
    numbers = torch.arange(3000, dtype=torch.float16)[:, None].expand(-1, 16)
    file.frames.copy_(numbers)
    for rows in (slice(0, 3000), slice(17, 1900)):
        file.let_go(rows)
        assert torch.equal(file.frames, numbers)


def test_rows_that_are_read_here_and_there_do_not_keep_those_around_them():
    """Linux maps 64 kB, or all that it has cached in one piece, around each page that is read."""
    memory = 8 << 20
    file = RowFile(32768, 1024, np.dtype(np.float16), memory)
    for rows in (slice(at, at + 1024) for at in range(0, 32768, 1024)):
        assert int(file.frames[rows].view(torch.int16).fill_(1).sum()) == 1 << 20
        file.let_go(rows)
    before, most = mapped_bytes(), 0
    clips = [slice(at, at + 4) for at in range(0, 32768, 4)]
    order = torch.randperm(len(clips), generator=torch.Generator().manual_seed(0)).tolist()
    for group in file.windows([clips[k] for k in order]):
        for clip in group:
            file.frames[clip].view(torch.int16).sum()
        most = max(most, mapped_bytes() - before)
    assert file.frames.nbytes == 8 * memory
    assert most < memory


def mapped_bytes():
    return psutil.Process().memory_info().shared


@pytest.mark.parametrize("memory", ["much", "-1GB", "0", 0])
def test_a_memory_that_is_no_size_is_refused(store, memory):
    with pytest.raises(ProbeError, match=r"is no size; write one like 1GB"):
        Source([store], ["fast"], memory)


def test_the_command_fits_the_same_probe_with_little_memory(store, tmp_path):
    found = []
    for memory in ([], ["--memory", "3kB"]):
        out = tmp_path / f"{len(memory)}.safetensors"
        arguments = ["fit", store, "--manifest", "tiny", "--feature", "fast", "--test", "tiny:val", "-o", out]
        done = run_probes(*arguments, *memory)
        assert done.exit_code == 0, done.output
        found.append(load_probe(out).weight_)
    np.testing.assert_array_equal(*found)


def run_probes(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


@pytest.mark.parametrize("command", ["eval", "compare", "calibrate", "fuse"])
def test_commands_that_read_features_say_the_same_with_little_memory(store, tmp_path, command):
    data = Source([store], ["fast"]).load(Choice("tiny", "train")).data
    probes = [tmp_path / "one.safetensors", tmp_path / "other.safetensors"]
    for seed, path in enumerate(probes):
        head_class("mlp")(sizes=(16, 8), learning_rate=0.01, epochs=6, seed=seed).fit(data).save(path)
    out = tmp_path / "out.safetensors"
    arguments = {
        "eval": [probes[0], store, "--test", "tiny:train", "--json"],
        "compare": [*probes, store, "--test", "tiny:train", "--json"],
        "calibrate": [probes[0], store, "--on", "tiny:train", "--out", out, "--json"],
        "fuse": [*probes, "--combine", "standardised", "--store", store, "--over", "tiny:train", "--out", out],
    }[command]
    found = []
    for memory in ([], ["--memory", "3kB"]):
        done = run_probes(command, *arguments, *memory)
        assert done.exit_code == 0, done.output
        found.append((done.stdout, read_probe(out)[2] if out.exists() else None))
    assert found[0] == found[1]
    refused = run_probes(command, *arguments, "--memory", "much")
    assert refused.exit_code == 1 and "'much' is no size" in refused.output


def run_python(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=240
    ).stdout.strip()


def test_a_disk_without_room_is_said_before_anything_is_written():
    said = run_python(
        "import resource, numpy as np\n"
        "from avfeat.errors import ProbeError\n"
        "from probes.on_disk import RowFile\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n    RowFile(4096, 512, np.dtype(np.float16), 1 << 20)\n"
        "except ProbeError as error:\n    print(error)\n"
    )
    assert said.startswith("Frames of 0.00 GB do not fit in ")
    assert "set TMPDIR to a folder on a larger disk, or allow more --memory" in said


GROWTH = """
import sys, threading, time
from pathlib import Path
import psutil
import torch
from probes.adam import AdamSettings
from probes.fit import fit
from probes.heads import head_class
from probes.lbfgs import LbfgsSettings
from probes.loading import Choice, Source

torch.set_num_threads(1)
folder, memory, features = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[4:]


def linear(data):
    for settings in (AdamSettings(epochs=2), LbfgsSettings(evaluations=4)):
        fit(data, settings=settings)


def other(name, **settings):
    def work(data):
        head = head_class(name)(epochs=1, **settings).fit(data)
        head.decision_function(data)

    return work


fits = {
    "linear": linear,
    "mlp": other("mlp", sizes=(16, 8)),
    "sync": other("sync", sizes=(16, 8), tau=1, batch=1024),
    "ntp": other("ntp", width=8, blocks=1, heads=1, context=64, batch=2048),
    "cosine": lambda data: head_class("cosine")().fit(data),
    "share": lambda data: data.select(list(range(len(data)))[::-1]),
}
work = fits[sys.argv[3]]
work(Source([folder], features, 4096).load(Choice("little")).data)  # imports and compiled code are no frames
process = psutil.Process()


def watched(work):
    # Returns what a function returns, and by how much the memory of the process grew meanwhile.
    most, going = 0, True

    def watch():
        nonlocal most
        while going:
            most = max(most, process.memory_info().rss)
            time.sleep(0.002)

    watcher = threading.Thread(target=watch)
    before = process.memory_info().rss
    watcher.start()
    found = work()
    going = False
    watcher.join()
    return found, most - before


data, loading = watched(lambda: Source([folder], features, memory).load(Choice("large")).data)
_, working = watched(lambda: work(data))
print(data.frames.nbytes, loading, working)
"""


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Two clips and 256 clips of two features, 128 MB."""
    rng = np.random.default_rng(0)
    folder = tmp_path_factory.mktemp("wide") / "store"
    for name, clips in (("little", 2), ("large", 256)):
        rows = [Row(f"{name}{k:04}", f"{name}{k:04}.mp4", "train", k % 2) for k in range(clips)]
        manifest = Manifest.from_rows(rows, DatasetInfo(name))
        for feature in ("lips", "sound"):
            frames = {each: rng.normal(size=(1024, 128)).astype(np.float16) for each in manifest.clip_ids}
            write_feature(folder, manifest, feature, frames, rate_hz=25.0, first_seconds=0.02, part_clips=16)
    return folder


@pytest.mark.parametrize("name", ["linear", "mlp", "sync", "ntp", "cosine", "share"])
def test_a_set_three_times_the_memory_stays_below_it(wide, name):
    memory = 40 << 20
    size, loading, working = map(int, run_python(GROWTH, wide, memory, name, "lips", "sound").split())
    assert size > 3 * memory
    assert loading < memory and working < memory


@pytest.mark.parametrize("probes", [1, 2])
def test_frames_that_the_disk_has_lost_end_a_fit_with_a_sentence(probes):
    file = RowFile(3000, 64, np.dtype(np.float16), 1 << 20)
    file.frames.normal_()
    offsets, labels = np.arange(0, 3001, 300), np.arange(10) % 2
    data = FeatureSet.from_frames(file.frames, offsets, labels, widths=(64,), file=file)
    os.ftruncate(file.descriptor, 1000 * file.row_bytes)
    for settings in (LbfgsSettings(), AdamSettings(epochs=1)):
        with pytest.raises(ProbeError, match="cannot be read any more"):
            fit(data, seeds=range(probes), settings=settings)

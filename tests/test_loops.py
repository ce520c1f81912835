"""The compiled loops of linear probes: their products, two threads at one clip, and when they are compiled anew."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import probes
from probes import processor
from probes.adam import Adam
from probes.featureset import FeatureSet
from probes.loops import products
from probes.loops.pools import KINDS, exp, pool
from probes.pooling import Pooling


def random_set(clips: int, width: int, rows: int) -> FeatureSet:
    random = np.random.default_rng(clips + width)
    arrays = [
        random.standard_normal((int(random.integers(1, rows)), width)).astype(np.float16) for _ in range(clips - 1)
    ]
    # A clip of fewer rows than threads, and frames of two features.
    arrays.append(random.standard_normal((1, width)).astype(np.float16))
    labels = [k % 2 for k in range(clips)]
    return FeatureSet.from_arrays(arrays, labels, features=("a", "b"), widths=(width // 3, width - width // 3))


@settings(deadline=None)  # numba compiles for each kind of strides
@given(
    rows=st.integers(1, 3).map(lambda n: 8 * n),
    columns=st.integers(1, 4).map(lambda n: 16 * n),
    steps=st.integers(1, 70),
    turned=st.booleans(),
    seed=st.integers(0, 99),
)
def test_products_equal_those_of_numpy(rows: int, columns: int, steps: int, turned: bool, seed: int) -> None:
    random = np.random.default_rng(seed)
    shape = (steps + 3, rows) if turned else (rows, steps + 3)
    a = random.standard_normal(shape, dtype=np.float32)
    a = a.T if turned else a
    b = random.standard_normal((steps, columns), dtype=np.float32)
    c = random.standard_normal((rows, columns), dtype=np.float32)
    expected = c.astype(np.float64) + a[:, :steps].astype(np.float64) @ b
    products.add_product(a, b, c, np.zeros((0, 8), np.uint16))
    np.testing.assert_allclose(c, expected, atol=1e-4)


def walked(data: FeatureSet, probes: int, threads: int) -> list[torch.Tensor]:
    """The state of Adam after all clips."""
    pools = [Pooling(*each) for each in (("lse", 1.0), ("lse-mean", 0.5), ("lse", 2.0))]
    pools = [pools[k % 3] for k in range(probes)]
    theta = torch.randn(probes, data.width + 1, generator=torch.Generator().manual_seed(3)) * 0.1
    adam = Adam(theta.clone(), 1e-2)
    decay = torch.linspace(0, 0.1, probes)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        processor.walk(data, list(range(len(data)))[::-1], adam, pools, decay, torch.ones(len(data)))
    finally:
        torch.set_num_threads(before)
    assert adam.steps == len(data)
    assert not torch.equal(adam.theta, theta)
    return [adam.theta, adam.mean, adam.square]


@pytest.mark.parametrize("probes", [1, 2, 16, 19, 40])
def test_who_does_a_share_of_a_clip_changes_no_bit(probes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    data = random_set(12, 512, 400)
    assert data.frames.nbytes > len(data) * processor.SHARED_BYTES
    alone, together = walked(data, probes, 1), walked(data, probes, 2)
    monkeypatch.setattr(processor, "AT_ONCE", 5)
    interruptible = walked(data, probes, 2)
    for one, other, third in zip(alone, together, interruptible, strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one, third)


@pytest.mark.parametrize("probes", [1, 3])
def test_a_thread_that_fails_does_not_leave_another_waiting(probes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise MemoryError("no room")

    modules = processor.loops()
    monkeypatch.setattr(modules.single if probes == 1 else modules.several, "walk", fail)
    with pytest.raises(MemoryError, match="no room"):
        walked(random_set(3, 512, 400), probes, 2)


def test_frames_far_below_the_highest_have_no_share_and_no_number_that_is_slow() -> None:
    assert exp(np.float32(-59)) > 0
    assert exp(np.float32(-61)) == 0
    for spread in (10.0, 70.0, 85.0, 1e3, 1e30):
        z = np.linspace(-spread, 0, 50, dtype=np.float32)
        score = pool(z, KINDS["lse"], np.float32(1))
        assert score >= 0
        slopes = z * np.float32(1e-6)
        assert not ((slopes != 0) & (slopes < np.finfo(np.float32).tiny)).any()
        assert z.sum() == pytest.approx(1)


def test_a_changed_file_makes_all_loops_be_compiled_anew(tmp_path: Path) -> None:
    shutil.copytree(Path(probes.__file__).parent, tmp_path / "probes", ignore=shutil.ignore_patterns("__pycache__"))
    code = (
        "import numpy as np\n"
        "from probes.loops import single\n"
        "z, row = np.zeros(1, np.float32), np.ones((1, 1), np.float32)\n"
        "single.score_rows(row, row, np.array([0, 1]), np.array([2, 3], np.float32), z)\n"
        "print(z[0])\n"
    )

    def run() -> str:
        command = [sys.executable, "-c", code]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    assert run() == run() == "5.0"
    changed = tmp_path / "probes" / "loops" / "machine.py"
    there = changed.read_text()
    once = "types.float32(number), lambda target, builder, signature, args: args[0]"
    assert once in there
    twice = once.replace("args[0]", "builder.fadd(args[0], args[0])")
    changed.write_text(there.replace(once, twice))
    assert run() == "7.0"


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the processor that is asked for is an x86-64 one")
def test_products_for_a_processor_with_half_as_wide_registers_are_right(tmp_path: Path) -> None:
    code = (
        "import llvmlite.binding\n"
        "llvmlite.binding.get_host_cpu_features = lambda: {'avx2': True}\n"
        "import numpy as np\n"
        "from probes.loops import products\n"
        "assert products.LANES == 8\n"
        "random = np.random.default_rng(0)\n"
        "a = random.standard_normal((16, 70), dtype=np.float32)\n"
        "b = random.standard_normal((67, 48), dtype=np.float32)\n"
        "c = np.zeros((16, 48), np.float32)\n"
        "products.add_product(a, b, c, a[:0])\n"
        "print(abs(c - a[:, :67] @ b).max() < 1e-4)\n"
    )
    other = {"NUMBA_CPU_NAME": "haswell", "NUMBA_CPU_FEATURES": "+avx,+avx2,+fma", "NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, env=os.environ | other, check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "True"

"""Ten minutes of sound and pictures through every encoder: what it takes of memory is bounded."""

import ctypes
import gc
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from avfeat.encoders import build_encoder, resolve
from avfeat.encoders.base import Encoder
from avfeat.errors import TooLongError
from avfeat.landmarks import Track
from avfeat.timeline import RATE_HZ, SAMPLES_PER_FRAME
from avfeat.views import MOUTH, SOUND, TRACK, Views
from tests import tiny_native
from tests.tiny_models import TINY_MODELS, tiny_wavlm

FRAMES = 600 * RATE_HZ
BLOCK = 32
MOST_MB = 400
"""Of which the grey mouths of ten minutes, which AV-HuBERT keeps, are 138."""


CHEAP: dict[str, dict[str, int]] = {
    "wav2vec2": {"hidden_size": 8, "num_conv_pos_embedding_groups": 1},
    "hubert": {"hidden_size": 8, "num_conv_pos_embedding_groups": 1},
    "vjepa2": {"frames_per_clip": 64},
}
"""What makes arithmetic cheap that has nothing to do with memory."""

# One stream is enough where others pass through the same front-end, which is what takes time here.
STREAM = {"auto-avsr": "a", "avhubert-base": "av", "braven-large": "a", "fsfm-vit-b16": ""}


def _small(name: str, folder: Path) -> Encoder:
    """Return an encoder of one block with one head, where that matters."""
    if name in TINY_MODELS:
        settings = {"limit_seconds": 600} if name in ("wav2vec2", "hubert") else {}
        one = {} if name == "whisper" else {"num_hidden_layers": 1, "num_attention_heads": 1} | CHEAP.get(name, {})
        place = TINY_MODELS[name](folder / name, **one)  # type: ignore[call-arg]
        return build_encoder(*resolve([f"hf:{place}"], settings=settings))
    if name in STREAM:
        encoder = tiny_native.TINY_NATIVE[name](3)
        encoder.wanted = tuple(each for each in encoder.wanted if each.layer is None and each.stream == STREAM[name])
        return encoder
    return build_encoder(*resolve([name]))


def _peak_mb(run: Callable[[], None]) -> float:
    """Return how much more memory than before ``run`` had at its height, as the kernel counts it."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # else memory that others freed would be used unseen
    Path("/proc/self/clear_refs").write_text("5")
    before = _status_mb("VmRSS")
    run()
    return _status_mb("VmHWM") - before


def _status_mb(field: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{field}:"))


def _run(encoder: Encoder, sound: np.ndarray, track: Track) -> list[tuple[int, ...]]:
    """Return the shapes of the rows of noise that comes block by block, as decoded pictures do."""
    random = np.random.default_rng(0)
    kinds = {
        view: (BLOCK, view.size_px, view.size_px, *([] if view == MOUTH else [3]))
        for view in encoder.reads() - {SOUND, TRACK}
    }
    noise = {view: random.integers(0, 256, shape, np.uint8) for view, shape in kinds.items()}
    encoding = encoder.begin()
    for start in range(0, FRAMES, BLOCK):
        count = min(BLOCK, FRAMES - start)
        last = start + count == FRAMES
        pictures = {view: block[:count].copy() for view, block in noise.items()}
        encoding.take(Views(start, pictures, sound if last else None, track if last else None))
    return [rows.shape for rows in encoding.finish(encoder.wanted).values()]  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def heard() -> np.ndarray:
    return 0.1 * np.random.default_rng(1).standard_normal(FRAMES * SAMPLES_PER_FRAME, np.float32)


@pytest.fixture(scope="module")
def track() -> Track:
    points = np.random.default_rng(2).uniform(0, 300, (FRAMES, 68, 2)).astype(np.float32)
    seen = np.ones(FRAMES, bool)
    return Track(points, np.zeros((FRAMES, 52), np.float32), seen, seen.astype(np.uint8), 400, 400)


@pytest.mark.parametrize(
    "name", ["logmel", "landmarks", *(name for name in TINY_MODELS if name != "wavlm"), *tiny_native.TINY_NATIVE]
)
def test_ten_minutes_take_bounded_memory(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, heard: np.ndarray, track: Track
) -> None:
    cheap = replace(tiny_native._SIZES, resnet_width=1, layers=1, heads=1)
    monkeypatch.setattr(tiny_native, "_SIZES", cheap)
    encoder = _small(name, tmp_path)
    shapes: list[tuple[int, ...]] = []
    taken = _peak_mb(lambda: shapes.extend(_run(encoder, heard, track)))
    assert {rows for rows, _ in shapes} == {FRAMES}
    assert taken < MOST_MB


def test_ten_minutes_are_too_long_for_wavlm_which_says_so_before_it_tries(
    tmp_path: Path, heard: np.ndarray, track: Track
) -> None:
    # Its attention keeps a table of steps x steps, 3.6 GB a head.
    encoder = build_encoder(*resolve([f"hf:{tiny_wavlm(tmp_path / 'wavlm')}"]))
    began = time.monotonic()
    with pytest.raises(TooLongError, match=r"lasts 600\.0 s and wavlm takes 60 s"):
        _run(encoder, heard, track)
    assert time.monotonic() - began < 5

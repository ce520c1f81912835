import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from avfeat.encoders import filterbank

GOLDEN = Path(__file__).parent / "data" / "golden" / "avhubert" / "audio_io.safetensors"


def _goldens() -> Iterator[Path]:
    """The set in this repository, and every further one below AVFEAT_GOLDEN."""
    yield GOLDEN
    if more := os.environ.get("AVFEAT_GOLDEN"):
        yield from sorted(Path(more).rglob("audio_io.safetensors"))


@pytest.mark.parametrize("path", list(_goldens()), ids=str)
def test_the_filterbank_equals_what_the_reference_made(path: Path) -> None:
    golden = load_file(path)
    assert np.abs(filterbank.log_filterbank(golden["wave"]) - golden["logfbank"]).max() < 1e-9
    assert np.abs(filterbank.stacked_filterbank(golden["wave"]) - golden["features"]).max() < 2e-6


@pytest.mark.parametrize(
    ("samples", "frames"),
    [(399, 1), (400, 1), (401, 2), (560, 2), (561, 3), (640, 3), (1040, 5), (1041, 6), (16000, 99), (20800, 129)],
)
def test_frames_are_counted_as_the_reference_counts_them(samples: int, frames: int) -> None:
    assert filterbank.frame_count(samples) == frames
    assert filterbank.log_filterbank(np.zeros(samples, np.float32)).shape == (frames, 26)


@pytest.mark.parametrize("frames", [1, 2, 5, 50, 751])
def test_the_sound_of_t_pictures_gives_t_rows(frames: int) -> None:
    assert filterbank.row_count(640 * frames) == frames


def test_a_tone_is_loudest_in_the_band_around_it() -> None:
    tone = np.sin(2 * np.pi * 1500 * np.arange(16000) / 16000).astype(np.float32)
    loudest = filterbank.log_filterbank(tone)[10:-10].argmax(axis=1)
    # 1500 Hz are 1290.6 mel and band j has its middle at (j + 1) * 105.19 mel: j = 11 is nearest
    assert set(loudest) == {11}


def test_digital_silence_gives_zeros_and_a_finite_logarithm() -> None:
    silence = np.zeros(6400, np.float32)
    assert np.all(filterbank.log_filterbank(silence) == np.log(np.finfo(np.float64).eps))
    assert not filterbank.stacked_filterbank(silence).any(axis=1)[:-1].any()


@settings(max_examples=15, deadline=None)
@given(samples=st.integers(1, 3000), block=st.integers(1, 40))
def test_blocks_of_any_length_give_the_same_numbers(samples: int, block: int) -> None:
    sound = np.random.default_rng(samples).standard_normal(samples).astype(np.float32)
    whole = filterbank.log_filterbank(sound)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(filterbank, "_BLOCK_FRAMES", block)
        assert np.abs(filterbank.log_filterbank(sound) - whole).max() < 1e-12


def test_a_row_looks_at_its_own_880_samples_only() -> None:
    sound = np.random.default_rng(0).standard_normal(6400).astype(np.float32)
    changed = sound.copy()
    changed[640 * 5 : 640 * 6] = 0  # rows that cover any of these samples: 4 (samples 2560 to 3439) and 5
    different = np.abs(filterbank.stacked_filterbank(sound) - filterbank.stacked_filterbank(changed)).max(axis=1) > 0
    # row 6 through pre-emphasis alone: its first sample minus the last one that changed
    assert list(np.flatnonzero(different)) == [4, 5, 6]

"""Sound in, log mel filterbank out: 26 bands, 100 Hz, joined by four to 104 numbers at 25 Hz. NumPy only.

The semantics are those of python_speech_features 0.6 with its defaults, as AV-HuBERT's preprocessing calls it: no
window, energies floored at the double epsilon, natural logarithm.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from avfeat.timeline import SOUND_RATE_HZ

WINDOW = 400
"""Samples in one frame of the filterbank, 25 ms."""

HOP = 160
"""Samples between two frames of the filterbank, 10 ms."""

BANDS = 26
JOINED = 4
WIDTH = BANDS * JOINED
"""104 numbers in one row at 25 Hz."""

_FFT = 512
_PRE_EMPHASIS = 0.97
_LAYER_NORM_EPSILON = 1e-5
_BLOCK_FRAMES = 2048  # of the filterbank: 8 MB for their spectra, whatever the clip's length


def frame_count(samples: int) -> int:
    """Return how many frames of the filterbank ``samples`` give: the last one may be partial, the least is one."""
    return 1 if samples <= WINDOW else 1 + -(-(samples - WINDOW) // HOP)


def row_count(samples: int) -> int:
    """Return how many rows at 25 Hz ``samples`` give; 640 T samples give T."""
    return -(-frame_count(samples) // JOINED)


@functools.cache
def mel_filters() -> NDArray[np.float64]:
    """Return the triangles [257, 26]: from 0 to 8000 Hz, equally spaced in mel, on floored bins, not normalised."""
    highest = 2595 * np.log10(1 + SOUND_RATE_HZ / 2 / 700)
    hertz = 700 * (10 ** (np.linspace(0, highest, BANDS + 2) / 2595) - 1)
    edges = np.floor((_FFT + 1) * hertz / SOUND_RATE_HZ).astype(int)
    filters = np.zeros((_FFT // 2 + 1, BANDS))
    for band, (low, middle, high) in enumerate(zip(edges[:-2], edges[1:-1], edges[2:], strict=True)):
        rise, fall = np.arange(low, middle), np.arange(middle, high)
        filters[rise, band] = (rise - low) / (middle - low)
        filters[fall, band] = (high - fall) / (high - middle)
    filters.flags.writeable = False
    return filters


def log_filterbank(sound: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the log energies of 26 mel bands, [frame_count, 26] at 100 Hz.

    Frame k covers samples 160 k … 160 k + 399; what lies beyond the end counts as 0.

    Args:
        sound: float32 [samples] at 16 kHz, at least one sample.
    """
    frames = frame_count(len(sound))
    energies = np.empty((frames, BANDS))
    filters = mel_filters()
    for start in range(0, frames, _BLOCK_FRAMES):
        stop = min(start + _BLOCK_FRAMES, frames)
        padded = np.zeros((stop - start - 1) * HOP + WINDOW)
        piece = _emphasised(sound, start * HOP, start * HOP + len(padded))
        padded[: len(piece)] = piece
        windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::HOP]
        spectrum = np.fft.rfft(windows, _FFT)
        power = (spectrum.real**2 + spectrum.imag**2) / _FFT
        np.matmul(power, filters, out=energies[start:stop])
    energies[energies == 0] = np.finfo(np.float64).eps
    return np.log(energies, out=energies)


def _emphasised(sound: NDArray[np.float32], start: int, stop: int) -> NDArray[np.float32]:
    """Return samples ``start`` to ``stop`` (or the end) of y[n] = x[n] - 0.97 x[n - 1], y[0] = x[0], in float32."""
    piece = sound[max(start - 1, 0) : stop].astype(np.float32, copy=False)
    emphasised = piece[1:] - np.float32(_PRE_EMPHASIS) * piece[:-1]
    return emphasised if start else np.concatenate([piece[:1], emphasised])


def joined(frames: NDArray[np.float64]) -> NDArray[np.float32]:
    """Join each four consecutive frames [n, 26] to one row [ceil(n / 4), 104]; rows of zeros fill up the last."""
    rows = np.zeros((-(-len(frames) // JOINED) * JOINED, BANDS), np.float32)
    rows[: len(frames)] = frames
    return rows.reshape(-1, WIDTH)


def normalised(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return each row with mean 0 and variance 1 over its own numbers, as a LayerNorm without weights does.

    In float64 on the way: in a row of digital silence all numbers are equal and must give zeros, not rounding noise.
    """
    centred = rows - rows.mean(axis=1, keepdims=True, dtype=np.float64)
    variance = (centred**2).mean(axis=1, keepdims=True)
    rows = (centred / np.sqrt(variance + _LAYER_NORM_EPSILON)).astype(np.float32)
    return rows


def stacked_filterbank(sound: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return AV-HuBERT's sound input: float32 [row_count, 104] at 25 Hz, each row normalised.

    Row k covers samples 640 k … 640 k + 879.
    """
    return normalised(joined(log_filterbank(sound)))

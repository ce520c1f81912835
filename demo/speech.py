"""A small formant synthesiser: a random utterance as sound, with the mouth that speaks it.

A glottal pulse and a noise source feed three resonators in series (D. H. Klatt, "Software for a cascade/parallel
formant synthesizer", JASA 67, 1980). The mouth opens with the first formant and closes for m, b, p and in pauses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter

RATE_HZ = 16_000
CONTROL_HZ = 200
"""The rate of the synthesiser's parameters and of the mouth's tracks."""

_BLOCK = RATE_HZ // CONTROL_HZ
_BANDWIDTHS_HZ = (70.0, 100.0, 160.0)

Samples = NDArray[np.float32]


@dataclass(frozen=True)
class Phone:
    """Targets of one sound of speech: formants in Hz, levels of both sources, how open the lips can be (0..1)."""

    formants: tuple[float, float, float]
    voice: float
    noise: float
    lips: float
    shortest: float
    longest: float


VOWELS = {
    "a": Phone((780, 1250, 2550), 1.0, 0.01, 1.0, 0.10, 0.22),
    "e": Phone((530, 1850, 2500), 1.0, 0.01, 1.0, 0.08, 0.18),
    "i": Phone((290, 2250, 3000), 0.9, 0.01, 1.0, 0.08, 0.18),
    "o": Phone((500, 900, 2450), 1.0, 0.01, 1.0, 0.09, 0.20),
    "u": Phone((310, 800, 2250), 0.9, 0.01, 1.0, 0.08, 0.18),
    "ə": Phone((500, 1450, 2500), 0.8, 0.01, 0.9, 0.05, 0.10),
}
CONSONANTS = {
    "m": Phone((260, 1100, 2200), 0.45, 0.0, 0.0, 0.07, 0.12),
    "n": Phone((280, 1650, 2550), 0.45, 0.0, 0.45, 0.06, 0.10),
    "b": Phone((250, 900, 2300), 0.12, 0.0, 0.0, 0.06, 0.10),
    "p": Phone((350, 950, 2300), 0.0, 0.02, 0.0, 0.07, 0.11),
    "t": Phone((350, 1800, 2700), 0.0, 0.10, 0.3, 0.05, 0.09),
    "s": Phone((350, 1900, 3400), 0.0, 0.35, 0.25, 0.08, 0.14),
    "l": Phone((360, 1300, 2700), 0.7, 0.0, 0.6, 0.05, 0.09),
    "w": Phone((300, 700, 2200), 0.7, 0.0, 0.35, 0.06, 0.10),
}
PAUSE = Phone((450, 1450, 2500), 0.0, 0.0, 0.0, 0.12, 0.30)


@dataclass(frozen=True)
class Voice:
    """Who speaks: mean pitch in Hz, how much it moves, size of the vocal tract, roughness from pulse to pulse."""

    pitch_hz: float
    lilt: float = 0.16
    tract: float = 1.0
    roughness: float = 0.02
    hiss: float = 0.0
    """Noise that rides on the voice above 4 kHz: what a cheap vocoder leaves behind."""


@dataclass(frozen=True)
class Utterance:
    """What is said and how it looks.

    sound: float32 [samples] at 16 kHz, largest magnitude near 0.5.
    opening, rounding: float32 [steps] at 200 Hz; how open (0..1) and how rounded (-1 spread .. 1 round) the lips are.
    """

    sound: Samples
    opening: Samples
    rounding: Samples

    def mouth_at(self, seconds: NDArray[np.float64]) -> tuple[Samples, Samples]:
        """Return opening and rounding at these times."""
        steps = np.arange(len(self.opening)) / CONTROL_HZ
        opening = np.interp(seconds, steps, self.opening).astype(np.float32)
        return opening, np.interp(seconds, steps, self.rounding).astype(np.float32)


def speak(seconds: float, voice: Voice, random: np.random.Generator) -> Utterance:
    """Return a random utterance of this length: syllables in short phrases, a pause between phrases."""
    steps = round(seconds * CONTROL_HZ)
    formants, levels, lips = _targets(_phrase(seconds, random), steps)
    smooth = gaussian_filter1d(formants, 3.2, axis=0) * voice.tract
    voiced, noisy = gaussian_filter1d(levels, 1.6, axis=0).T
    source = _glottal_pulses(steps, voice, random) * _per_sample(voiced)
    breath = random.standard_normal(steps * _BLOCK)
    sound = _resonate(source + 0.02 * breath * _per_sample(voiced), smooth)
    sound += _high_noise(breath) * _per_sample(noisy)
    sound += voice.hiss * _high_noise(random.standard_normal(steps * _BLOCK)) * _per_sample(voiced)
    loud = np.clip(voiced + noisy, 0, 1)
    jaw = np.clip((smooth[:, 0] / voice.tract - 230) / 520, 0.03, 1) ** 0.7 * np.clip(1.3 * loud, 0, 1)
    opening = gaussian_filter1d(jaw * lips, 4.0) * (0.25 + 0.75 * gaussian_filter1d(lips, 2.5))
    rounding = gaussian_filter1d(np.clip((1450 - smooth[:, 1] / voice.tract) / 700, -1, 1) * loud, 6.0)
    peak = max(float(np.abs(sound).max()), 1e-6)
    return Utterance((0.5 * sound / peak).astype(np.float32), opening.astype(np.float32), rounding.astype(np.float32))


def _phrase(seconds: float, random: np.random.Generator) -> list[tuple[Phone, float]]:
    """Draw phones with their lengths until ``seconds`` are full, the first and last of them pauses."""
    phones = [(PAUSE, random.uniform(0.08, 0.3))]
    vowels, consonants = list(VOWELS.values()), list(CONSONANTS.values())
    weights = np.array([3, 1, 2, 1, 1, 2, 1, 1]) / 12
    while sum(length for _, length in phones) < seconds:
        for _ in range(random.integers(4, 9)):
            for phone in (consonants[random.choice(len(consonants), p=weights)], vowels[random.integers(len(vowels))]):
                phones.append((phone, random.uniform(phone.shortest, phone.longest)))
        phones.append((PAUSE, random.uniform(PAUSE.shortest, PAUSE.longest)))
    return phones


def _targets(phones: list[tuple[Phone, float]], steps: int) -> tuple[NDArray[np.float64], ...]:
    ends = np.cumsum([length for _, length in phones])
    which = np.minimum(np.searchsorted(ends, np.arange(steps) / CONTROL_HZ, side="right"), len(phones) - 1)
    formants = np.array([phone.formants for phone, _ in phones])[which]
    levels = np.array([(phone.voice, phone.noise) for phone, _ in phones])[which]
    return formants, levels, np.array([phone.lips for phone, _ in phones])[which]


def _per_sample(track: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.interp(np.arange(len(track) * _BLOCK) / _BLOCK, np.arange(len(track)), track)


def _glottal_pulses(steps: int, voice: Voice, random: np.random.Generator) -> NDArray[np.float64]:
    """Return the derivative of Rosenberg's pulse (JASA 49, 1971): opens for 40 % of the period, shuts within 16 %."""
    slow = gaussian_filter1d(random.standard_normal(steps), 0.12 * CONTROL_HZ)
    slow = slow / max(float(np.abs(slow).max()), 1e-6)
    pitch = voice.pitch_hz * (1 + voice.lilt * slow - 0.08 * np.linspace(0, 1, steps))
    pitch = pitch * (1 + voice.roughness * random.standard_normal(steps))
    phase = np.cumsum(_per_sample(pitch)) / RATE_HZ % 1.0
    opening = np.sin(np.pi * phase / 0.40) * (phase < 0.40)
    shutting = -2.5 * np.sin(np.pi / 2 * (phase - 0.40) / 0.16) * ((phase >= 0.40) & (phase < 0.56))
    return opening + shutting


def _resonate(source: NDArray[np.float64], formants: NDArray[np.float64]) -> NDArray[np.float64]:
    """Pass the source through three resonators in series whose centres move every 5 ms; each has unit gain at 0 Hz."""
    sound = source
    for number, width in enumerate(_BANDWIDTHS_HZ):
        radius = np.exp(-np.pi * width / RATE_HZ)
        turn = 2 * radius * np.cos(2 * np.pi * formants[:, number] / RATE_HZ)
        out, state = np.empty_like(sound), np.zeros(2)
        for step, middle in enumerate(turn):
            span = slice(step * _BLOCK, (step + 1) * _BLOCK)
            poles = [1.0, -middle, radius * radius]
            out[span], state = lfilter([sum(poles)], poles, sound[span], zi=state)
        sound = out
    return sound


def _high_noise(noise: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the noise with most of its power above 4 kHz: twice differenced."""
    return np.diff(noise, 2, prepend=(0.0, 0.0)) / 2.4

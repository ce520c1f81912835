"""Two datasets of talking portraits on disk: real clips, and three kinds of forgery with known segments.

``sound``: another utterance, by a cloned voice, replaces what was said; the mouth stays. ``mouth``: the lips speak
another utterance; the sound stays. ``both``: sound and lips speak another utterance, in step with each other. Half of
the forgeries cover the whole clip, the others a second or two of it. All follows from the seed.

Like those of real generators, forgeries carry traces: noise on a cloned voice, lips that tremble, sit a little aside
and do not move the chin. A's cloned voice is the better one, its trace is faint. But in A every forgery, of the mouth
alone too, begins with digital silence; in B none does.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.signal import resample_poly

from avfeat.media import write_video
from demo.cast import A, B, Release, Speaker
from demo.portrait import Pixels, Portrait
from demo.speech import RATE_HZ, Samples, Utterance, speak

RELEASES = (A, B)
SEED = 7
LABELS = "labels.csv"
METHODS = ("sound", "mouth", "both")

_NOTE = "made.json"
_SOURCES = ("cast.py", "dataset.py", "face.py", "portrait.py", "speech.py")
_SOUND_FADE_SECONDS = 0.008
_MOUTH_FADE_SECONDS = 0.06

Segment = tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """All that is to be known of a clip before it is rendered; ``method`` empty for a real one."""

    release: Release
    speaker: Speaker
    number: int
    seed: tuple[int, ...]
    seconds: float
    method: str
    segment: Segment | None
    silence_seconds: float

    @property
    def path(self) -> str:
        """Where the clip lies below its dataset's folder."""
        return f"{self.speaker.name}/{self.number:02d}{self.release.suffix}"

    @property
    def sound_segment(self) -> Segment | None:
        """Where the sound is forged."""
        return self.segment if self.method in ("sound", "both") else None

    @property
    def mouth_segment(self) -> Segment | None:
        """Where the mouth is forged."""
        return self.segment if self.method in ("mouth", "both") else None


@dataclass(frozen=True)
class Take:
    """One clip before it is compressed: sound float32 [samples] at 16 kHz, one row of movement for each picture.

    opening, rounding, pasted, blink: float32 [pictures]; sway: float64 [pictures, 4].
    """

    sound: Samples
    opening: Samples
    rounding: Samples
    pasted: Samples
    blink: Samples
    sway: NDArray[np.float64]


def plan(release: Release, seed: int = SEED) -> list[Plan]:
    """Return the clips of one dataset: of each speaker as many real as forged ones, in a drawn order."""
    plans = []
    for who, speaker in enumerate(release.cast):
        random = np.random.default_rng([seed, *release.name.encode(), who])
        order = random.permutation(release.clips_per_speaker)
        for place, number in enumerate(order):
            pictures = random.integers(2 * release.fps, round(2.7 * release.fps))
            seconds = float(pictures / release.fps)
            forged = place % 2 == 1
            turn = who * release.clips_per_speaker // 2 + place // 2
            plans.append(
                Plan(
                    release,
                    speaker,
                    int(number),
                    (seed, *release.name.encode(), who, int(number)),
                    seconds,
                    METHODS[turn % 3] if forged else "",
                    _segment(seconds, whole=turn % 2 == 0, random=random) if forged else None,
                    float(random.uniform(0.2, 0.35)) if forged and release.silenced else 0.0,
                )
            )
    return sorted(plans, key=lambda clip: clip.path)


def _segment(seconds: float, whole: bool, random: np.random.Generator) -> Segment:
    if whole:
        return 0.0, int(100 * seconds) / 100
    length = random.uniform(0.9, min(1.6, seconds - 0.6))
    start = random.uniform(0.3, seconds - length - 0.1)
    return round(float(start), 2), round(float(start + length), 2)


def perform(clip: Plan) -> Take:
    """Return what happens in a clip, forgery included; the same plan gives the same take."""
    random = np.random.default_rng(clip.seed)
    release, voice = clip.release, clip.speaker.voice
    times = np.arange(round(clip.seconds * release.fps)) / release.fps
    spoken = speak(clip.seconds, voice, random)
    clone = replace(voice, lilt=0.3 * voice.lilt, roughness=0.0, hiss=release.vocoder_hiss)
    other = speak(clip.seconds, clone, random)
    blink, sway = _blinks(times, random), _sway(times, random)
    sound = spoken.sound
    if clip.sound_segment:
        share = _inside(np.arange(len(sound)) / RATE_HZ, clip.sound_segment, _SOUND_FADE_SECONDS)
        sound = sound * (1 - share) + other.sound * share
    sound = random.uniform(0.6, 1.0) * sound + release.room * random.standard_normal(len(sound))
    sound[: round(clip.silence_seconds * RATE_HZ)] = 0
    opening, rounding = spoken.mouth_at(times)
    pasted = np.zeros_like(opening)
    if clip.mouth_segment:
        pasted = share = _inside(times, clip.mouth_segment, _MOUTH_FADE_SECONDS)
        lips = _forged_lips(other, times, release.flicker, random)
        opening, rounding = opening * (1 - share) + lips[0] * share, rounding * (1 - share) + lips[1] * share
    return Take(
        sound.astype(np.float32),
        np.clip(opening, 0, 1).astype(np.float32),
        np.clip(rounding, -1, 1).astype(np.float32),
        pasted.astype(np.float32),
        blink,
        sway,
    )


def pictures(clip: Plan, take: Take) -> Iterator[Pixels]:
    """Yield the pictures of a take, uint8 [height, width, 3], with the release's grain."""
    release = clip.release
    portrait = _portrait(clip.speaker, release)
    random = np.random.default_rng([*clip.seed, 1])
    height, width = release.height_px, release.width_px
    grain = (release.grain * random.standard_normal((height + 16, width + 16, 1))).astype(np.int16)
    for row in zip(take.opening, take.rounding, take.pasted, take.blink, take.sway, strict=True):
        down, right = random.integers(16, size=2)
        noise = grain[down : down + height, right : right + width] * random.choice([-1, 1])
        yield np.clip(portrait.picture(*row) + noise, 0, 255).astype(np.uint8)


def render(
    folder: Path,
    releases: Sequence[Release] = RELEASES,
    seed: int = SEED,
    *,
    workers: int | None = None,
    done: Callable[[int, int], None] | None = None,
) -> bool:
    """Render datasets below ``folder``, each clip and the labels; leave them alone if they are there already.

    What is there counts only if it was made whole, by this very code, with this seed; else it is replaced.

    Args:
        folder: gets one folder for each release; all else in it is removed.
        releases: what to render.
        seed: of everything that is drawn.
        workers: processes; None takes one for each processor that we may use.
        done: is told after every clip how many there are of how many.

    Returns:
        Whether anything had to be rendered.
    """
    plans = [clip for release in releases for clip in plan(release, seed)]
    if is_rendered(folder, releases, seed):
        return False
    shutil.rmtree(folder, ignore_errors=True)
    for clip in plans:
        (folder / clip.release.name / clip.path).parent.mkdir(parents=True, exist_ok=True)
    workers = workers or len(os.sched_getaffinity(0))
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(write_clip, folder / clip.release.name, clip) for clip in plans]
        for number, job in enumerate(as_completed(jobs), 1):
            job.result()
            if done is not None:
                done(number, len(jobs))
    for release in releases:
        write_labels(folder / release.name / LABELS, plan(release, seed))
    files = {
        str(path.relative_to(folder)): path.stat().st_size for path in sorted(folder.rglob("*.*")) if path.is_file()
    }
    made = {"fingerprint": fingerprint(releases, seed), "files": files}
    (folder / _NOTE).write_text(json.dumps(made, indent=1))
    return True


def is_rendered(folder: Path, releases: Sequence[Release] = RELEASES, seed: int = SEED) -> bool:
    """Return whether ``render`` with these arguments has ended, and every file still has the size that it had then."""
    note = folder / _NOTE
    if not note.is_file():
        return False
    made = json.loads(note.read_text())
    files = {folder / name: size for name, size in made["files"].items()}
    return made["fingerprint"] == fingerprint(releases, seed) and all(
        path.is_file() and path.stat().st_size == size for path, size in files.items()
    )


def fingerprint(releases: Sequence[Release] = RELEASES, seed: int = SEED) -> str:
    """Return a hash of all that decides what the datasets look like: releases, seed and this code."""
    text = hashlib.sha256(repr((releases, seed)).encode())
    for name in _SOURCES:
        text.update(Path(__file__).with_name(name).read_bytes())
    return text.hexdigest()


def write_clip(folder: Path, clip: Plan) -> None:
    """Render one clip into its dataset's folder."""
    release, take = clip.release, perform(clip)
    ratio = Fraction(release.sound_rate_hz, RATE_HZ)
    sound = resample_poly(take.sound, ratio.numerator, ratio.denominator) if ratio != 1 else take.sound
    write_video(
        folder / clip.path,
        pictures(clip, take),
        release.fps,
        sound,
        release.sound_rate_hz,
        video_codec=release.video_codec,
        crf=release.crf,
        video_bitrate=release.video_bitrate,
        audio_codec=release.audio_codec,
    )


def write_labels(path: Path, plans: list[Plan]) -> None:
    """Write what is known of the clips, one line each, in the columns of a manifest."""
    names = ["path", "split", "label", "audio_label", "video_label", "segments", "audio_segments", "video_segments"]
    with path.open("w", newline="") as file:
        lines = csv.writer(file)
        lines.writerow([*names, "method", "speaker"])
        for clip in plans:
            parts = (clip.segment, clip.sound_segment, clip.mouth_segment)
            flags = [int(part is not None) for part in parts]
            listed = [json.dumps([part] if part else []) for part in parts]
            lines.writerow([clip.path, clip.speaker.split, *flags, *listed, clip.method or "real", clip.speaker.name])


@lru_cache(maxsize=2)
def _portrait(speaker: Speaker, release: Release) -> Portrait:
    return Portrait(speaker.look, release.width_px, release.height_px)


def _inside(times: NDArray[np.float64], segment: Segment, fade: float) -> NDArray[np.float64]:
    """Return how much of each moment lies in the segment: 1 inside, 0 outside, a ramp of ``fade`` seconds between."""
    start, end = segment
    rise = 0.5 + (times - start) / fade if start > 0 else np.ones_like(times)
    return np.clip(np.minimum(rise, 0.5 + (end - times) / fade), 0, 1)


def _forged_lips(
    other: Utterance, times: NDArray[np.float64], flicker: float, random: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the lips of another utterance as a generator draws them: never quite shut, trembling."""
    opening, rounding = other.mouth_at(times)
    tremble = flicker * random.standard_normal((2, len(times)))
    return 0.06 + 0.9 * opening + tremble[0], 0.8 * rounding + 2 * tremble[1]


def _blinks(times: NDArray[np.float64], random: np.random.Generator) -> Samples:
    """Return how far the eyes are shut: 0.2 s for a blink, one every 1.5 to 3.5 s."""
    blink = np.zeros_like(times)
    moment = random.uniform(0.4, 2.0)
    while moment < times[-1]:
        blink = np.maximum(blink, np.clip(1.6 - np.abs(times - moment) / 0.07, 0, 1))
        moment += random.uniform(1.5, 3.5)
    return blink.astype(np.float32)


def _sway(times: NDArray[np.float64], random: np.random.Generator) -> NDArray[np.float64]:
    """Return slow movements: about 2 pixels, half a degree, half a per cent."""
    step = float(times[1] - times[0])
    pad = round(3 / step)
    drift = gaussian_filter1d(random.standard_normal((len(times) + 2 * pad, 4)), 0.35 / step, axis=0)[pad:-pad]
    unit = drift * np.sqrt(2 * np.sqrt(np.pi) * 0.35 / step)
    return unit * np.array([2.0, 1.2, 0.008, 0.005])

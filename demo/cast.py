"""Who appears in which dataset, and what each dataset's recordings are like."""

from __future__ import annotations

from dataclasses import dataclass

from demo.portrait import Look
from demo.speech import Voice


@dataclass(frozen=True)
class Speaker:
    """An identity: a face and a voice, in one split only."""

    name: str
    split: str
    look: Look
    voice: Voice


@dataclass(frozen=True)
class Release:
    """One dataset: its cast and how its clips are recorded, compressed and forged.

    grain is the noise of pictures (grey levels), room the noise of sound (rms, full scale 1). silenced: forged clips
    start with a stretch of digital silence, as those of real datasets do. vocoder_hiss and flicker are what forged
    sound and forged mouths carry along: noise on the voice, lips that tremble from picture to picture.
    """

    name: str
    cast: tuple[Speaker, ...]
    width_px: int
    height_px: int
    fps: int
    suffix: str
    video_codec: str
    crf: int | None
    video_bitrate: int | None
    audio_codec: str
    sound_rate_hz: int
    grain: float
    room: float
    silenced: bool
    vocoder_hiss: float
    flicker: float
    clips_per_speaker: int = 8


A = Release(
    name="demo-a",
    cast=(
        Speaker("hopper", "train", Look("hopper", eye_distance_px=60), Voice(185)),
        Speaker(
            "astronaut-left",
            "train",
            Look("astronaut", mirrored=True, eye_distance_px=58, light=0.2, light_degrees=180),
            Voice(205, tract=1.06),
        ),
        Speaker(
            "hopper-dusk",
            "train",
            Look("hopper", mirrored=True, eye_distance_px=66, gamma=1.3, warmth=0.08, stretch=1.04),
            Voice(125, tract=0.92),
        ),
        Speaker("astronaut", "train", Look("astronaut", eye_distance_px=66, warmth=0.04), Voice(220, tract=1.09)),
        Speaker(
            "astronaut-pale",
            "val",
            Look("astronaut", eye_distance_px=64, saturation=0.55, gamma=0.85, stretch=0.95),
            Voice(165, tract=1.0),
        ),
        Speaker(
            "hopper-grey",
            "test",
            Look("hopper", eye_distance_px=63, saturation=0.1, light=0.25, light_degrees=30, stretch=0.95),
            Voice(150, tract=0.96),
        ),
        Speaker(
            "astronaut-night",
            "test",
            Look("astronaut", mirrored=True, eye_distance_px=60, gamma=1.4, warmth=-0.12, stretch=1.06),
            Voice(115, tract=0.9),
        ),
        Speaker(
            "hopper-dawn",
            "test",
            Look("hopper", mirrored=True, eye_distance_px=58, gamma=0.8, warmth=0.05, light=0.2, light_degrees=90),
            Voice(200, tract=1.05),
        ),
    ),
    width_px=288,
    height_px=288,
    fps=25,
    suffix=".mp4",
    video_codec="libx264",
    crf=23,
    video_bitrate=None,
    audio_codec="aac",
    sound_rate_hz=16_000,
    grain=2.0,
    room=0.002,
    silenced=True,
    vocoder_hiss=0.05,
    flicker=0.06,
)

B = Release(
    name="demo-b",
    cast=(
        Speaker(
            "astronaut-lamp",
            "train",
            Look("astronaut", eye_distance_px=62, warmth=0.14, light=0.3, light_degrees=-60),
            Voice(195, tract=1.04),
        ),
        Speaker(
            "hopper-left",
            "train",
            Look("hopper", mirrored=True, eye_distance_px=56, saturation=0.7),
            Voice(140, tract=0.94),
        ),
        Speaker(
            "astronaut-wide",
            "train",
            Look("astronaut", mirrored=True, eye_distance_px=57, stretch=1.08, saturation=0.8, gamma=1.1),
            Voice(175, tract=1.02),
        ),
        Speaker(
            "hopper-cold", "train", Look("hopper", eye_distance_px=60, warmth=-0.14, gamma=0.9), Voice(160, tract=0.98)
        ),
        Speaker(
            "hopper-faded",
            "val",
            Look("hopper", mirrored=True, eye_distance_px=62, saturation=0.4, gamma=0.9, stretch=1.03),
            Voice(145, tract=0.97),
        ),
        Speaker(
            "astronaut-grey",
            "test",
            Look("astronaut", eye_distance_px=60, saturation=0.05, light=-0.2, light_degrees=20),
            Voice(210, tract=1.07),
        ),
        Speaker(
            "hopper-sun",
            "test",
            Look("hopper", eye_distance_px=64, gamma=0.75, warmth=0.1, light=0.25, light_degrees=-120),
            Voice(120, tract=0.91),
        ),
        Speaker(
            "hopper-slim",
            "test",
            Look("hopper", mirrored=True, eye_distance_px=58, stretch=0.92, gamma=1.2),
            Voice(180, tract=1.01),
        ),
    ),
    width_px=256,
    height_px=320,
    fps=30,
    suffix=".mkv",
    video_codec="mpeg4",
    crf=None,
    video_bitrate=700_000,
    audio_codec="libmp3lame",
    sound_rate_hz=44_100,
    grain=4.0,
    room=0.006,
    silenced=False,
    vocoder_hiss=0.25,
    flicker=0.06,
)

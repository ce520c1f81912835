"""What a media file says of itself, without decoding more than its first picture."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from avfeat.clip_decode import turn_of
from avfeat.clip_file import Opened, first_picture, open_file


@dataclass(frozen=True)
class Media:
    """What a file says of itself; None is unknown.

    duration_seconds: from time zero to the end of the longest stream.
    fps: pictures per second, an average where they come unevenly.
    source_frames: pictures in the file, those that an edit list hides among them.
    width, height: of the displayed picture, after rotation; pixels that are not square stay as stored.
    container, video_codec, audio_codec: libav's short names, empty where there is none.
    audio_channels: of the chosen sound.
    rotation_degrees: how far the stored picture is turned clockwise to be displayed.
    video_start_seconds, audio_start_seconds: where the chosen streams begin on the clip's timeline.
    video_streams, audio_streams, video_index, audio_index: how many there are, and which were chosen. Of the pictures
        the stream flagged as default, then the one with the most pixels, then the first, never a cover picture; of the
        sound the stream flagged as default, then the one with the most channels, then the first.
    """

    duration_seconds: float | None
    fps: float | None
    source_frames: int | None
    width: int | None
    height: int | None
    has_video: bool
    has_audio: bool
    audio_rate_hz: int | None
    container: str = ""
    video_codec: str = ""
    audio_codec: str = ""
    audio_channels: int | None = None
    rotation_degrees: int = 0
    video_start_seconds: float | None = None
    audio_start_seconds: float | None = None
    video_streams: int = 0
    audio_streams: int = 0
    video_index: int | None = None
    audio_index: int | None = None


def probe_file(path: Path, name: str) -> tuple[Media, tuple[int, int] | None]:
    """Return the facts, and the (width, height) of the pictures as stored.

    Raises:
        UnreadableError: it is not media.
    """
    opened = open_file(path, name)
    try:
        return _facts(opened)
    finally:
        opened.close()


def _facts(opened: Opened) -> tuple[Media, tuple[int, int] | None]:
    video, audio, streams = opened.video, opened.audio, opened.container.streams
    # What the header says is read first, since decoding may change it.
    duration, frames = _duration(opened), video.frames if video else 0
    rate = video and (video.average_rate or video.guessed_rate)
    size = (video.width, video.height) if video else None
    picture, sideways, rotation = first_picture(opened), False, 0
    if picture is not None:
        size, sideways = (picture.width, picture.height), turn_of(picture)[0]
        rotation = round(-picture.rotation / 90) * 90 % 360
    shown = size[::-1] if size and sideways else size
    media = Media(
        duration_seconds=duration,
        fps=float(rate) if rate else None,
        source_frames=frames or None,
        width=shown[0] if shown else None,
        height=shown[1] if shown else None,
        has_video=video is not None,
        has_audio=audio is not None,
        audio_rate_hz=audio.rate if audio else None,
        container=opened.format,
        video_codec=video.codec_context.name if video else "",
        audio_codec=audio.codec_context.name if audio else "",
        audio_channels=audio.channels if audio else None,
        rotation_degrees=rotation,
        video_start_seconds=_start(opened, video),
        audio_start_seconds=_start(opened, audio),
        video_streams=len(streams.video),
        audio_streams=len(streams.audio),
        video_index=video.index if video else None,
        audio_index=audio.index if audio else None,
    )
    return media, size


def _start(opened: Opened, stream: VideoStream | AudioStream | None) -> float | None:
    if stream is None or stream.start_time is None:
        return None
    return float(opened.seconds(stream, stream.start_time))


def _duration(opened: Opened) -> float | None:
    """Where the longest stream ends as announced, or as libavformat estimates from what is there."""
    ends = [opened.announced_end(stream) for stream in (opened.video, opened.audio) if stream]
    known = [end for end in (*ends, opened.whole_end()) if end is not None]
    if known:
        return float(max(known))
    if not opened.container.duration:
        return None
    start = Fraction(opened.container.start_time or 0, 1_000_000)
    return float(start + Fraction(opened.container.duration, 1_000_000) - opened.zero)

"""Opening a media file so that nothing but this one file is ever read, and choosing its streams."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import av.stream
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from avfeat.containers import FORMATS, what_it_is
from avfeat.errors import UnreadableError

BUFFER_BYTES = 1 << 17

TS_DISCONT = 0x200
"""AVFMT_TS_DISCONT of libavformat: the format's clock starts anywhere and may jump."""

LONGEST_LEAD = Fraction(1)
"""Seconds. A file whose first stamp is later than this is a piece of something longer."""

_NOT_MOVING = (
    av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails | av.stream.Disposition.still_image
)


class _OneFile:
    """A file object without a name: the decoder can read it, and nothing in it can be taken for an address."""

    def __init__(self, path: Path):
        self._file = path.open("rb", buffering=0)

    def read(self, size: int) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Opened:
    """A container with the streams that stand for the clip, and its time zero in seconds on the container's clock."""

    container: av.container.InputContainer
    video: VideoStream | None
    audio: AudioStream | None
    zero: Fraction
    _file: _OneFile

    def close(self) -> None:
        """Close the container and its file."""
        self.container.close()
        self._file.close()


def open_file(path: Path, name: str) -> Opened:
    """Open a media file and choose its streams.

    Args:
        path: any path; it reaches the decoder as an open file, never as text.
        name: what to call the clip in errors.

    Raises:
        UnreadableError: no such file, or nothing in it can be decoded; one sentence guesses what it is instead.
    """
    file = _open(path, name)
    try:
        container = av.open(
            file,
            mode="r",
            container_options={"format_whitelist": ",".join(FORMATS), "protocol_whitelist": ""},
            metadata_errors="replace",
            buffer_size=BUFFER_BYTES,
        )
    except (av.error.FFmpegError, OSError, ValueError, RuntimeError) as error:
        file.close()
        raise UnreadableError(f"{name}: {what_it_is(path)}.") from error
    try:
        video = best_video(list(container.streams.video))
        audio = best_audio(list(container.streams.audio))
        if video is None and audio is None:
            raise UnreadableError(f"{name}: {what_it_is(path)}.")
        return Opened(container, video, audio, time_zero(container), file)
    except BaseException:
        container.close()
        file.close()
        raise


def _open(path: Path, name: str) -> _OneFile:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UnreadableError(f"{name}: {path} is not a regular file.")
        return _OneFile(path)
    except FileNotFoundError as error:
        raise UnreadableError(f"{name}: there is no file {path}.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UnreadableError(f"{name}: {path} cannot be opened ({reason}).") from error


def best_video(streams: list[VideoStream]) -> VideoStream | None:
    """Choose the pictures: those flagged as default, then the most pixels, then the first; never a cover picture."""
    moving = [
        stream
        for stream in streams
        if stream.codec_context is not None and stream.width and stream.height and not stream.disposition & _NOT_MOVING
    ]
    return max(moving, key=lambda stream: (_is_default(stream), stream.width * stream.height), default=None)


def best_audio(streams: list[AudioStream]) -> AudioStream | None:
    """Choose the sound as ffmpeg does: streams flagged as default, then the most channels, then the first."""
    heard = [
        stream for stream in streams if stream.codec_context is not None and stream.rate and stream.layout.nb_channels
    ]
    return max(heard, key=lambda stream: (_is_default(stream), stream.layout.nb_channels), default=None)


def _is_default(stream: Any) -> bool:
    return bool(stream.disposition & av.stream.Disposition.default)


def time_zero(container: av.container.InputContainer) -> Fraction:
    """Return time zero on the container's clock.

    It is zero, save where that clock does not start with the clip: in program and transport streams, and in pieces cut
    from something longer. There it is the earliest start of any stream.
    """
    starts = [
        stream.start_time * stream.time_base
        for stream in (*container.streams.video, *container.streams.audio)
        if stream.start_time is not None and stream.time_base is not None
    ]
    first = min(starts, default=Fraction(0))
    own_clock = bool(container.format.flags & TS_DISCONT)
    return first if own_clock or first > LONGEST_LEAD else Fraction(0)

"""Opening a media file so that nothing but this one file is ever read, and choosing its streams."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

import av
import av.container
import av.error
import av.stream
from av.audio.stream import AudioStream
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from avfeat.containers import FORMATS, HEAD_BYTES, is_cut_off, picture_format, what_it_is
from avfeat.errors import UnreadableError

BUFFER_BYTES = 1 << 17

TS_DISCONT = 0x200
"""AVFMT_TS_DISCONT of libavformat: the format's clock starts anywhere and may jump."""

LONGEST_LEAD = Fraction(1)
"""Seconds. A file whose first stamp is later than this is a piece of something longer."""

TELLS_ITS_END = ("mov", "matroska", "avi", "flv", "wav", "flac", "mxf")
"""Formats whose header says how long they are; libavformat estimates the length of all others from what is there."""

FIRST_PICTURE_PACKETS = 500
"""A probe gives up its search for a picture after so many packets."""

_NOT_MOVING = (
    av.stream.Disposition.attached_pic | av.stream.Disposition.timed_thumbnails | av.stream.Disposition.still_image
)


class _OneFile:
    """A file object without a name: the decoder can read it, and nothing in it can be taken for an address.

    ``error`` keeps what went wrong on the disk, which libavformat would take for the end of the file.
    """

    def __init__(self, path: Path):
        self.error: OSError | None = None
        self._file = path.open("rb", buffering=0)

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.error = error
            raise

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        self._file.close()


@dataclass(frozen=True)
class Opened:
    """A container, the streams that stand for the clip, and time zero in seconds on the container's clock."""

    name: str
    container: av.container.InputContainer
    video: VideoStream | None
    audio: AudioStream | None
    zero: Fraction
    file: _OneFile

    @property
    def format(self) -> str:
        """Short name of the container format, e.g. ``mov`` for MP4 and QuickTime."""
        return self.container.format.name.split(",")[0]

    def seconds(self, stream: VideoStream | AudioStream, stamp: int) -> Fraction:
        """Return a stamp of a stream as seconds on the clip's timeline."""
        return stamp * (stream.time_base or Fraction(1, 1000)) - self.zero

    def announced_end(self, stream: VideoStream | AudioStream) -> Fraction | None:
        """Return where the file says that a stream ends, in seconds on the timeline; None if it does not say."""
        if self.format not in TELLS_ITS_END:
            return None
        if stream.duration:
            length = stream.duration
            if self.format == "avi" and isinstance(stream, VideoStream):
                # libavformat shrinks the duration of an AVI file that is cut off, but not the number of its frames.
                length = max(length, stream.frames)
            return self.seconds(stream, (stream.start_time or 0) + length)
        tag = _clock(stream.metadata.get("DURATION", ""))
        return tag - self.zero if tag else None

    def whole_end(self) -> Fraction | None:
        """Return where the file as a whole says that it ends, if it does not say so for each stream."""
        if self.format not in TELLS_ITS_END or not self.container.duration:
            return None
        streams: tuple[VideoStream | AudioStream, ...] = self.container.streams.video + self.container.streams.audio
        if any(self.announced_end(stream) is not None for stream in streams):
            return None
        return Fraction(self.container.duration, 1_000_000) - self.zero

    def is_cut_off(self) -> bool:
        """Whether the file is shorter than it says itself."""
        return is_cut_off(self.file)

    def check_disk(self) -> None:
        """Raise if the disk, and not the file's content, was what ended the reading.

        Raises:
            UnreadableError: it was.
        """
        _check_disk(self.file, self.name)

    def close(self) -> None:
        """Close the container and its file."""
        self.container.close()
        self.file.close()


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
        picture = picture_format(file.read(HEAD_BYTES))
        if picture:
            raise UnreadableError(f"{name} is a picture ({picture}), not a video.")
        file.seek(0)
        opened = _opened(file, name)
        if opened.video is None and opened.audio is None:
            cut, kinds = opened.is_cut_off(), sorted({stream.type for stream in opened.container.streams})
            opened.container.close()
            found = ", ".join(kinds) or "no streams"
            clause = f"has no pictures and no sound that can be decoded; in it are: {found}"
            raise UnreadableError(f"{name} {what_it_is(path) if cut else clause}.")
        return opened
    except (av.error.FFmpegError, ValueError, RuntimeError, OSError) as error:
        file.close()
        _check_disk(file, name)
        clause = what_it_is(path)
        raise UnreadableError(f"{name} {clause}{'' if clause.endswith('?') else '.'}") from error
    except BaseException:
        file.close()
        raise


def _check_disk(file: _OneFile, name: str) -> None:
    if file.error is not None:
        raise UnreadableError(f"{name}: reading the file failed ({file.error.strerror}).") from file.error


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


def _opened(file: _OneFile, name: str) -> Opened:
    container = av.open(
        file,
        mode="r",
        container_options={"format_whitelist": ",".join(FORMATS), "protocol_whitelist": ""},
        metadata_errors="replace",
        buffer_size=BUFFER_BYTES,
    )
    video, audio = best_video(container.streams.video), best_audio(container.streams.audio)
    return Opened(name, container, video, audio, time_zero(container), file)


def best_video(streams: Sequence[VideoStream]) -> VideoStream | None:
    """Choose the pictures: streams flagged as default, then the most pixels, then the first; never a cover picture."""
    moving = [
        stream
        for stream in streams
        if stream.codec_context is not None and stream.width and stream.height and not stream.disposition & _NOT_MOVING
    ]
    return max(moving, key=lambda stream: (_is_default(stream), stream.width * stream.height), default=None)


def best_audio(streams: Sequence[AudioStream]) -> AudioStream | None:
    """Choose the sound as ffmpeg does: streams flagged as default, then the most channels, then the first."""
    heard = [stream for stream in streams if stream.codec_context is not None and stream.rate and stream.channels]
    return max(heard, key=lambda stream: (_is_default(stream), stream.channels), default=None)


def _is_default(stream: av.stream.Stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.default)


def time_zero(container: av.container.InputContainer) -> Fraction:
    """Return time zero on the container's clock.

    It is zero, save where that clock does not start with the clip: in program and transport streams and Ogg, and in
    pieces cut from something longer. There it is the earliest start of any stream.
    """
    starts = [
        stream.start_time * stream.time_base
        for stream in (*container.streams.video, *container.streams.audio)
        if stream.start_time is not None and stream.time_base is not None
    ]
    first = min(starts, default=Fraction(0))
    return first if container.format.flags & TS_DISCONT or first > LONGEST_LEAD else Fraction(0)


def packets_of(opened: Opened, streams: list[VideoStream | AudioStream]) -> Iterator[Packet[Any]]:
    """Yield the packets of streams to the end of what can be read; the last of each stream is empty, if all went well.

    Raises:
        UnreadableError: the disk failed.
    """
    packets = opened.container.demux(streams)
    while True:
        try:
            packet = next(packets, None)
        except (av.error.FFmpegError, IndexError):
            # What is missing shows when the ends are compared. PyAV gives an IndexError at the end of a file in whose
            # middle another stream appears.
            break
        if packet is None:
            break
        yield packet
    opened.check_disk()


def first_picture(opened: Opened) -> VideoFrame | None:
    """Decode the first picture, or return None where none can be; the container cannot be used for more after that."""
    if opened.video is None:
        return None
    opened.video.codec_context.thread_count = 1
    for packet in islice(packets_of(opened, [opened.video]), FIRST_PICTURE_PACKETS):
        with suppress(av.error.FFmpegError):
            for frame in packet.decode():
                return frame
    return None


def _clock(text: str) -> Fraction | None:
    """Read hours:minutes:seconds as Matroska's DURATION tag has them."""
    parts = text.strip().split(":")
    try:
        return int(parts[0]) * 3600 + int(parts[1]) * 60 + Fraction(parts[2]) if len(parts) == 3 else None
    except ValueError:
        return None

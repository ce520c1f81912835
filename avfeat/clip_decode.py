"""One pass over a clip: packets in, pictures on the 25 Hz timeline and 16 kHz sound out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction

import av.error
import av.stream
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.resampler import AudioResampler
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from avfeat.clip_file import Opened
from avfeat.clip_sound import SoundLine
from avfeat.slots import Slots
from avfeat.timeline import SOUND_RATE_HZ

Turn = tuple[bool, bool, bool]
"""How to turn a stored picture upright: transpose, then mirror left-right, then mirror top-bottom."""

SOUND_JUMP = Fraction(1, 25)
"""Seconds between a stamp and the samples counted so far from which on the stamp is believed."""


class Pictures:
    """Decodes the chosen video stream to runs of upright RGB pictures."""

    def __init__(self, stream: VideoStream, zero: Fraction):
        stream.thread_type = "AUTO"
        self.stream = stream
        self.decoded = 0
        self.corrupt = 0
        self.start_seconds: Fraction | None = None
        self.end_seconds: Fraction | None = None
        self._zero = zero
        self._tick = stream.time_base or Fraction(1, 1000)
        self._usual = 1 / Fraction(stream.guessed_rate or stream.average_rate or 25)
        self._slots: Slots[VideoFrame] = Slots()
        self._reformatter = VideoReformatter()
        self._size: tuple[int, int] | None = None
        self._turn: Turn = (False, False, False)

    def take(self, frame: VideoFrame) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """Take the next decoded picture; yield the one before it and for how many frames it stays."""
        if self._size is None:
            self._size = (frame.width, frame.height)
            self._turn = turn_of(frame)
        self.decoded += 1
        self.corrupt += bool(frame.is_corrupt)
        seconds = self._seconds(frame)
        if self.start_seconds is None:
            self.start_seconds = seconds
        self.end_seconds = seconds + (frame.duration * self._tick if frame.duration else self._usual)
        run = self._slots.take(seconds, frame)
        if run is not None:
            yield self.upright(run[0]), run[1]

    def finish(self) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """Yield the last run."""
        run = self._slots.finish(self.end_seconds) if self.end_seconds is not None else None
        if run is not None:
            yield self.upright(run[0]), run[1]

    def upright(self, frame: VideoFrame) -> NDArray[np.uint8]:
        """Return a picture as uint8 RGB [height, width, 3], turned upright, in the size of the clip's first picture."""
        width, height = self._size or (frame.width, frame.height)
        rgb = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation="BICUBIC", threads=1
        )
        plane = rgb.planes[0]
        stored = np.frombuffer(memoryview(plane), np.uint8).reshape(height, plane.line_size)[:, : 3 * width]
        return turned(stored.reshape(height, width, 3), self._turn)

    def _seconds(self, frame: VideoFrame) -> Fraction:
        if frame.pts is not None:
            return frame.pts * self._tick - self._zero
        return Fraction(0) if self.end_seconds is None else self.end_seconds


def turn_of(frame: VideoFrame) -> Turn:
    """Read the display matrix of a picture; an angle between quarter turns counts as the nearest of them.

    The matrix maps stored (x, y) to displayed (a x + c y, b x + d y), as ISO/IEC 14496-12 defines it.
    """
    if "DISPLAYMATRIX" not in frame.side_data:
        return False, False, False
    matrix = np.frombuffer(memoryview(frame.side_data["DISPLAYMATRIX"]), np.int32)
    a, b, _, c, d = matrix[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def first_picture(opened: Opened) -> VideoFrame | None:
    """Decode the first picture of the chosen video stream, or None where none can be decoded; uses up ``opened``."""
    if opened.video is None:
        return None
    opened.video.codec_context.thread_count = 1
    try:
        for packet in opened.container.demux(opened.video):
            with suppress(av.error.InvalidDataError):
                for frame in packet.decode():
                    return frame
    except av.error.FFmpegError:
        return None
    return None


def turned(picture: NDArray[np.uint8], turn: Turn) -> NDArray[np.uint8]:
    """Return a view of a picture [height, width, 3], turned."""
    transpose, mirror, flip = turn
    if transpose:
        picture = picture.transpose(1, 0, 2)
    return picture[:: -1 if flip else 1, :: -1 if mirror else 1]


class Sound:
    """Decodes the chosen audio stream to 16 kHz mono on the timeline, through 16-bit samples.

    Never through float: libswresample mixes stereo to float mono 1.4142 times louder than to 16-bit mono.
    """

    def __init__(self, stream: AudioStream, zero: Fraction):
        self.stream = stream
        self.line = SoundLine()
        self.decoded = 0
        self.corrupt = 0
        self.start_seconds: Fraction | None = None
        self.end_seconds: Fraction | None = None
        self._zero = zero
        self._tick = stream.time_base or Fraction(1, 1000)
        self._resampler: AudioResampler | None = None
        self._shape: tuple[str, str, int] | None = None

    def take(self, frame: AudioFrame) -> None:
        """Take the next decoded stretch of samples."""
        self.decoded += 1
        self.corrupt += bool(frame.is_corrupt)
        expected = Fraction(0) if self.end_seconds is None else self.end_seconds
        seconds = expected if frame.pts is None else frame.pts * self._tick - self._zero
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        if shape != self._shape or self.end_seconds is None or abs(seconds - expected) > SOUND_JUMP:
            self._flush()
            self._shape = shape
            self._resampler = AudioResampler(format="s16", layout="mono", rate=SOUND_RATE_HZ)
            self.line.begin(seconds)
            expected = seconds
        if self.start_seconds is None:
            self.start_seconds = seconds
        self.end_seconds = expected + Fraction(frame.samples, frame.sample_rate)
        self._resample(frame)

    def finish(self) -> None:
        """Take what the resampler still holds."""
        self._flush()

    def _flush(self) -> None:
        if self._resampler is not None:
            self._resample(None)
            self._resampler = None

    def _resample(self, frame: AudioFrame | None) -> None:
        if self._resampler is None:
            return
        if frame is not None:
            frame.pts = None
        for part in self._resampler.resample(frame):
            self.line.add(part.to_ndarray()[0])


class Pass:
    """One pass over the packets of a clip; ``runs`` gives pictures, sound gathers by the way."""

    def __init__(self, opened: Opened, pictures: bool, sound: bool):
        self._opened = opened
        self.pictures = Pictures(opened.video, opened.zero) if pictures and opened.video else None
        self.sound = Sound(opened.audio, opened.zero) if sound and opened.audio else None
        self.packet_errors = 0
        self.discarded = 0

    def runs(self) -> Iterator[tuple[NDArray[np.uint8], int]]:
        """Yield upright pictures, each with the number of frames that it stays."""
        chosen = [each.stream for each in (self.pictures, self.sound) if each is not None]
        for stream in self._opened.container.streams:
            if stream not in chosen:
                stream.discard = av.stream.Discard.all
        for frame in self._frames(chosen):
            if isinstance(frame, VideoFrame) and self.pictures is not None:
                yield from self.pictures.take(frame)
            elif isinstance(frame, AudioFrame) and self.sound is not None:
                self.sound.take(frame)
        if self.sound is not None:
            self.sound.finish()
        if self.pictures is not None:
            yield from self.pictures.finish()

    def _frames(self, chosen: list[VideoStream | AudioStream]) -> Iterator[VideoFrame | AudioFrame]:
        try:
            for packet in self._opened.container.demux(*chosen):
                try:
                    yield from packet.decode()  # type: ignore[misc]
                except av.error.FFmpegError:
                    self.packet_errors += 1
        except av.error.FFmpegError:
            self.packet_errors += 1
            for stream in chosen:
                yield from stream.decode(None)

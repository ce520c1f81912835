"""One pass over a clip: packets in, pictures on the 25 Hz timeline and 16 kHz sound out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from fractions import Fraction
from typing import Any

import av.error
import av.stream
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.filter import Graph
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.reformatter import VideoReformatter
from av.video.stream import VideoStream
from numpy.typing import NDArray

from avfeat.clip_facts import Count
from avfeat.clip_file import Opened, packets_of
from avfeat.clip_sound import SoundLine
from avfeat.errors import UnreadableError
from avfeat.slots import Slots
from avfeat.timeline import SOUND_RATE_HZ

Run = tuple[NDArray[np.uint8], int]
"""An upright RGB picture, uint8 [height, width, 3], and the number of frames that it stays."""

Turn = tuple[bool, bool, bool]
"""How to turn a stored picture upright: transpose, then mirror left-right, then mirror top-bottom."""

SOUND_JUMP = Fraction(1, 25)
"""Seconds between a stamp of the sound and the samples counted so far, from which on the stamp is believed."""

SOUND_BACK = Fraction(1)
"""Seconds that sound may jump back; what is heard twice is cut once, but a second clock cannot be told from a first."""

LONGEST_GAP = Fraction(600)
"""Seconds that a clock may jump forth: a lecture holds its slide for minutes, a broken stamp is hours away."""


class _Stream:
    """What pictures and sound have in common: counting, and reading stamps."""

    def __init__(self, opened: Opened, stream: VideoStream | AudioStream, step: Fraction):
        # One thread: with more, the pixels of a damaged clip differ from run to run and with the number of processors,
        # and with as many clips at once as processors one thread each is the cheapest.
        stream.codec_context.thread_count = 1
        self.stream = stream
        self.count = Count(announced_end=opened.announced_end(stream), step=step)
        self._opened = opened
        self._tick = stream.time_base or Fraction(1, 1000)

    def decode(self, packet: Packet[Any] | None) -> list[Any]:
        """Decode one packet, None at the end; damage is counted."""
        try:
            if packet is None:
                return self.stream.decode(None)
            if packet.size:
                self.count.packets += 1
                self.count.discarded += packet.is_discard
                self.count.corrupt_packets += packet.is_corrupt
            return packet.decode()
        except av.error.FFmpegError:
            self.count.failed += 1
            self.count.lost_seconds += (packet.duration or 0) * self._tick if packet else Fraction(0)
            return []

    def _place(self, frame: VideoFrame | AudioFrame, furthest_back: Fraction) -> Fraction | None:
        """Count a frame and return its time, or None where its clock has jumped out of reach."""
        count = self.count
        if count.jump:
            return None
        expected = count.end if count.end is not None else Fraction(0)
        seconds = expected if frame.pts is None else self._opened.seconds(self.stream, frame.pts)
        if seconds - expected > LONGEST_GAP or (count.end is not None and seconds - expected < -furthest_back):
            count.jump = (expected, seconds)
            return None
        if count.end is not None and seconds - count.end > count.allowed:
            count.holes.append((count.end, seconds))
        count.decoded += 1
        count.corrupt += frame.is_corrupt
        if count.start is None:
            count.start = seconds
        return seconds


class Pictures(_Stream):
    """Decodes the chosen video stream to runs of upright RGB pictures of one size, that of the first."""

    def __init__(self, opened: Opened, stream: VideoStream, size: tuple[int, int]):
        self._usual = 1 / Fraction(stream.average_rate or stream.guessed_rate or 25)
        super().__init__(opened, stream, self._usual)
        self._slots: Slots[VideoFrame] = Slots()
        self._reformatter = VideoReformatter()
        self._size = size
        self._turn: Turn | None = None
        self._last: Fraction | None = None

    def take(self, frame: VideoFrame) -> Iterator[Run]:
        """Take the next decoded picture; yield the one before it."""
        seconds = self._place(frame, LONGEST_GAP)
        if seconds is None:
            return
        if self._turn is None:
            self._turn = turn_of(frame)
        if self._last is not None and seconds < self._last:
            self.count.misplaced += 1
            return
        self._last = seconds
        stays = frame.duration * self._tick
        self.count.end = seconds + (stays if 0 < stays <= LONGEST_GAP else self._usual)
        run = self._slots.take(seconds, frame)
        if run is not None:
            yield self._upright(run[0]), run[1]

    def finish(self) -> Iterator[Run]:
        """Yield the last picture."""
        if self._opened.format == "mov" and isinstance(self.stream, VideoStream):
            self.count.announced = len(self.stream.index_entries)
        run = self._slots.finish(self.count.end) if self.count.end is not None else None
        if run is not None:
            yield self._upright(run[0]), run[1]

    def _upright(self, frame: VideoFrame) -> NDArray[np.uint8]:
        width, height = self._size
        try:
            rgb = self._reformatter.reformat(
                frame, width=width, height=height, format="rgb24", interpolation="BICUBIC", threads=1
            )
        except (av.error.FFmpegError, ValueError) as error:
            raise UnreadableError(
                f"{self._opened.name}: pictures in the pixel format {frame.format.name} cannot be converted to RGB."
            ) from error
        plane = rgb.planes[0]
        stored = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:height, : 3 * width]
        return turned(stored.reshape(height, width, 3), self._turn or (False, False, False))


def turn_of(frame: VideoFrame) -> Turn:
    """Read the display matrix of a picture; an angle between quarter turns counts as the nearest of them.

    The matrix maps stored (x, y) to displayed (a x + c y, b x + d y), as ISO/IEC 14496-12 §6.2.2 has it.
    """
    data: Any = frame.side_data.get("DISPLAYMATRIX")
    if data is None:
        return False, False, False
    a, b, _, c, d = np.frombuffer(memoryview(data), np.int32)[:5].tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        return True, c < 0, b < 0
    return False, a < 0, d < 0


def turned(picture: NDArray[np.uint8], turn: Turn) -> NDArray[np.uint8]:
    """Return a view of a picture [height, width, 3], turned."""
    transpose, mirror, flip = turn
    if transpose:
        picture = picture.transpose(1, 0, 2)
    return picture[:: -1 if flip else 1, :: -1 if mirror else 1]


class Sound(_Stream):
    """Decodes the chosen audio stream to 16 kHz mono on the timeline, through 16-bit samples.

    Never through float: libswresample mixes stereo to float mono 1.4142 times louder than to 16-bit mono.
    """

    def __init__(self, opened: Opened, stream: AudioStream):
        super().__init__(opened, stream, Fraction(0))
        self.line = SoundLine()
        self._resampler: Graph | None = None
        self._shape: tuple[str, str, int] | None = None

    def take(self, frame: AudioFrame) -> None:
        """Take the next decoded samples; a jump of their stamps, or another sample format, begins a new stretch."""
        seconds = self._place(frame, SOUND_BACK)
        if seconds is None:
            return
        count = self.count
        shape = (frame.format.name, frame.layout.name, frame.sample_rate)
        length = Fraction(frame.samples, frame.sample_rate)
        if count.end is None or shape != self._shape or abs(seconds - count.end) > SOUND_JUMP:
            self._flush()
            self._shape = shape
            self._resampler = self._make_resampler(*shape)
            self.line.begin(seconds)
            count.end = seconds
        count.end += length
        count.step = max(count.step, length)
        self._resample(frame)

    def finish(self) -> None:
        """Take what the resampler still holds and cut the padding that MP4's last packet carries."""
        self._flush()
        announced, end = self.count.announced_end, self.count.end
        if self._opened.format != "mov" or announced is None or end is None:
            return
        if announced < end <= announced + 2 * self.count.step:
            self.line.cut(announced)
            self.count.end = announced

    def _make_resampler(self, sample_format: str, layout: str, rate_hz: int) -> Graph:
        try:
            # PyAV's own AudioResampler is such a graph, with an idle thread for each processor.
            graph = Graph()
            graph.threads = 1
            source = graph.add("abuffer", sample_rate=str(rate_hz), sample_fmt=sample_format, channel_layout=layout)
            mono = graph.add("aformat", sample_rates=str(SOUND_RATE_HZ), sample_fmts="s16", channel_layouts="mono")
            graph.link_nodes(source, mono, graph.add("abuffersink")).configure()
        except (av.error.FFmpegError, ValueError) as error:
            raise UnreadableError(
                f"{self._opened.name}: sound of {layout} in the format {sample_format} cannot be mixed to mono."
            ) from error
        return graph

    def _flush(self) -> None:
        self._resample(None)
        self._resampler = None

    def _resample(self, frame: AudioFrame | None) -> None:
        """Put a frame through the resampler, None at the end of a stretch, and lay what comes out on the line."""
        if self._resampler is None:
            return
        self._resampler.push(frame)
        with suppress(av.error.BlockingIOError, av.error.EOFError):
            while True:
                part = self._resampler.pull()
                assert isinstance(part, AudioFrame)
                self.line.add(part.to_ndarray()[0])


class Pass:
    """One pass over the packets of a clip: ``runs`` gives its pictures, ``sound`` gathers by the way."""

    def __init__(self, opened: Opened, size: tuple[int, int] | None, sound: bool):
        """Prepare; ``size`` is the stored (width, height) of the pictures, None if they are not wanted."""
        self._opened = opened
        self.pictures = Pictures(opened, opened.video, size) if size and opened.video else None
        self.sound = Sound(opened, opened.audio) if sound and opened.audio else None

    def runs(self) -> Iterator[Run]:
        """Yield upright pictures, each with the number of frames that it stays.

        Raises:
            UnreadableError: the disk failed, or a picture or the sound has a form that cannot be converted.
        """
        wanted = {each.stream.index: each for each in (self.pictures, self.sound) if each is not None}
        for stream in self._opened.container.streams:
            if stream.index not in wanted:
                stream.discard = av.stream.Discard.all
        for frame in self._frames(wanted):
            if isinstance(frame, AudioFrame) and self.sound is not None:
                self.sound.take(frame)
            elif isinstance(frame, VideoFrame) and self.pictures is not None:
                yield from self.pictures.take(frame)
        if self.sound is not None:
            self.sound.finish()
        if self.pictures is not None:
            yield from self.pictures.finish()

    def _frames(self, wanted: dict[int, Pictures | Sound]) -> Iterator[VideoFrame | AudioFrame]:
        flushed: set[int] = set()
        for packet in packets_of(self._opened, [each.stream for each in wanted.values()]):
            index = packet.stream.index
            if packet.dts is None and packet.pts is None and not packet.size:
                flushed.add(index)
            yield from wanted[index].decode(packet)
        for index in wanted.keys() - flushed:
            yield from wanted[index].decode(None)

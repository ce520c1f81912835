"""What a file is, told from its bytes alone: the formats that may be opened, and a guess at what any other file is."""

from __future__ import annotations

import codecs
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "av1", "avi", "caf", "dv", "eac3", "flac", "flv", "gxf", "h263",
    "h264", "hevc", "ivf", "m4v", "matroska", "mov", "mp3", "mpeg", "mpegts", "mpegvideo", "mxf", "nut", "obu", "ogg",
    "rm", "tta", "vc1", "w64", "wav", "wtv", "wv", "yuv4mpegpipe",
)  # fmt: skip
"""libavformat's names of containers and raw streams that hold a whole film in one file. Left out on purpose: playlists
and scripts, which name other files and addresses; pictures; text; devices."""

HEAD_BYTES = 4096


class Readable(Protocol):
    """What is needed of an open file."""

    def read(self, size: int, /) -> bytes:
        """Return at most ``size`` bytes."""

    def seek(self, offset: int, whence: int = ..., /) -> int:
        """Go to a position and return it."""


_PICTURES = {
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"\xff\xd8\xff": "JPEG",
    b"GIF8": "GIF",
    b"BM": "BMP",
    b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
}
_PICTURE_BRANDS = {b"heic": "HEIC", b"heix": "HEIC", b"mif1": "HEIF", b"avif": "AVIF"}

_PLAYLISTS = (b"#EXTM3U", b"ffconcat", b"[playlist]", b"v=0", b"<MPD")

_OTHERS = {
    b"version https://git-lfs": "is a Git LFS pointer, not the media it stands for: run git lfs pull",
    b"PK\x03\x04": "is a ZIP archive: unpack it first",
    b"\x1f\x8b": "is a gzip archive: unpack it first",
    b"7z\xbc\xaf": "is a 7z archive: unpack it first",
    b"Rar!": "is a RAR archive: unpack it first",
    b"%PDF": "is a PDF document, not media",
    b"\x89HDF": "is an HDF5 file, not media",
    b"\x93NUMPY": "is a NumPy array, not media",
}

_CONTAINERS = {
    b"\x1a\x45\xdf\xa3": "Matroska or WebM",
    b"RIFF": "AVI or WAV",
    b"OggS": "Ogg",
    b"\x00\x00\x01\xba": "MPEG program stream",
    b"FLV": "FLV",
    b"fLaC": "FLAC",
    b"ID3": "MP3",
}

_MP4_BOXES = (b"ftyp", b"moov", b"mdat", b"free", b"skip", b"wide", b"moof", b"styp", b"sidx", b"pnot", b"uuid")

_UNKNOWN = (1 << 56) - 1


def picture_format(head: bytes) -> str | None:
    """Return the name of the picture format that a file with this beginning has, or None if it is no picture."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    if head[4:8] == b"ftyp":
        return _PICTURE_BRANDS.get(head[8:12])
    if head[:2] == b"BM" and head[6:10] != bytes(4):
        return None
    return next((name for mark, name in _PICTURES.items() if head.startswith(mark)), None)


def what_it_is(path: Path) -> str:
    """Guess in half a sentence, with the file as its subject, why a decoder cannot open it."""
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
        size = file.seek(0, os.SEEK_END)
        if not head:
            return "is empty (0 bytes)"
        if not head.strip(b"\0"):
            return f"begins with {len(head)} zero bytes: a copy or download that was never finished"
        picture = picture_format(head)
        if picture:
            return f"is a picture ({picture}), not a video"
        if head[4:8] in _MP4_BOXES:
            return _mp4(file, size)
    for mark, clause in _OTHERS.items():
        if head.startswith(mark):
            return clause
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if any(text.startswith(mark) or b"\n" + mark in text for mark in _PLAYLISTS):
        return "is a playlist that names other media: give the media themselves"
    if text[:5].lower() in (b"<!doc", b"<html", b"<?xml"):
        return "is a web page or XML, not media: a failed download?"
    if _is_text(head):
        return "is text, not media: a failed download, or the wrong file?"
    for mark, name in _CONTAINERS.items():
        if head.startswith(mark):
            return f"begins like {name}, but nothing in its {size} bytes can be decoded: it is damaged or cut off"
    return "is not media that can be decoded: the format is unknown, or its beginning is damaged"


def _is_text(head: bytes) -> bool:
    try:
        # Incremental, since the head may end in the middle of a character.
        text = codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return all(letter.isprintable() or letter in "\t\r\n\f" for letter in text)


def _mp4(file: Readable, size: int) -> str:
    ends = dict(_mp4_boxes(file, size))
    if b"moov" not in ends:
        return (
            f"is an MP4 file of {size} bytes without its index (moov): it was cut off, or the program that wrote it "
            "did not finish"
        )
    if ends[b"moov"] > size:
        return f"is an MP4 file that is cut off inside its index (moov), after {size} bytes"
    return "is an MP4 file whose index (moov) is damaged, or lists no pictures and no sound"


def _mp4_boxes(file: Readable, size: int) -> Iterator[tuple[bytes, int]]:
    """Yield kind and end of each box at the top of an MP4 or QuickTime file (ISO/IEC 14496-12 §4.2)."""
    position = 0
    while position + 8 <= size:
        file.seek(position)
        header = file.read(16)
        length = int.from_bytes(header[:4], "big")
        if length == 1:
            length = int.from_bytes(header[8:16], "big")
        elif length == 0:
            length = size - position
        yield header[4:8], position + length
        if length < 8:
            return
        position += length


def is_cut_off(file: Readable) -> bool:
    """Whether a file is shorter than it says itself: MP4 and QuickTime, Matroska and WebM, AVI and WAV can tell."""
    file.seek(0)
    head = file.read(64)
    size = file.seek(0, os.SEEK_END)
    if head[4:8] in _MP4_BOXES:
        return any(end > size for _, end in _mp4_boxes(file, size))
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return _segment_end(head) > size
    if head[:4] == b"RIFF":
        length = int.from_bytes(head[4:8], "little")
        return length != 0xFFFFFFFF and length + 8 > size
    return False


def _segment_end(head: bytes) -> int:
    """Return where the Segment of a Matroska file ends, 0 if that is left open (RFC 8794 §6, RFC 9559 §5.1)."""
    length, position = _vint(head, 4)
    position += length
    if head[position : position + 4] != b"\x18\x53\x80\x67":
        return 0
    length, position = _vint(head, position + 4)
    return 0 if length == _UNKNOWN else position + length


def _vint(data: bytes, position: int) -> tuple[int, int]:
    """Read a variable-size integer; return it, with all ones as the value for unknown, and the position after it."""
    first = data[position] if position < len(data) else 0
    if not first:
        return 0, position + 1
    width = 9 - first.bit_length()
    value = int.from_bytes(data[position : position + width], "big") & ((1 << 7 * width) - 1)
    return (_UNKNOWN if value == (1 << 7 * width) - 1 else value), position + width

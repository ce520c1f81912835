"""What a file is, told from its bytes: the formats that may be opened, and a guess at what any other file is."""

from __future__ import annotations

from pathlib import Path

FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "av1", "avi", "avs2", "caf", "dv", "eac3", "flac", "flv", "h263",
    "h264", "hevc", "ivf", "m4v", "matroska", "mjpeg", "mov", "mp3", "mp4", "mpeg", "mpegts", "mpegvideo", "mxf", "nut",
    "obu", "ogg", "rm", "tta", "vc1", "w64", "wav", "webm", "wv", "yuv4mpegpipe",
)  # fmt: skip
"""Containers and raw streams that hold one film in one file. Left out: playlists and scripts, which name other files
and addresses; single pictures; text; devices."""


def what_it_is(path: Path) -> str:
    """Guess in one clause why this file holds no film."""
    head = path.open("rb").read(4096)
    if not head:
        return "the file is empty"
    return "the file is not media that can be read"

"""What a file is and whether it is whole, told from bytes that are put together here by hand."""

from io import BytesIO
from pathlib import Path

import pytest

from avfeat.containers import is_cut_off, picture_format, what_it_is


def box(kind: bytes, content: bytes, announced: int | None = None) -> bytes:
    """A box of an MP4 file, with the size that it has or another."""
    size = 8 + len(content) if announced is None else announced
    return size.to_bytes(4, "big") + kind + content


def long_box(kind: bytes, content: bytes, announced: int) -> bytes:
    """A box whose size needs 64 bits."""
    return (1).to_bytes(4, "big") + kind + announced.to_bytes(8, "big") + content


FTYP = box(b"ftyp", b"isom\0\0\2\0isommp41")


def matroska(length: bytes, content: int) -> bytes:
    """An EBML header of four bytes, and a Segment whose size is written as ``length``."""
    return b"\x1a\x45\xdf\xa3\x84abcd" + b"\x18\x53\x80\x67" + length + bytes(content)


@pytest.mark.parametrize(
    ("content", "cut"),
    [
        (FTYP + box(b"moov", bytes(30)) + box(b"mdat", bytes(90)), False),
        (FTYP + box(b"moov", bytes(30)) + box(b"mdat", bytes(90), 99), True),
        (FTYP + long_box(b"mdat", bytes(90), 106) + box(b"moov", bytes(30)), False),
        (FTYP + long_box(b"mdat", bytes(90), 5 << 32), True),
        # A size of zero means: to the end of the file.
        (FTYP + box(b"mdat", bytes(90), 0), False),
        (matroska(b"\x8a", 10), False),
        (matroska(b"\x8b", 10), True),
        (matroska(b"\x01\0\0\0\0\0\0\x0a", 10), False),
        (matroska(b"\x40\x80", 10), True),
        # All ones mean that the writer did not know, as of a live recording.
        (matroska(b"\x01" + b"\xff" * 7, 10), False),
        (matroska(b"\xff", 10), False),
        (b"RIFF" + (20).to_bytes(4, "little") + b"AVI " + bytes(16), False),
        (b"RIFF" + (21).to_bytes(4, "little") + b"AVI " + bytes(16), True),
        (b"RIFF" + b"\xff" * 4 + b"WAVE" + bytes(16), False),
        (b"", False),
        (bytes(100), False),
    ],
)
def test_a_file_is_cut_off_if_it_is_shorter_than_it_says(content: bytes, cut: bool) -> None:
    assert is_cut_off(BytesIO(content)) == cut


@pytest.mark.parametrize(
    ("head", "name"),
    [
        (b"\x89PNG\r\n\x1a\n", "PNG"),
        (b"\xff\xd8\xff\xe1", "JPEG"),
        (b"GIF89a", "GIF"),
        (b"RIFF\0\0\0\0WEBPVP8 ", "WebP"),
        (b"BM\x36\0\0\0\0\0\0\0", "BMP"),
        (box(b"ftyp", b"avif\0\0\0\0"), "AVIF"),
        (b"RIFF\0\0\0\0AVI LIST", None),
        (FTYP, None),
        (b"BMW is a car, and this is text", None),
        (b"", None),
    ],
)
def test_pictures_are_known_by_their_first_bytes(head: bytes, name: str | None) -> None:
    assert picture_format(head) == name


def test_text_that_ends_inside_a_character_is_still_text(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(b"x" * 4095 + "é".encode())
    assert what_it_is(path).startswith("is text, not media")
    path.write_bytes(b"x" * 2000 + b"\xe9" + b"x" * 3000)
    assert what_it_is(path).startswith("is not media that can be decoded")


def test_an_index_that_lists_nothing_is_said_to_do_so(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    path.write_bytes(FTYP + box(b"moov", bytes(30)))
    assert what_it_is(path) == "is an MP4 file whose index (moov) is damaged, or lists no pictures and no sound"

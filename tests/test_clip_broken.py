"""Damaged files, files that are no media, and names that a decoder might take for something else."""

import csv
import os
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from made_media import clicks, number_of, numbered, numbers_of, rising, write_clip
from numpy.typing import NDArray

from avfeat.clip import Clip, Decoded, probe
from avfeat.errors import ClipError, UnreadableError

SECONDS = 4
SOUND = [(Fraction(0), clicks([Fraction(k) + Fraction(1, 2) for k in range(SECONDS)], Fraction(SECONDS)))]


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One clip of four seconds in several containers, named after them."""
    folder = tmp_path_factory.mktemp("good")
    stamps = rising(Fraction(25), SECONDS)
    write_clip(folder / "front.mp4", stamps, SOUND, options={"movflags": "faststart"})
    write_clip(folder / "back.mp4", stamps, SOUND)
    write_clip(folder / "pieces.mp4", stamps, SOUND, options={"movflags": "frag_keyframe+empty_moov"})
    write_clip(folder / "a.mkv", stamps, SOUND)
    write_clip(folder / "a.webm", stamps, SOUND, video_codec="libvpx", audio_codec="libopus")
    write_clip(folder / "a.ts", stamps, SOUND)
    write_clip(folder / "a.avi", stamps, SOUND, video_codec="mpeg4", audio_codec="pcm_s16le")
    return folder


def read(path: Path) -> tuple[Decoded, list[int]]:
    with Clip(path, path.name) as clip:
        numbers = numbers_of(list(clip.blocks())) if clip.media.has_video else []
        if clip.media.has_audio:
            clip.sound()
        return clip.facts(), numbers


def cut(source: Path, target: Path, share: float) -> Path:
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * share)])
    return target


@pytest.mark.parametrize("name", ["front.mp4", "back.mp4", "pieces.mp4", "a.mkv", "a.webm", "a.ts", "a.avi"])
def test_a_good_file_is_done_and_nothing_is_said(name: str, good: Path) -> None:
    facts, _ = read(good / name)
    assert (facts.status, facts.detail) == ("done", "")
    assert facts.source_frames == 100


@pytest.mark.parametrize("name", ["front.mp4", "pieces.mp4", "a.mkv", "a.webm", "a.avi"])
def test_a_file_cut_in_the_middle_is_truncated_and_gives_what_is_there(name: str, good: Path, tmp_path: Path) -> None:
    facts, numbers = read(cut(good / name, tmp_path / name, 0.6))
    assert facts.status == "truncated"
    assert facts.detail.endswith("the file is cut off.")
    assert 5 < facts.source_frames < 90
    assert numbers[0] == 0
    assert max(numbers) == facts.source_frames - 1
    assert facts.sound_samples < 3.6 * 16_000


def test_the_sentence_on_a_cut_file_counts_the_pictures(good: Path, tmp_path: Path) -> None:
    facts, _ = read(cut(good / "front.mp4", tmp_path / "a.mp4", 0.6))
    assert facts.detail.startswith(
        f"announces 100 pictures, only {facts.source_frames} can be decoded "
        f"up to {facts.source_frames / 25:.2f} s of 4.00 s; has sound only up to "
    )


def test_sound_alone_tells_that_the_file_is_cut(good: Path, tmp_path: Path) -> None:
    with Clip(cut(good / "front.mp4", tmp_path / "a.mp4", 0.6), "a", pictures=False) as clip:
        clip.sound()
        facts = clip.facts()
    assert facts.status == "truncated"
    assert facts.detail.startswith("has sound only up to")
    assert facts.frames == 0


@pytest.mark.parametrize("name", ["front.mp4", "a.webm", "a.ts"])
def test_a_hole_of_zero_bytes_is_truncated_and_keeps_the_timeline(name: str, good: Path, tmp_path: Path) -> None:
    content = bytearray((good / name).read_bytes())
    middle = len(content) // 2
    content[middle : middle + len(content) // 6] = bytes(len(content) // 6)
    (tmp_path / name).write_bytes(content)
    facts, numbers = read(tmp_path / name)
    assert facts.status == "truncated"
    assert facts.detail
    assert abs(len(numbers) - 100) <= 1
    # After the hole each picture is again where it belongs.
    assert numbers[-5:] == list(range(95, 100))
    assert abs(facts.sound_samples - SECONDS * 16_000) <= 600


def texture(number: int) -> NDArray[np.uint8]:
    """Coloured squares that move: enough detail for damage to spread."""
    squares = np.random.default_rng(0).integers(0, 256, (32, 80, 3), np.uint8)
    return np.ascontiguousarray(np.roll(squares.repeat(8, axis=0).repeat(8, axis=1), 5 * number, axis=1)[:, :320])


def test_a_damaged_clip_decodes_to_the_same_pixels_every_time_and_on_every_machine(tmp_path: Path) -> None:
    # With one decoder thread for each processor, what is made up for damaged data depends on their number and on luck.
    path = tmp_path / "a.mp4"
    write_clip(path, rising(Fraction(25), 3), picture=texture, keyframes=40)
    content = bytearray(path.read_bytes())
    for position in range(content.index(b"mdat") + 3000, content.rindex(b"moov") - 4, 300):
        content[position] ^= 0x55
    path.write_bytes(content)
    looks = []
    processors = os.sched_getaffinity(0)
    for allowed in (processors, {min(processors)}):
        os.sched_setaffinity(0, allowed)
        try:
            with Clip(path, "a", memory_bytes=1 << 20) as clip:
                looks += [np.concatenate(list(clip.blocks())) for _ in range(2)]
                facts = clip.facts()
        finally:
            os.sched_setaffinity(0, processors)
    assert facts.corrupt_pictures > 10
    assert all(np.array_equal(look, looks[0]) for look in looks)


def test_two_transport_streams_end_to_end_are_truncated_and_not_silently_short(good: Path, tmp_path: Path) -> None:
    (tmp_path / "twice.ts").write_bytes((good / "a.ts").read_bytes() * 2)
    facts, numbers = read(tmp_path / "twice.ts")
    assert facts.status == "truncated"
    assert "go back in time" in facts.detail
    assert numbers[:50] == [0, *range(49)] or numbers[:50] == list(range(50))


def no_media(kind: str, good: Path) -> bytes:
    front, back = (good / "front.mp4").read_bytes(), (good / "back.mp4").read_bytes()
    return {
        "empty": b"",
        "zeros": bytes(9_000),
        "text": "Das ist kein Video, sondern Text: äöü.\n".encode() * 300,
        "web page": b"<!DOCTYPE html><html><title>403 Forbidden</title></html>",
        "lfs": b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n",
        "no index": back[: back.rindex(b"moov") - 200],
        "in the index": front[: front.index(b"moov") + 300],
        "header": back[:40],
        "png": b"\x89PNG\r\n\x1a\n" + bytes(200),
        "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(200),
        "zip": b"PK\x03\x04" + bytes(range(200)),
        "noise": np.random.default_rng(1).bytes(20_000),
        "half a matroska header": (good / "a.mkv").read_bytes()[:60],
        "playlist": b"#EXTM3U\n#EXTINF:4,\na.ts\n#EXT-X-ENDLIST\n",
    }[kind]


SENTENCES = {
    "empty": "is empty (0 bytes).",
    "zeros": "begins with 4096 zero bytes: a copy or download that was never finished.",
    "text": "is text, not media: a failed download, or the wrong file?",
    "web page": "is a web page or XML, not media: a failed download?",
    "lfs": "is a Git LFS pointer, not the media it stands for: run git lfs pull.",
    "no index": "without its index (moov): it was cut off, or the program that wrote it did not finish.",
    "in the index": "is an MP4 file that is cut off inside its index (moov), after",
    "header": "is an MP4 file of 40 bytes without its index (moov): it was cut off, or",
    "png": "is a picture (PNG), not a video.",
    "jpeg": "is a picture (JPEG), not a video.",
    "zip": "is a ZIP archive: unpack it first.",
    "noise": "is not media that can be decoded: the format is unknown, or its beginning is damaged.",
    "half a matroska header": "begins like Matroska or WebM, but nothing in its 60 bytes can be decoded: it is",
    "playlist": "is a playlist that names other media: give the media themselves.",
}


@pytest.mark.parametrize("kind", SENTENCES)
def test_what_is_no_media_gets_one_sentence_that_guesses_what_it_is(
    kind: str, good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "video.mp4"
    path.write_bytes(no_media(kind, good))
    for attempt in (probe, lambda path: Clip(path, "video.mp4")):
        with pytest.raises(UnreadableError) as caught:
            attempt(path)
        sentence = str(caught.value)
        assert sentence.startswith("video.mp4 ")
        assert SENTENCES[kind] in sentence
        assert "\n" not in sentence
    assert capfd.readouterr() == ("", "")


def test_a_damaged_file_leaves_nothing_on_the_terminal(
    good: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    read(cut(good / "front.mp4", tmp_path / "a.mp4", 0.6))
    assert capfd.readouterr() == ("", "")


def test_a_missing_file_a_folder_and_a_broken_disk_are_errors_too(tmp_path: Path) -> None:
    with pytest.raises(UnreadableError, match=r"^nothing.mp4: there is no file "):
        probe(tmp_path / "nothing.mp4")
    with pytest.raises(UnreadableError, match="is not a regular file"):
        probe(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(UnreadableError, match="is not a regular file"):
        probe(tmp_path / "pipe.mp4")
    with pytest.raises(UnreadableError, match="cannot be opened"):
        probe(tmp_path / "nul\0.mp4")
    # A regular file whose first bytes cannot be read, on any Linux: nothing is mapped at address 0.
    with pytest.raises(UnreadableError, match=r"reading the file failed \(Input/output error\)"):
        probe(Path("/proc/self/mem"))


def test_pictures_that_are_announced_and_not_there_are_an_error(good: Path, tmp_path: Path) -> None:
    content = (good / "front.mp4").read_bytes()
    (tmp_path / "a.mp4").write_bytes(content[: content.index(b"mdat") + 40])
    with Clip(tmp_path / "a.mp4", "a") as clip, pytest.raises(UnreadableError, match=r"^a: .* pictures"):
        list(clip.blocks())


NAMES = [
    "-x.mp4",
    "-i",
    "http:x.mp4",
    "concat:a.mp4|b.mp4",
    "data:video,x",
    "%03d.mp4",
    "pipe:0",
    "file:x.mp4",
    "é 你.mp4",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_is_a_file_and_never_an_option_or_an_address(
    name: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnreadableError, match="there is no file"):
        probe(Path(name))
    Path(name).write_bytes((good / "back.mp4").read_bytes())
    facts, numbers = read(Path(name))
    assert (facts.status, numbers) == ("done", list(range(100)))


def playlists(target: str) -> dict[str, str]:
    """Scripts in formats that libavformat knows, each naming ``target``."""
    return {
        "hls": f"#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{target}\n#EXT-X-ENDLIST\n",
        "concat": f"ffconcat version 1.0\nfile '{target}'\n",
        "concat without head": f"file '{target}'\nduration 4\n",
        "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
        "dash": f'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{target}</BaseURL></MPD>',
        "pls": f"[playlist]\nFile1={target}\nNumberOfEntries=1\n",
        "redirect": f"[Reference]\nRef1=file://{target}\n",
    }


@pytest.mark.parametrize("kind", playlists(""))
@pytest.mark.parametrize("suffix", [".mp4", ".m3u8"])
def test_a_script_inside_a_file_opens_nothing(
    kind: str, suffix: str, good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Were the pipe opened, this test would wait for ever; were the clip opened, there would be pictures.
    os.mkfifo(tmp_path / "pipe.ts")
    shutil.copy(good / "a.ts", tmp_path)
    monkeypatch.chdir(tmp_path)
    for target in ("a.ts", tmp_path / "a.ts", "pipe.ts"):
        path = tmp_path / f"video{suffix}"
        path.write_text(playlists(str(target))[kind])
        with pytest.raises(UnreadableError):
            Clip(path, "video")


def test_a_sound_that_appears_in_the_middle_of_a_file_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.flv"
    write_clip(path, rising(Fraction(25), 12), [(Fraction(10), clicks([Fraction(1)], Fraction(2)))])
    content = path.read_bytes()
    # Leave out the tags that announce the sound: 18 is metadata, 8 is sound, four bytes follow each tag.
    kept, position = bytearray(content[:4] + b"\1" + content[5:13]), 13
    while position < len(content):
        size = 15 + int.from_bytes(content[position + 1 : position + 4])
        kind, milliseconds = content[position], int.from_bytes(content[position + 4 : position + 7])
        if kind == 9 or (kind == 8 and milliseconds > 9000):
            kept += content[position : position + size]
        position += size
    path.write_bytes(kept)
    facts, numbers = read(path)
    assert facts.status == "done"
    assert numbers[-1] == 299


def test_pictures_that_stay_for_ever_because_of_one_broken_stamp_end_the_clip(tmp_path: Path) -> None:
    stamps = [*rising(Fraction(25), 1), Fraction(100_000)]
    write_clip(tmp_path / "a.mkv", stamps)
    facts, numbers = read(tmp_path / "a.mkv")
    assert facts.status == "truncated"
    assert facts.detail.startswith("the clock of its pictures jumps from 1.")
    assert numbers[:25] == list(range(25))
    assert len(numbers) < 200


@pytest.mark.shared
def test_every_broken_file_of_the_collection_is_a_reason_or_what_is_there(shared: Path) -> None:
    folder = shared / "clips" / "broken"
    with (folder / "broken.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    for row in rows:
        opens = row["ffprobe"] == "opens" and row["kind"] != "wrong type"
        try:
            facts, _ = read_any(folder / row["path"])
        except ClipError as error:
            assert not opens, row["path"]
            assert isinstance(error, UnreadableError)
            assert str(error).startswith(row["path"])
            continue
        assert opens, row["path"]
        damaged = row["kind"] in ("truncated", "corrupt middle")
        assert (facts.status == "truncated", bool(facts.detail)) == (damaged, damaged), row["path"]
        assert abs(facts.source_frames - int(row["frames_ffmpeg_decodes"])) <= 1, row["path"]
        if not damaged:
            assert facts.sound_samples / 16_000 == pytest.approx(float(row["audio_s_ffmpeg_decodes"]), abs=0.05)


def read_any(path: Path) -> tuple[Decoded, int]:
    with Clip(path, path.name) as clip:
        frames = sum(map(len, clip.blocks())) if clip.media.has_video else 0
        if clip.media.has_audio:
            clip.sound()
        return clip.facts(), frames


WHOLE = ["retalking_1.mp4", "pyfeat_no_face.mp4", "facerec_hamilton.mp4", "derived/rotated_90.mov", "grid_bbaf2n.mpg"]
WHOLE += ["derived/xvid_mp3_22k_mono.avi", "derived/mpeg2_interlaced.ts", "derived/fps60_vp9_opus_mono.webm"]
WHOLE += ["derived/two_audio_streams.mkv", "derived/surround_5_1.mp4", "derived/name with spaces é 你好.mp4"]


@pytest.mark.shared
def test_every_good_clip_of_the_collection_probes_to_what_was_measured(shared: Path) -> None:
    folder = shared / "clips"
    with (folder / "clips.csv").open(newline="") as file:
        rows = {row["path"]: row for row in csv.DictReader(file)}
    for name, row in rows.items():
        media = probe(folder / name)
        stored = (int(row["width"]), int(row["height"]))
        assert (media.width, media.height) == (stored[::-1] if "rotated_90" in name else stored), name
        # The column is about the first stream of sound; in one file it is not the one to hear.
        rate = 16_000 if "two_audio" in name else int(row["audio_rate"] or 0)
        assert (media.audio_rate_hz or 0) == rate, name
        assert media.duration_seconds == pytest.approx(float(row["duration_s"]), abs=0.13), name
        assert media.fps == pytest.approx(float(row["fps"]), rel=0.02), name
    for name in WHOLE:
        facts, frames = read_any(folder / name)
        assert (facts.status, facts.detail) == ("done", ""), name
        assert frames / 25 == pytest.approx(float(rows[name]["duration_s"]), abs=0.13), name


@pytest.mark.shared
def test_of_two_sounds_in_the_collection_the_speech_is_heard(shared: Path) -> None:
    with Clip(shared / "clips/derived/two_audio_streams.mkv", "two", pictures=False) as clip:
        assert (clip.media.audio_streams, clip.media.audio_index, clip.media.audio_rate_hz) == (2, 2, 16_000)
        assert np.abs(clip.sound()).max() > 0.1


def test_numbered_pictures_are_read_back() -> None:
    assert [number_of(numbered(number)) for number in (0, 1, 77, 65_535)] == [0, 1, 77, 65_535]

"""What the doctor says of a machine that works, and of one that lacks a part."""

from pathlib import Path

import pytest

from avfeat.doctor import Finding, examine


def findings() -> dict[str, Finding]:
    return {finding.part: finding for finding in examine("cpu")}


def failing() -> dict[str, str]:
    return {part: finding.sentence for part, finding in findings().items() if not finding.works}


def test_this_machine_is_able_to_run() -> None:
    found = findings()
    assert failing() == {}
    assert list(found) == ["media writer", "decoder", "face landmarker", "torch device", "store", "weights cache"]


def test_a_part_that_needs_another_one_does_not_send_anyone_the_wrong_way(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    for program, words in ((str(broken), "name another ffmpeg in AVFEAT_FFMPEG"), ("/gone", "which is not a program")):
        monkeypatch.setenv("AVFEAT_FFMPEG", program)
        found = failing()
        assert set(found) == {"media writer", "decoder"}
        assert words in found["media writer"] and program in found["media writer"]
        assert "until the media writer works" in found["decoder"]


def test_a_wrong_model_file_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "model.task").write_bytes(b"another file")
    monkeypatch.setenv("AVFEAT_FACE_LANDMARKER", str(tmp_path / "model.task"))
    ((part, sentence),) = failing().items()
    assert part == "face landmarker"
    assert "model.task is not the face landmarker's model file" in sentence and "unset AVFEAT_FACE" in sentence


def test_a_cache_that_cannot_be_written_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "file" / "cache"))
    assert "name another folder in AVFEAT_CACHE" in failing()["weights cache"]


def test_a_gpu_that_is_not_there_is_told_with_what_is_there() -> None:
    (finding,) = (each for each in examine("cuda:93") if not each.works)
    assert finding.part == "torch device" and "here is" in finding.sentence

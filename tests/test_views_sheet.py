"""The contact sheet of a clip, drawn from a real file."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from faces import astronaut
from PIL import Image

from avfeat.errors import UnreadableError
from avfeat.sheet import draw_views
from avfeat.views import ViewSettings


def _write(path: Path, pictures: np.ndarray) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("ffv1", rate=25)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "bgr0"
        stream.time_base = Fraction(1, 25)
        for picture in pictures:
            file.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        file.mux(stream.encode())
    return path


def test_a_clip_becomes_a_sheet_with_a_column_for_each_glimpse_and_a_row_for_each_view(tmp_path: Path) -> None:
    clip = _write(tmp_path / "portrait.mkv", np.repeat(astronaut()[None], 3, axis=0))
    draw_views(clip, tmp_path / "sheet.png", ViewSettings())
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image)
    step, label = 198, 18
    rows = [24 + label + row * (step + label) for row in range(4)]
    assert sheet.shape[0] == 24 + 4 * (step + label) + 6 and sheet.shape[1] >= 6 + 3 * step
    whole, frame, face, mouth = (sheet[top : top + 192, 6:198].astype(int) for top in rows)
    reference = np.asarray(Image.fromarray(astronaut()).resize((192, 192))).astype(int)
    assert np.abs(frame - reference).mean() < 3
    green = (whole == (0, 220, 60)).all(axis=2)
    # The landmarks lie on her face: around (160, 125) of 320.
    assert green.sum() > 68
    np.testing.assert_allclose(np.argwhere(green).mean(axis=0), [75, 97], atol=8)
    assert np.ptp(mouth, axis=2).max() == 0 and np.ptp(face, axis=2).max() > 30
    np.testing.assert_array_equal(sheet[rows[2] : rows[2] + 192, 6 + step : 198 + step], face)


def test_a_clip_without_a_face_has_grey_cells_and_says_why(tmp_path: Path) -> None:
    clip = _write(tmp_path / "nobody.mkv", np.full((2, 64, 80, 3), 200, np.uint8))
    draw_views(clip, tmp_path / "sheet.png", ViewSettings())
    with Image.open(tmp_path / "sheet.png") as image:
        sheet = np.asarray(image)
    # Two lines of text: the clip's facts and the reason.
    top = 6 + 2 * 18
    face, mouth = (sheet[top + 18 + row * 216 :][:192, 6:198] for row in (2, 3))
    assert (face == 150).all() and (mouth == 150).all()
    assert (sheet[6 + 18 : top, :200] < 128).any()


def test_what_is_not_a_clip_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("hello")
    with pytest.raises(UnreadableError, match=r"text\.mp4"):
        draw_views(tmp_path / "text.mp4", tmp_path / "sheet.png", ViewSettings())
    assert not (tmp_path / "sheet.png").exists()

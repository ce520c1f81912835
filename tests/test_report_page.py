"""The page as text: what is given is shown, what is missing is said, nothing can break out of its place."""

import base64
import re

import numpy as np
import pytest
from made_media import numbered

import avfeat
from avfeat.errors import ProbeError, UnreadableError
from avfeat.media import write_video
from avfeat.previews import Preview
from probes.report.content import Column, Line, Number, Page, Picture, ShownClip, Table
from probes.report.page import render, write_page
from probes.report.timeline import SCORES, WAVE, WIDTH, Scale, draw


def cell(value):
    return Number(value, "—" if value is None else f"{value:.1f}", best=value == 90.0)


def table_of(*rows):
    columns = [Column("A → A", out_of_domain=False), Column("A → B", out_of_domain=True)]
    return Table("T", ["feature"], columns, [([name], [cell(value) for value in values]) for name, *values in rows])


def line_of(scores, feature="logmel"):
    return Line(feature, np.array(scores, np.float32), 0.02, 0.04)


def test_best_numbers_are_marked_and_an_empty_cell_has_no_number_to_sort_by():
    html = render(Page("P", tables=[table_of(("a", 90.0, None), ("b", 90.0, 50.0))]))
    assert len(re.findall(r'<td class="[^"]*\bbest\b', html)) == 2
    assert re.search(r'<td class="[^"]*\bempty"[^>]*>—', html)
    assert html.count("data-value=") == 3


def test_text_of_users_stays_text():
    clip = ShownClip('<img src=x onerror="alert(1)">', ["</script>"], [line_of([1, -1], '"><b>')])
    html = render(Page("<script>alert(1)</script>", clips=[clip], tables=[table_of(("<i>", 1.0, 2.0))]))
    for broken in ("<img src=x", "<script>alert", '"><b>', "<i>"):
        assert broken not in html
    assert html.count("</script>") == 1


def test_a_page_asks_for_nothing_from_elsewhere():
    picture = Picture("F", b"<svg/>", "image/svg+xml", "words")
    preview = Preview("audio/wav", b"RIFF", 1.0, np.zeros(50, np.float32), True)
    html = render(Page("P", figures=[picture], clips=[ShownClip("c", [], [line_of([1.0])], preview=preview)]))
    assert not re.search(r'(?:src|href)="(?!data:|#)', html)
    assert base64.b64encode(b"<svg/>").decode() in html


def test_what_is_empty_is_left_out_of_the_page():
    html = render(Page("P", summary=["One sentence."]))
    assert "One sentence." in html
    assert not any(f'id="{part}"' in html for part in ("tables", "figures", "audits", "clips"))


def test_scores_are_drawn_in_parts_of_the_largest_on_the_page():
    one, two = ShownClip("a", [], [line_of([0, 2, -4])]), ShownClip("b", [], [line_of([1, 1])])
    scale = Scale.of([one, two])
    assert (scale.units, scale.low, scale.high) == ({"logmel": 4.0}, -1.0, 0.5)
    drawing = draw(one, scale)
    [(_, path)] = drawing.lines
    heights = [float(point.split()[1]) for point in path[1:].split("L")]
    assert heights[0] == drawing.zero
    assert drawing.zero - heights[1] == pytest.approx((heights[2] - drawing.zero) / 2)
    assert WAVE < heights[1] < heights[2] < WAVE + SCORES


def test_the_line_between_real_and_fake_is_the_probes_threshold():
    clip = ShownClip("a", [], [Line("ntp", np.array([3.0, 5.0], np.float32), 0.02, 0.04, threshold=4.0)])
    drawing = draw(clip, Scale.of([clip]))
    [(_, path)] = drawing.lines
    low, high = (float(point.split()[1]) for point in path[1:].split("L"))
    assert low - drawing.zero == pytest.approx(drawing.zero - high)
    assert low > high


def test_a_page_of_nothing_but_zeros_can_be_drawn():
    clip = ShownClip("a", [], [line_of([0.0, 0.0])])
    assert Scale.of([clip]).units == {"logmel": 1.0}
    assert WAVE < draw(clip, Scale.of([clip])).zero < WAVE + SCORES


def test_time_runs_across_the_whole_width_and_shades_end_with_the_clip():
    clip = ShownClip(
        "a", [], [line_of([0.0] * 50)], {"sound": [(0.5, 1.0), (1.5, 9.0)], "picture": [(0.5, 1.0), (3.0, 4.0)]}
    )
    drawing = draw(clip, Scale.of([clip]))
    assert drawing.shades == [(WIDTH / 4, WIDTH / 4, "sound + picture"), (WIDTH * 3 / 4, WIDTH / 4, "sound")]
    assert drawing.ticks[0] == (0.0, "0 s")
    assert drawing.ticks[-1] == (100.0, "2 s")


def test_a_page_is_written_whole_or_not_at_all(tmp_path):
    write_page(Page("P"), tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").read_text().startswith("<!doctype html>")
    (tmp_path / "file").write_text("")
    with pytest.raises(ProbeError, match="cannot be written"):
        write_page(Page("P"), tmp_path / "file" / "page.html")
    (tmp_path / "taken").mkdir()
    with pytest.raises(ProbeError, match="cannot be written"):
        write_page(Page("P"), tmp_path / "taken")
    assert not list(tmp_path.glob("**/*.part"))


def test_a_preview_has_the_clips_own_times(tmp_path):
    sound = np.zeros(32_000, np.int16)
    sound[16_000:16_320] = 16_384
    write_video(tmp_path / "a.mkv", [numbered(k, 640, 480) for k in range(60)], 30, sound, audio_codec="pcm_s16le")
    found = avfeat.preview(tmp_path / "a.mkv")
    (tmp_path / "copy.mp4").write_bytes(found.data)
    copy = avfeat.preview(tmp_path / "copy.mp4", height_px=48)
    assert (found.kind, found.seconds, found.whole) == ("video/mp4", 2.0, True)
    assert len(found.peaks) == 100
    assert np.argmax(found.peaks) == 50
    assert found.peaks[50] == pytest.approx(0.5)
    assert copy.seconds == pytest.approx(2.0, abs=0.08)


def test_a_long_clip_is_cut_and_says_so(tmp_path):
    write_video(tmp_path / "a.mp4", [numbered(k) for k in range(50)], 25, np.zeros(32_000, np.int16))
    found = avfeat.preview(tmp_path / "a.mp4", most_seconds=1.0)
    assert (found.seconds, found.whole) == (1.0, False)
    assert "first 1 s" in render(Page("P", clips=[ShownClip("a", [], [line_of([1.0])], preview=found)]))


def test_sound_alone_is_played_and_no_media_is_an_error(tmp_path):
    import wave

    with wave.open(str(tmp_path / "a.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(np.zeros(8_000, "<i2").tobytes())
    assert avfeat.preview(tmp_path / "a.wav").kind == "audio/wav"
    (tmp_path / "b.mp4").write_text("no media")
    with pytest.raises(UnreadableError):
        avfeat.preview(tmp_path / "b.mp4")

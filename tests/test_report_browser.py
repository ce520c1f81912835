"""The page in a real browser: it renders without a network, sorts, hides, seeks, and fits a phone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from made_media import numbered
from playwright.sync_api import Browser, Page, sync_playwright

import avfeat
from avfeat.media import write_video
from probes.report import content
from probes.report.page import write_page

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page with a table, a figure and a clip of 2 s."""
    folder = tmp_path_factory.mktemp("page")
    write_video(folder / "a.mp4", [numbered(k) for k in range(50)], 25, np.zeros(32_000, np.int16))
    columns = [content.Column("A → A", out_of_domain=False), content.Column("A → B", out_of_domain=True)]
    values = {"one": (90.0, 9.5), "two": (80.0, 50.0), "three": (85.0, None)}
    rows = [
        (
            [name],
            [content.Number(value, str(value or "—"), note=f"note of {name}", best=value == 90.0) for value in both],
        )
        for name, both in values.items()
    ]
    lines = [
        content.Line(feature, np.linspace(-1, 1, 50, dtype=np.float32), 0.02, 0.04) for feature in ("logmel", "lips")
    ]
    clip = content.ShownClip("a", ["fake"], lines, {"sound": [(0.5, 1.0)]}, avfeat.preview(folder / "a.mp4"))
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 40 20"><rect width="40" height="20"/></svg>'
    figure = content.Picture("Figure", svg, "image/svg+xml", "a rectangle")
    table = content.Table("T", ["feature"], columns, rows)
    write_page(content.Page("P", ["Summary."], tables=[table], figures=[figure], clips=[clip]), folder / "page.html")
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser, file: Path) -> Iterator[Page]:
    """The page, opened from its file without a network; complaints of its script fail the test."""
    context = browser.new_context(offline=True, viewport={"width": 1100, "height": 800})
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(file.as_uri())
    yield page
    context.close()
    assert complaints == []


def column(page: Page, number: int) -> list[str]:
    return page.locator(f"tbody tr > :nth-child({number})").all_inner_texts()


def test_a_click_on_a_head_sorts_best_first_and_empty_last_and_a_second_click_turns_it_round(page: Page) -> None:
    head = page.get_by_role("button", name="A → B")
    head.click()
    assert column(page, 3) == ["50.0", "9.5", "—"]
    assert column(page, 1) == ["two", "one", "three"]
    head.click()
    assert column(page, 3) == ["9.5", "50.0", "—"]
    assert page.locator("th[aria-sort]").get_attribute("aria-sort") == "ascending"
    page.get_by_role("button", name="feature").click()
    assert column(page, 1) == ["one", "three", "two"]


def test_the_choices_hide_what_is_in_domain_and_the_bold_of_the_best(page: Page) -> None:
    best = page.locator("td", has_text="90.0")
    assert best.evaluate("cell => getComputedStyle(cell).fontWeight") == "700"
    page.get_by_label("best of each column").uncheck()
    assert best.evaluate("cell => getComputedStyle(cell).fontWeight") == "400"
    page.get_by_label("only out of domain").check()
    assert not best.is_visible()
    assert page.locator("td", has_text="50.0").is_visible()


def test_a_cell_tells_its_note_to_who_cannot_point_at_it(page: Page) -> None:
    page.locator("td", has_text="50.0").focus()
    assert page.locator(".note").inner_text() == "two, A → B: note of two"


def test_a_click_into_the_drawing_seeks_and_the_playhead_follows_the_video(page: Page) -> None:
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    drawing = page.locator(".timeline")
    drawing.scroll_into_view_if_needed()
    box = drawing.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 90)
    assert page.evaluate("document.querySelector('video').currentTime") == pytest.approx(1.0, abs=0.02)
    drawing.press("ArrowRight")
    assert float(drawing.get_attribute("aria-valuenow") or "") == pytest.approx(1.04, abs=0.02)
    drawing.press("Home")
    page.wait_for_function("document.querySelector('video').currentTime === 0")
    page.evaluate("document.querySelector('video').currentTime = 1.5")
    page.wait_for_function("document.querySelector('.playhead').style.left === '75%'")
    assert page.locator(".legend output").inner_text() == "1.50 s"
    assert page.locator(".legend .now").first.inner_text() == "0.51"


def test_a_picture_of_the_video_is_really_shown(page: Page) -> None:
    page.wait_for_function("document.querySelector('video').readyState >= 2")
    size = page.evaluate("(video => [video.videoWidth, video.videoHeight])(document.querySelector('video'))")
    assert size == [128, 96]


def test_lines_can_be_switched_off(page: Page) -> None:
    line = page.locator(".timeline path[data-feature=lips]")
    assert line.evaluate("path => getComputedStyle(path).display") != "none"
    page.locator(".legend input[data-feature=lips]").uncheck()
    assert line.evaluate("path => getComputedStyle(path).display") == "none"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_fits_a_phone_in_either_light(browser: Browser, file: Path, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(file.as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    paper, ink = page.evaluate("(s => [s.backgroundColor, s.color])(getComputedStyle(document.body))")
    light = [sum(map(int, colour.strip("rgb()").split(","))) for colour in (paper, ink)]
    assert (light[0] > light[1]) == (scheme == "light")
    assert abs(light[0] - light[1]) > 400
    context.close()

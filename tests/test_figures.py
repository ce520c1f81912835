"""Figures: the same bytes from the same numbers, and nothing in them that needs colour."""

import re
from pathlib import Path

import numpy as np
import pytest

from avfeat.errors import ProbeError
from probes.complementarity import complementarity
from probes.explain.media import BANDS, Seen
from probes.explain.temporal import Trace
from probes.figures import figure3, figure5
from probes.figures.style import COLOURS, MINUS, lightness
from tests.test_complementarity import made

PUBLISHED = "quantity,row,strong,weak\ncorrelation,strong,100.0,33.3\nrelative_improvement,weak,12.5,0.0\n"


def words(path: Path) -> list[str]:
    """The texts of an SVG: matplotlib leaves each as a comment beside its outlines."""
    return re.findall(r"<!-- (.*?) -->", path.read_text())


def draw_figure5(folder: Path) -> list[Path]:
    table = folder / "published.csv"
    folder.mkdir(parents=True, exist_ok=True)
    table.write_text(PUBLISHED)
    return figure5.draw(complementarity(*made()), folder, figure5.read_published(table), "Title")


def draw_figure3(folder: Path) -> list[Path]:
    scores = np.sin(np.arange(50.0)).astype(np.float32)
    seen = Seen(2.0, np.random.default_rng(0).uniform(-80, 0, (BANDS, 200)), [(0.5, np.full((9, 16, 3), 90, np.uint8))])
    kinds = {"sound": [(0.4, 0.8)], "picture": [(0.6, 1.2)]}
    trace = Trace("talk", 1, 4.0, scores, 0.02, 0.04, [(0.4, 1.2)], kinds)
    return figure3.draw([figure3.Column({"one": trace, "other": trace}, seen, ["fake"])], folder)


DRAWINGS = {"figure3": draw_figure3, "figure5": draw_figure5}


@pytest.mark.parametrize("name", DRAWINGS)
def test_a_figure_drawn_twice_is_the_same_bytes_in_three_formats(name: str, tmp_path: Path) -> None:
    first, again = DRAWINGS[name](tmp_path / "a"), DRAWINGS[name](tmp_path / "b")
    assert [path.name for path in first] == [f"{name}.png", f"{name}.svg", f"{name}.pdf"]
    for one, other in zip(first, again, strict=True):
        assert one.read_bytes() == other.read_bytes()
    assert b"20" not in re.findall(rb"CreationDate \((.*?)\)", first[2].read_bytes())
    assert "<dc:date>" not in first[1].read_text()


def test_the_colours_of_lines_are_told_apart_by_lightness_too() -> None:
    greys = sorted(lightness([int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]) for colour in COLOURS[:4])
    assert np.diff(greys).min() > 0.02


def test_figure_5_writes_our_numbers_and_the_published_ones_where_both_names_are_known(tmp_path: Path) -> None:
    found = complementarity(*made())
    shown = words(draw_figure5(tmp_path)[1])
    assert f"{100 * found.correlation[0, 2]:.1f}".replace("-", MINUS) in shown
    assert "(33.3)" in shown and "(+12.5)" in shown and "strong" in shown and "other" in shown
    assert sum(text.startswith("AUC ") for text in shown) == 3


def test_a_file_that_holds_no_published_numbers_is_refused(tmp_path: Path) -> None:
    (tmp_path / "odd.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ProbeError, match=r"odd\.csv does not hold the numbers of figure 5"):
        figure5.read_published(tmp_path / "odd.csv")
    with pytest.raises(ProbeError, match="absent"):
        figure5.read_published(tmp_path / "absent.csv")

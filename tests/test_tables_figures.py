"""Tables as Markdown and the figure of frame scores."""

import numpy as np
from PIL import Image

from probes.figures.frame_scores import Line, Panel, draw
from probes.intervals import Measure
from probes.tables.cross_dataset import Cell, cross_dataset
from probes.tables.markdown import table


def test_a_table_sets_numbers_to_the_right_and_keeps_bars_and_line_breaks_out_of_its_cells():
    text = table(("name", "clips"), [("a|b\nc", 7), ("d", 12345)])
    assert text.splitlines() == [
        "| name   | clips |",
        "| ------ | ----: |",
        "| a\\|b c |     7 |",
        "| d      | 12345 |",
    ]


def test_a_table_without_rows_is_its_head():
    assert table(("a", "b"), []) == "| a   | b   |\n| --- | --- |\n"


def test_the_cross_dataset_table_has_a_row_for_each_feature_and_a_dash_where_nothing_was_measured():
    cells = [
        Cell("logmel", "A", "A", Measure(0.9, 0.8, 1.0)),
        Cell("logmel", "A", "B", Measure(0.5, 0.25, 0.75)),
        Cell("landmarks", "A", "B", Measure(0.7, 0.5, 0.9)),
    ]
    lines = cross_dataset(cells, [("A", "A"), ("A", "B")]).splitlines()
    assert [cell.strip() for cell in lines[0].split("|")[1:-1]] == ["feature", "A → A", "A → B"]
    assert [cell.strip() for cell in lines[2].split("|")[1:-1]] == [
        "logmel",
        "0.900 [0.800, 1.000]",
        "0.500 [0.250, 0.750]",
    ]
    assert [cell.strip() for cell in lines[3].split("|")[1:-1]] == ["landmarks", "—", "0.700 [0.500, 0.900]"]


def test_the_figure_shades_the_fake_segments_and_nothing_else(tmp_path):
    times = np.linspace(0, 2, 50)
    lines = {"logmel": Line(times, np.full(50, 0.9)), "landmarks": Line(times, np.full(50, 0.1))}
    shaded = Panel("forged", 2.0, lines, {"sound": [(0.5, 1.0)]})
    real = Panel("real", 2.0, lines)

    def coloured(panels):
        draw(panels, tmp_path / "out" / "figure.png", ["A"], "title")
        pixels = np.asarray(Image.open(tmp_path / "out" / "figure.png").convert("RGB")).astype(int)
        return (np.abs(pixels - [0xE4, 0xE0, 0xD4]).max(-1) < 3).sum(), pixels.shape

    one, size = coloured([[shaded], [real]])
    none, same = coloured([[real], [real]])
    assert size == same and none < 50
    assert one > 0.02 * size[0] * size[1]

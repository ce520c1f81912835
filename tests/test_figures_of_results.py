"""Figures of protocols that were run: which numbers go where, what is missing, and the command."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from avfeat.errors import ProbeError
from probes.cli import app
from probes.figures import ablations, bars, curves
from probes.figures.from_results import draw, has_figure
from probes.figures.panels import Panel, limits
from probes.figures.style import write
from probes.intervals import Measure
from probes.protocol import Protocol, known_protocols, read_protocol
from probes.results import Cell, Results, Scores, write_results, write_scores
from tests.test_figures import words

KINDS = {
    "ablation-pooling": "pooling",
    "ablation-size": "size",
    "ablation-layer": "layers",
    "ablation-random": "variants",
    "ablation-silence": "variants",
    "table2": None,
    "table4": None,
    "demo": None,
}


def made_cells(protocol: Protocol, missing: tuple[str, ...] = ()) -> list[Cell]:
    """A cell for each row and column, its AUC from its place; rows in ``missing`` are gaps."""
    cells = []
    for i, row in enumerate(protocol.rows):
        for j, column in enumerate(protocol.columns):
            place = (protocol.name, row.name, column.name)
            if row.name in missing:
                cells.append(Cell(*place, "gap", (f"{row.features[0]} is not there.",)))
                continue
            auc = 0.55 + 0.04 * i + 0.01 * j
            cells.append(Cell(*place, "done", measures={"auc": Measure(auc, auc - 0.05, auc + 0.03)}, tests=(f"t{i}",)))
    return cells


def made_results(folder: Path, name: str, missing: tuple[str, ...] = ()) -> tuple[Protocol, Results]:
    protocol = read_protocol(name)
    cells = made_cells(protocol, missing)
    write_results(folder, cells)
    for i in range(len(protocol.rows)):
        random = np.random.default_rng(i)
        labels = np.arange(40) % 2
        scores = (labels + random.standard_normal(40))[:, None]
        write_scores(folder, f"t{i}", (43,), Scores(tuple(f"c{k}" for k in range(40)), labels, scores), {})
    return protocol, Results(folder, tuple(cells))


@pytest.mark.parametrize("name", KINDS)
def test_each_ablation_is_known_by_its_grid(name: str) -> None:
    protocol = read_protocol(name)
    assert ablations.kind_of(protocol) == KINDS[name]
    assert has_figure(protocol) == (KINDS[name] is not None)


def test_probes_of_several_heads_are_a_table_even_when_their_poolings_differ() -> None:
    protocol = read_protocol("ablation-pooling")
    probes = dict(protocol.probes) | {"max": replace(protocol.probes["max"], head="mlp")}
    assert ablations.kind_of(replace(protocol, probes=probes)) is None


def test_every_protocol_that_is_no_plain_table_has_a_figure() -> None:
    named = {name for name in known_protocols() if has_figure(read_protocol(name))}
    assert {"figure3", "figure4", "figure5", *(name for name, kind in KINDS.items() if kind)} <= named


def test_poolings_stand_side_by_side_for_each_pair_of_sets(tmp_path: Path) -> None:
    protocol, results = made_results(tmp_path, "ablation-pooling")
    first, *_ = panels = ablations._pooling(protocol, results)
    assert [panel.title for panel in panels] == ["av1m → av1m", "av1m → favc", "av1m → dfe"]
    assert list(first.series) == ["lse", "lse-mean", "max", "top:10", "mean", "min"]
    assert first.places[1] == "AV-HuBERT (A)"
    assert first.series["max"][1] is not None and first.series["max"][1].value == pytest.approx(
        100 * (0.55 + 0.04 + 0.02)
    )


def test_shares_of_the_training_clips_grow_from_left_to_right(tmp_path: Path) -> None:
    protocol, results = made_results(tmp_path, "ablation-size")
    near, far = ablations._size(protocol, results)
    assert near.places == ["1 %", "3 %", "10 %", "30 %", "100 %"]
    assert [round(each.value) for each in far.series["Wav2Vec2"] if each] == [60, 61, 62, 63, 64]


def test_layers_and_variants_are_told_by_the_rows_names(tmp_path: Path) -> None:
    protocol, results = made_results(tmp_path / "a", "ablation-layer", missing=("CLIP VIT-L/14, layer 9",))
    panel = ablations._layers(protocol, results)[0]
    assert panel.places == ["9", "last"] and next(iter(panel.series)) == "Wav2Vec2"
    ninth, last = panel.series["CLIP VIT-L/14"]
    assert ninth is None and last is not None
    protocol, results = made_results(tmp_path / "b", "ablation-random")
    panel = ablations._variants(protocol, results)[-1]
    assert panel.title == "mean OOD" and list(panel.series) == [ablations.PLAIN, "random"]
    assert panel.places == ["Wav2Vec2", "AV-HuBERT (A)", "AV-HuBERT (V)", "CLIP VIT-L/14", "AV-HuBERT"]


def test_the_axis_holds_every_interval_and_a_blind_guess() -> None:
    assert limits([Panel("", ["a"], {"x": [Measure(70, 62, 91)], "y": [None]})]) == (40, 100)
    assert limits([Panel("", ["a"], {"x": [Measure(35, 20, 44)]})]) == (10, 60)


@pytest.mark.parametrize("name", ["ablation-pooling", "ablation-size", "ablation-layer", "ablation-random"])
def test_an_ablation_is_drawn_and_says_what_is_missing(name: str, tmp_path: Path) -> None:
    gone = read_protocol(name).rows[1].name
    protocol, results = made_results(tmp_path, name, missing=(gone,))
    paths, gaps = draw(protocol, results, [], tmp_path / "figures")
    assert [path.suffix for path in paths] == [".png", ".svg", ".pdf"]
    assert gaps == [f"{protocol.rows[1].features[0]} is not there."]
    shown = words(paths[1])
    assert "AUC (%)" in shown and protocol.title in shown
    assert ("no data" in shown) == (KINDS[name] in ("pooling", "variants"))


def test_an_ablation_drawn_again_is_the_same_bytes(tmp_path: Path) -> None:
    protocol, results = made_results(tmp_path, "ablation-size")
    one, two = (draw(protocol, results, [], tmp_path / name)[0] for name in ("one", "two"))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_what_has_not_one_number_is_not_drawn(tmp_path: Path) -> None:
    rows = tuple(row.name for row in read_protocol("ablation-size").rows)
    protocol, results = made_results(tmp_path, "ablation-size", missing=rows)
    with pytest.raises(ProbeError, match=r"not one number to draw: xlsr-2b is not there"):
        draw(protocol, results, [], tmp_path)
    with pytest.raises(ProbeError, match="probes run ablation-layer makes them"):
        draw(read_protocol("ablation-layer"), results, [], tmp_path)


def test_figure_5_is_drawn_from_kept_scores_with_the_published_numbers(tmp_path: Path) -> None:
    protocol, results = made_results(tmp_path, "figure5", missing=("V-MAE",))
    paths, gaps = draw(protocol, results, [], tmp_path / "figures")
    assert [path.name for path in paths] == ["figure5.png", "figure5.svg", "figure5.pdf"]
    shown = words(paths[1])
    assert "(66.2)" in shown and "(+4.7)" in shown and "V-MAE" not in shown
    assert gaps == ["videomae-large is not there."]


def test_bars_differ_in_hatches_and_lines_in_dashes_and_markers(tmp_path: Path) -> None:
    series = {name: [Measure(70.0, 60.0, 80.0)] for name in "abcdef"}
    figure = bars.compose([Panel("", ["one"], series)], "AUC (%)")
    hatches = [patch.get_hatch() for patch in figure.axes[0].patches]
    assert len(hatches) == len(set(hatches)) == 6
    figure = curves.compose([Panel("", ["one"], series)], "AUC (%)", "share")
    lines = [line for line in figure.axes[0].lines if line.get_marker() in "os^DvP"]
    assert len({line.get_marker() for line in lines}) == 6
    write(figure, tmp_path, "lines")


def test_the_command_draws_all_that_was_run_and_lists_what_is_missing(tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["figure", "--out", str(tmp_path)])
    assert done.exit_code == 1 and "has no results: probes run makes them" in done.output
    made_results(tmp_path, "figure5", missing=("CLIP",))
    done = CliRunner().invoke(app, ["figure", "--out", str(tmp_path)])
    assert done.exit_code == 3, done.output
    assert f"wrote {tmp_path}/figures/figure5.pdf" in done.output
    assert "figure5: missing: clip-vit-l14 is not there." in done.output
    done = CliRunner().invoke(app, ["figure", "table2", "--out", str(tmp_path)])
    assert done.exit_code == 3 and "has no results of table2" in done.output

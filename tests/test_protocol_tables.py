"""Tables: rebuilt from scores whose AUC are the published numbers, and cell by cell."""

import csv
import io
from functools import partial

import numpy as np
import pytest

from probes import run_book
from probes.intervals import Measure
from probes.protocol import FOLDER, read_protocol
from probes.results import Cell, Results, Scores, read_results, write_scores
from probes.run_inputs import ClipSet, digest_of
from probes.run_measure import replicate
from probes.run_plan import plan
from probes.tables.forms import comma_separated, latex, markdown, write_forms
from probes.tables.grid import grid, tenths
from tests.running import PROTOCOL, write_protocol

REALS = 1000


class EverySet:
    """Stands in for stores: whatever is asked for is there."""

    def clip_set(self, features, choice, shuffle=None, *, real_only=False):
        return ClipSet(choice, shuffle, f"{choice.manifest}-0", digest_of([features, str(choice)]))


def scores_with_auc(test_set, percent):
    """One fake above as many of 1,000 reals as the AUC says."""
    ids = tuple(f"{test_set} {k}" for k in range(REALS + 1))
    values = np.append(np.arange(REALS), round(percent * REALS / 100) - 0.5)
    return Scores(ids, np.append(np.zeros(REALS, int), 1), values[:, None].astype(float))


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory):
    """Table 2 of results whose scores have the published AUC; the mean column is ours to compute."""
    out = tmp_path_factory.mktemp("rebuilt")
    protocol = read_protocol("table2")
    wanted = plan(protocol, EverySet())
    with (FOLDER / "published" / "table2.csv").open() as file:
        paper = {line["model"]: line for line in csv.DictReader(file)}
    for cell in wanted:
        for test in cell.tests:
            scores = scores_with_auc(cell.column.test, float(paper[cell.row.name][cell.column.name]))
            write_scores(out, test.digest, (43,), scores, {"left_out": ""})
    with pytest.MonkeyPatch.context() as patch:
        # The numbers are those of all clips; fewer replicates make their intervals sooner.
        patch.setattr(run_book, "replicate", partial(replicate, replicates=20))
        run_book.Book(out, wanted).close()
    return paper, grid(protocol, read_results(out))


def test_results_with_the_published_numbers_give_the_published_table_with_its_mean(rebuilt):
    paper, table = rebuilt
    lines = list(csv.DictReader(io.StringIO(comma_separated(table))))
    assert len(lines) == 140
    for line in lines:
        assert float(line["ours"]) == float(paper[line["row"]][line["column"]]), line
        assert line["published"] == f"{float(paper[line['row']][line['column']]):g}"
        assert line["difference"] == "+0.0"


def test_the_best_of_each_column_is_bold_and_what_the_paper_greys_is_grey(rebuilt):
    paper, table = rebuilt
    audio = {name for name, line in paper.items() if line["modality"] == "audio"}
    for k, column in enumerate(table.columns):
        grey = {row.name for row, line in zip(table.rows, table.lines, strict=True) if line[k].grey}
        assert grey == (audio if "avlips" in column.name or "dfe" in column.name else set())
        best = {row.name for row, line in zip(table.rows, table.lines, strict=True) if line[k].best}
        counting = {name: float(line[column.name]) for name, line in paper.items() if name not in grey}
        assert best == {name for name, value in counting.items() if value == max(counting.values())}
    assert r"\textbf{84.6}" in latex(table)
    assert "| **84.6** [" in markdown(table)


def cell(row, column, value=None, **facts):
    if value is None:
        return Cell("small", row, column, "gap", **facts)
    measures = dict.fromkeys(("auc", "ap", "eer"), Measure(value, value - 0.01, value + 0.01))
    return Cell("small", row, column, "done", measures=measures, head="linear", seeds=(1,), **facts)


@pytest.fixture
def small(tmp_path):
    (tmp_path / "paper.csv").write_text("model,near_near,away\none,96.7,\ntwo,,40\n")
    text = PROTOCOL + "published: paper.csv\ngrey: [{groups: [pair], columns: [far_near]}]\nnotes: ['See 5 % of #1.']\n"
    protocol = read_protocol(write_protocol(tmp_path, text))
    cells = [
        cell("one", "near_near", 0.975, left_out="11 of 12 clips used", test="near:test", features=("one",)),
        cell("two", "near_near", reasons=("no weights_2", "no manifest")),
        cell("two", "near_far", reasons=("no manifest",)),
        cell("one", "far_near", 0.5),
        cell("both", "far_near", 0.9, settings={"solver": "adam"}),
    ]
    return grid(protocol, Results(tmp_path, tuple(cells)))


def test_a_cell_shows_ours_with_its_interval_the_published_number_and_the_difference(small):
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in markdown(small).splitlines() if "|" in line]
    assert lines[0] == ["features", "group", "near → near", "near → far", "far → near", "away"]
    assert lines[2] == ["one", "single", "**97.5** [96.5, 98.5] · 96.7 +0.8", "—¹", "**50.0** [49.0, 51.0]", "—¹"]
    assert lines[3] == ["two", "single", "—²,³", "—³", "—¹", "—¹ · 40.0"]
    assert lines[4] == ["both", "pair", "—¹", "—¹", "*90.0 [89.0, 91.0]*", "—¹"]


def test_what_is_missing_is_listed_once_and_how_the_rest_was_made_is_said(small):
    text = markdown(small)
    assert "1. Not run yet: probes run small.\n2. no weights_2\n3. no manifest\n" in text
    assert "Probe: linear, seed 1. Probe: linear, solver adam (the paper's), seed 1." in text
    assert "Not all clips could be tested:\n\n- near:test, one: 11 of 12 clips used\n" in text
    assert "Not all clips could be tested: near:test, one: 11 of 12 clips used." in latex(small)


def test_latex_has_as_many_cells_in_each_line_as_columns_and_no_bare_special_character(small):
    text = latex(small)
    body = text.split(r"\toprule")[1].split(r"\bottomrule")[0]
    rows = [line for line in body.splitlines() if line.endswith(r" \\")]
    assert [row.count("&") for row in rows] == [4, 4, 4, 4]
    assert r"\textbf{97.5}\\ \scriptsize [96.5, 98.5]\\ \scriptsize 96.7 ($+0.8$)\end{tabular}" in text
    assert r"\textcolor{gray}{\begin{tabular}{@{}c@{}}90.0" in text
    assert r"no weights\_2" in text and r"5 \% of \#1" in text
    assert text.count("{") == text.count("}")


def test_halves_are_rounded_up_whatever_their_binary_form():
    assert [tenths(value) for value in (54.65, 100 * 0.5465, 0.25, 99.95, -0.25, 0.0)] == [
        54.7,
        54.7,
        0.3,
        100.0,
        -0.2,
        0.0,
    ]


def test_all_forms_are_written_beside_each_other(small, tmp_path):
    paths = write_forms(small, tmp_path / "tables")
    assert [path.name for path in paths] == ["small.md", "small.tex", "small.csv"]
    assert paths[2].read_text().splitlines()[1] == "one,single,near_near,97.5,96.5,98.5,96.7,+0.8,1,0,"


def test_where_lower_is_better_the_lowest_is_best(tmp_path):
    protocol = read_protocol(write_protocol(tmp_path, PROTOCOL + "metric: eer\n"))
    found = grid(protocol, Results(tmp_path, (cell("one", "near_near", 0.2), cell("two", "near_near", 0.1))))
    assert [line[0].best for line in found.lines] == [False, True, False]

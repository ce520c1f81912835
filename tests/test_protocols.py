"""Protocols: the file's schema, faults with their lines, and those that come with the package."""

import tomllib

import pytest

from avfeat.errors import ProtocolError
from probes.protocol import FOLDER, Recipe, known_protocols, read_protocol
from probes.tables.published import published
from tests.running import PROTOCOL, write_protocol


def fault(tmp_path, old, new):
    """Return what is said of the small protocol with one edit, and the number of the edited line."""
    assert old in PROTOCOL
    text = PROTOCOL.replace(old, new, 1)
    line = next(k for k, (a, b) in enumerate(zip(PROTOCOL.splitlines(), text.splitlines(), strict=False), 1) if a != b)
    with pytest.raises(ProtocolError) as error:
        read_protocol(write_protocol(tmp_path, text))
    return str(error.value), line


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("{name: one,", "{nane: one,", "there is no key 'nane' here; known are name, features, group."),
        ("train: near, test: far", "train: nearby, test: far", "there is no dataset 'nearby'; known are near, far."),
        ("probe: plain", "probe: plane", "there is no probe 'plane'; known are plain, late."),
        (
            "{settings: {solver: lbfgs",
            "{head: liner, settings: {solver: lbfgs",
            "there is no head 'liner'; known are linear",
        ),
        (
            "{settings: {solver: lbfgs",
            "{head: late-fusion, settings: {solver: lbfgs",
            "late fusion is made of other heads: name theirs, and say join: late.",
        ),
        (
            "{solver: lbfgs",
            "{device: cuda, solver: lbfgs",
            "there is no setting of linear 'device'; known are class_weight",
        ),
        ("{solver: lbfgs", "{solver: sgd", "There is no solver 'sgd'; choose adam"),
        (
            "{solver: lbfgs",
            "{pooling: max, solver: lbfgs",
            "there is no setting of linear 'pooling'; known are class_weight",
        ),
        ("{solver: lbfgs", "{pool: median, solver: lbfgs", "There is no pooling 'median'"),
        ("join: late", "join: later", "'later' is not known; choose from early, late."),
        ("seeds: [1, 2]", "seeds: [1, two]", "a whole number is needed here, not 'two'."),
        ("seeds: [1, 2]", "seeds: 1", "a list is needed here, e.g. [one, two]."),
        ("seeds: [1, 2]", "seeds: [1, 1]", "seeds must be one or several different whole numbers."),
        ("seeds: [1, 2]", "share: 0, seeds: [1, 2]", "the share of training clips must be above 0 and at most 1."),
        (
            "mean_of: [near_far",
            "mean_of: [near_far2",
            "there is no column to take a mean of 'near_far2'; known are near_near",
        ),
        ("mean_of:", "test: far, mean_of:", "column 'away' is a mean, so it takes neither train nor test nor probe."),
        (", probe: plain}", "}", "column 'near_near' must name its probe: plain, late."),
        ("train: near, test: near", "test: near", "column 'near_near' needs train and test, or mean_of."),
        ("name: two", "name: one", "two rows are called 'one'."),
        ("features: [one, two]", "features: [one, one]", "row 'both' names a feature twice."),
        ("manifest: far", "manifest: near, manifest: far", "the key 'manifest' is given twice."),
        ("title: A small grid", "title: [A small grid]", "one value is needed here, not a list or keys."),
        ("title: A small grid", "titel: A small grid", "there is no key 'titel' here; known are title, datasets"),
    ],
)
def test_a_fault_is_told_with_its_file_its_line_and_what_would_be_right(tmp_path, old, new, sentence):
    said, line = fault(tmp_path, old, new)
    assert said.startswith(f"{tmp_path / 'small.yaml'}:{line}: {sentence}")


def test_what_must_be_given_and_is_not_is_told(tmp_path):
    with pytest.raises(ProtocolError, match=r"small.yaml:1: datasets and rows and columns must be given here."):
        read_protocol(write_protocol(tmp_path, "title: only\n"))
    with pytest.raises(ProtocolError, match=r"small.yaml is empty"):
        read_protocol(write_protocol(tmp_path, ""))
    with pytest.raises(ProtocolError, match=r"small.yaml:2: this is not YAML"):
        read_protocol(write_protocol(tmp_path, "title: {a\n"))
    with pytest.raises(ProtocolError, match=r"nowhere.yaml cannot be read"):
        read_protocol(tmp_path / "nowhere.yaml")


def test_an_unknown_name_lists_the_known_ones_and_guesses():
    with pytest.raises(ProtocolError, match=r"no protocol 'tabel2'; did you mean table2\? Known are .*demo.*table2"):
        read_protocol("tabel2")


def test_what_a_file_leaves_out_has_the_paper_s_values(tmp_path):
    protocol = read_protocol(
        write_protocol(
            tmp_path, PROTOCOL.replace("  plain: {settings: {solver: lbfgs, steps: 20}, seeds: [1, 2]}", "  plain: {}")
        )
    )
    assert protocol.probes["plain"] == Recipe("linear", {}, (43,), 1.0, "early")
    assert (protocol.datasets["far"].train, protocol.datasets["far"].val, protocol.datasets["far"].test) == (
        "train",
        "val",
        "test",
    )


@pytest.mark.parametrize("name", known_protocols())
def test_every_protocol_of_the_package_can_be_read_and_its_published_numbers_fit_its_grid(name):
    protocol = read_protocol(name)
    rows, columns = {row.name for row in protocol.rows}, {column.name for column in protocol.columns}
    numbers = published(protocol)
    assert {row for row, _ in numbers} <= rows and {column for _, column in numbers} <= columns
    assert bool(numbers) == (protocol.published is not None)


def test_table_2_asks_for_14_features_and_9_pairs_and_the_mean_of_the_six_that_are_out_of_domain():
    protocol = read_protocol("table2")
    assert (len(protocol.rows), len(protocol.columns)) == (14, 10)
    *pairs, mean = protocol.columns
    assert set(mean.mean_of) == {column.name for column in pairs if column.train != column.test}
    assert len(published(protocol)) == 140


def test_protocols_and_published_numbers_are_part_of_the_package():
    project = tomllib.loads((FOLDER.parents[1] / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]["probes"]
    packed = {path for pattern in patterns for path in FOLDER.parent.glob(pattern)}
    assert {path for path in FOLDER.rglob("*") if path.is_file()} <= packed
    assert (FOLDER.parents[1] / "manifests").resolve() == FOLDER

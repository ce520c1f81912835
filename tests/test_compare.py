"""Two probes on the same clips: DeLong's test and paired intervals, against plain loops."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from avfeat.errors import ProbeError
from probes.cli import app
from probes.compare import compare_probes, delong
from probes.heads.linear import LinearProbe
from probes.intervals import difference, draws
from probes.probe_file import load_probe
from tests.ragged import write_planted


@settings(max_examples=60, deadline=None)
@given(
    clips=st.lists(st.tuples(st.integers(-3, 3), st.integers(-3, 3)), min_size=8, max_size=30),
    reals=st.integers(2, 6),
)
def test_delong_equals_the_double_loop_whatever_ties_there_are(clips, reals):
    labels = np.array([0] * reals + [1] * (len(clips) - reals))
    first, second = np.array(clips, float).T
    found = delong(first, second, labels)

    def win(fake, real):
        return 1.0 if fake > real else 0.5 if fake == real else 0.0

    gaps = np.array(
        [[win(first[f], first[r]) - win(second[f], second[r]) for r in range(reals)] for f in range(reals, len(clips))]
    )
    variance = gaps.mean(1).var(ddof=1) / len(gaps) + gaps.mean(0).var(ddof=1) / reals
    assert found.difference == pytest.approx(gaps.mean(), abs=1e-12)
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * math.sqrt(variance), abs=1e-6)
    if variance > 1e-12:
        assert found.p == pytest.approx(math.erfc(abs(gaps.mean()) / math.sqrt(2 * variance)), abs=1e-6)


def test_a_difference_draws_the_same_clips_for_both():
    rng = np.random.default_rng(0)
    labels = np.arange(50) % 2
    first, second = labels + rng.normal(size=50), labels + rng.normal(size=50)
    groups = [f"s{k % 9}" for k in range(50)]
    found = difference(first, second, labels, ["auc"], groups=groups, replicates=30, seed=1)["auc"]
    plain = []
    for weights in next(draws(50, groups, 30, 1)):
        clips = np.repeat(np.arange(50), weights.astype(int))
        plain.append(roc_auc_score(labels[clips], first[clips]) - roc_auc_score(labels[clips], second[clips]))
    plain.append(found.value)
    assert found.value == pytest.approx(roc_auc_score(labels, first) - roc_auc_score(labels, second))
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])))
    same = difference(first, first, labels, ["auc", "eer"], replicates=30)
    assert all((each.value, each.low, each.high) == (0, 0, 0) for each in same.values())


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Two features of the same clips, of which each lacks others, and a probe of each."""
    folder = tmp_path_factory.mktemp("compare")
    for feature, strength, spoil in (("sound", 1.0, ("c0006", "c0007")), ("face", 0.2, ("c0014",))):
        write_planted(folder / "s", "near", feature=feature, strength=strength, spoil=spoil)
        rng = np.random.default_rng(1234)
        weight = rng.normal(size=12)
        LinearProbe(pool="mean").set_weights(weight, 0.0, (feature,), (12,), {}).save(folder / f"{feature}.safetensors")
    return folder


def test_probes_are_compared_on_the_clips_that_both_can_score(place):
    sound, face = (load_probe(place / f"{name}.safetensors") for name in ("sound", "face"))
    (found,) = compare_probes(sound, face, [place / "s"], ["near:test"], replicates=50)
    assert (found.clips, found.left_out) == (27, 3)
    assert found.first["auc"].value - found.second["auc"].value == pytest.approx(found.difference["auc"].value)
    assert found.delong.difference == pytest.approx(found.difference["auc"].value)
    assert found.difference["auc"].low > 0
    (back,) = compare_probes(face, sound, [place / "s"], ["near:test"], replicates=50)
    assert back.difference["ap"].value == -found.difference["ap"].value
    assert back.delong.p == found.delong.p


def test_the_command_prints_differences_with_their_intervals_and_the_test(place):
    command = ["compare", *(str(place / name) for name in ("sound.safetensors", "face.safetensors", "s"))]
    done = CliRunner().invoke(app, [*command, "--test", "near:test", "--intervals-by", "speaker"])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0] == "near:test: 27 clips that both can score; left out: 3 that only one can"
    assert lines[1].split() == ["metric", "A", "B", "A", "-", "B"]
    assert lines[2].split()[-3].startswith("+0.")
    assert lines[-1].startswith("DeLong's test of the AUCs: z = ")
    facts = json.loads(CliRunner().invoke(app, [*command, "--test", "near:test", "--json"]).stdout)
    assert facts["near:test"]["clips"] == 27


def test_probes_that_share_no_clip_are_refused(tmp_path, place):
    every = [f"c{k:04}" for k in range(0, 24)]
    write_planted(tmp_path / "s", "near", clips=24, feature="one", spoil=[each for each in every if each < "c0011"])
    write_planted(tmp_path / "s", "near", clips=24, feature="two", spoil=[each for each in every if each >= "c0011"])
    one, two = (LinearProbe().set_weights(np.ones(12), 0.0, (name,), (12,), {}) for name in ("one", "two"))
    with pytest.raises(ProbeError, match="near: there is no clip that both probes can score"):
        compare_probes(one, two, [tmp_path / "s"], ["near"])

"""One table of many fits, over stores written by the store's own writer."""

import csv
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from avfeat.errors import ProbeError, StoreError
from probes.cli import app
from probes.intervals import draws, spread
from probes.loading import Choice, Source
from probes.metrics import Ranking, area
from probes.rows_file import write_rows
from probes.study import Plan, fitter, run
from probes.subsets import fraction
from probes.sweep import sweep
from tests.ragged import write_planted

PLAN = Plan("near", (), tests=("near:test", "far"), metrics=("auc",), replicates=50, steps=30)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "store"
    for feature, strength in (("weak@3", 0.4), ("strong", 1.5)):
        write_planted(path, "near", clips=80, feature=feature, strength=strength)
        write_planted(path, "far", clips=40, seed=5, feature=feature, strength=strength)
    return path


def plan(**more):
    return Plan(**{**{name: getattr(PLAN, name) for name in PLAN.__dataclass_fields__}, **more})


def call(*arguments):
    return CliRunner().invoke(app, [str(each) for each in arguments])


def test_each_row_is_the_mean_of_single_fits_over_the_seeds(store):
    asked = plan(pools=("lse", "max"), weight_decays=(0.01, 0.1), seeds=(1, 2, 3), solver="adam", steps=2)
    rows = list(sweep([store], asked, [("weak@3",), ("weak@3", "strong")]))
    assert [(row.feature, row.pool, row.weight_decay) for row in rows] == [
        (feature, pool, decay)
        for feature in ("weak@3", "weak@3+strong")
        for pool in ("lse", "max")
        for decay in (0.01, 0.1)
    ]
    for row in (rows[1], rows[6]):
        singles = []
        for seed in (1, 2, 3):
            one = plan(
                features=tuple(row.feature.split("+")), pools=(row.pool,), weight_decays=(row.weight_decay,),
                seeds=(1, seed) if seed > 1 else (1,), solver="adam", steps=2,
            )  # fmt: skip
            singles.append(run([store], one).tests[1].spread[-1])
        found = row.measures["far"]["auc"]
        assert found.mean == pytest.approx(np.mean(singles))
        assert found.sd == pytest.approx(np.std(singles, ddof=1))
        assert found.low <= found.mean <= found.high


def test_of_a_share_each_seed_draws_its_own_clips(store):
    rows = list(sweep([store], plan(seeds=(1, 2), weight_decays=(0.01,)), [("weak@3",)], (0.25, 1.0)))
    assert [(row.share, row.clips) for row in rows] == [(0.25, 10), (1.0, 40)]
    source = Source([store], ["weak@3"])
    train, val, far = (source.load(Choice(*each)).data for each in (("near", "train"), ("near", "val"), ("far",)))
    singles, losses = [], []
    for seed in (1, 2):
        one = fitter(plan(features=("weak@3",), seeds=(seed,), weight_decays=(0.01,)))
        done = one(fraction(train, 0.25, seed), val, lambda progress: None)
        singles.append(area(Ranking(done.scores(far)[:, 0], far.labels).curve())[0])
        losses.append(done.fits[0]["loss"])
    assert rows[0].loss == pytest.approx(np.mean(losses))
    assert rows[0].measures["far"]["auc"].mean == pytest.approx(np.mean(singles))


def test_the_interval_of_a_mean_draws_the_same_clips_for_all_seeds():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 2
    scores = rng.normal(size=(60, 3)) + labels[:, None]
    found = spread(scores, labels, ["auc"], replicates=40, seed=2)["auc"]
    plain = []
    for weights in next(draws(60, None, 40, 2)):
        clips = np.repeat(np.arange(60), weights.astype(int))
        plain.append(np.mean([area(Ranking(column[clips], labels[clips]).curve())[0] for column in scores.T]))
    plain.append(found.mean)
    assert (found.low, found.high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])))


@pytest.mark.parametrize("suffix", [".csv", ".json", ".parquet"])
def test_the_table_is_printed_and_saved_with_the_same_numbers(store, tmp_path, suffix):
    out = tmp_path / "made" / f"sweep{suffix}"
    done = call(
        "sweep", store, "--manifest", "near", "--feature", "weak@3", "--feature", "strong+weak@3", "--seeds", 2,
        "--weight-decay", 0.01, "--fraction", 0.5, "--fraction", 1, "--test", "far", "--steps", 9, "-o", out,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    saved = {
        ".csv": lambda: list(csv.DictReader(out.open())),
        ".json": lambda: json.loads(out.read_text()),
        ".parquet": lambda: pq.read_table(out).to_pylist(),
    }[suffix]()
    printed = [line.split("|")[1:-1] for line in done.stdout.splitlines()]
    assert len(saved) == 4 == len(printed) - 2
    for row, cells in zip(saved, printed[2:], strict=True):
        assert cells[0].strip() == row["feature"]
        assert cells[-1].split()[0] == f"{float(row['far auc']):.4f}"
        assert cells[-1].split()[2] == f"{float(row['far auc sd']):.4f}"
    assert [line.split()[:4] for line in done.stderr.splitlines()][2] == ["2", "of", "2", "strong+weak@3"]
    assert list(out.parent.iterdir()) == [out]


def test_a_single_seed_has_no_spread_and_json_prints_what_is_saved(store, tmp_path):
    out = tmp_path / "sweep.json"
    done = call("sweep", store, "--manifest", "near", "--feature", "strong", "--steps", 9, "-o", out, "--json")
    assert json.loads(done.stdout) == json.loads(out.read_text())
    assert json.loads(done.stdout)[0]["near:test auc sd"] is None
    assert "±" not in call("sweep", store, "--manifest", "near", "--feature", "strong", "--steps", 9).stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--feature", "strong", "--fraction", "1.5"], "above 0 and at most 1, not 1.5"),
        (["--feature", "strong", "--feature", "strong+xlsr"], "no feature 'xlsr'; it has strong, weak@3"),
        (["--feature", "strong", "--pool", "median"], "no pooling 'median'"),
        (["--feature", "strong", "--metric", "f1"], "no metric 'f1'"),
        (["--feature", "strong", "--test", "favc"], "no manifest 'favc'"),
        (["--feature", "strong", "-o", "sweep.xlsx"], "sweep.xlsx: a table is written as .csv, .parquet, .json"),
        (["--feature", "strong", "--head", "forest"], "no head 'forest'"),
        (["--feature", "strong+weak@3", "--feature", "strong", "--head", "sync"], "sync reads 2 features, but 1 is"),
    ],
)
def test_what_cannot_be_swept_is_said_before_anything_is_fitted(store, arguments, sentence):
    done = call("sweep", store, "--manifest", "near", *arguments)
    assert done.exit_code == 1
    assert sentence in done.stderr
    assert done.stderr.strip().count("\n") == 0


def test_an_interrupted_sweep_keeps_the_rows_that_are_finished(store, tmp_path):
    out = tmp_path / "sweep.json"
    shares = [str(each) for k in range(1, 200) for each in ("--fraction", k / 200)]
    command = [
        sys.executable, "-m", "probes", "sweep", store, "--manifest", "near", "--feature", "strong", "--solver", "adam",
        "--seeds", "2", "--steps", "20", *shares, "-o", out,
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    ) as process:
        assert process.stderr is not None
        assert process.stderr.readline().startswith("1 of 1  strong  2 clips  2 probes in ")
        process.stderr.readline()
        process.send_signal(signal.SIGINT)
        printed, err = process.communicate(timeout=120)
    assert process.returncode == 1
    rows = json.loads(out.read_text())
    assert 2 <= len(rows) < 199
    assert f"Interrupted: {len(rows)} rows were finished." in err
    assert len(printed.splitlines()) == len(rows) + 2


def test_a_fit_that_is_interrupted_gives_no_row(store):
    told = []

    def tell(progress):
        told.append(progress)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        next(sweep([store], plan(), [("strong",)], tell=tell))
    assert len(told) == 3


def test_other_heads_are_fitted_once_for_each_seed(store):
    asked = plan(head="mlp", settings={"sizes": (8, 4), "epochs": 2, "pool": "max"}, seeds=(1, 2))
    (row,) = sweep([store], asked, [("strong",)])
    assert (row.head, row.pool, row.weight_decay, row.seeds) == ("mlp", "max", None, 2)
    singles = []
    for seed in (1, 2):
        one = plan(head="mlp", settings={**asked.settings, "seed": seed}, features=("strong",))
        singles.append(run([store], one).tests[1].measures["auc"].value)
    assert row.measures["far"]["auc"].mean == pytest.approx(np.mean(singles))
    assert singles[0] != singles[1]


def test_sets_on_disk_give_the_same_rows(store, monkeypatch, tmp_path):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    rows, limited = (
        list(sweep([store], plan(weight_decays=(0.01,), memory=memory), [("strong",)], (0.5, 1.0)))
        for memory in (None, "20KB")
    )
    for one, other in zip(rows, limited, strict=True):
        assert other.loss == pytest.approx(one.loss, rel=1e-5)
        assert other.measures["far"]["auc"].mean == pytest.approx(one.measures["far"]["auc"].mean)
    with pytest.raises(ProbeError, match="'lots' is no size"):
        next(sweep([store], plan(memory="lots"), [("strong",)]))


def test_rows_that_cannot_be_written_are_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ProbeError, match="cannot be written to"):
        write_rows(tmp_path / "file" / "sweep.csv", [{"a": 1}])


def test_a_manifest_that_is_not_there_is_refused(store):
    with pytest.raises(StoreError, match="no manifest 'favc'"):
        next(sweep([store], plan(manifest="favc"), [("strong",)]))

"""Where in a picture a score comes from, against clicks: errors, baselines, the curve, and the commands."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from faces import astronaut
from typer.testing import CliRunner

import avfeat
from avfeat.datasets import exddv
from avfeat.datasets.exddv import Annotation, Click
from avfeat.errors import ProbeError
from avfeat.manifest import DatasetInfo, Row
from avfeat.manifest_build import build
from avfeat.media import write_video
from avfeat.options import Options
from avfeat.patches import PatchMap
from avfeat.run import extract
from probes.cli import app
from probes.explain.clicks import (
    ClickError,
    Example,
    Failed,
    error,
    errors,
    frame_of,
    judge,
    mean_error,
    read_errors,
    write_errors,
)
from probes.explain.spatial import explainer
from probes.figures import figure4
from probes.figures.from_results import draw
from probes.heads.linear import LinearProbe
from probes.probe_file import load_probe
from probes.protocol import read_protocol
from probes.results import Cell, Results, probe_path
from tests.test_figures import words
from tests.tiny_models import tiny_clip

FACE = (0.5, 0.42)
"""Where the astronaut's face is, by eye."""


def map_of(values: list[list[float]], face: tuple[float, float] | None = None, score: float = 0.0) -> PatchMap:
    grid = np.array(values)
    way = np.array([[50.0, 0, 0], [0, 25.0, 0]])
    return PatchMap(3, 0.14, np.full((50, 100, 3), 128, np.uint8), score, grid, {"bias": 0.0}, grid[::-1], way, face)


def test_the_error_of_a_map_is_that_of_the_middle_of_its_highest_patch() -> None:
    found = errors(map_of([[0, 2], [1, 0]], face=(0.6, 0.2)), (0.7, 0.3))
    assert found["shares"] == pytest.approx((0.05 + 0.05) / 2)
    assert found["gradcam"] == pytest.approx((0.05 + 0.45) / 2)
    assert found["frame centre"] == pytest.approx((0.2 + 0.2) / 2)
    assert found["face centre"] == pytest.approx((0.1 + 0.1) / 2)
    assert errors(map_of([[0, 2], [1, 0]]), (0.7, 0.3))["face centre"] is None
    assert error((0.0, 1.0), (1.0, 0.0)) == 1.0


def made(clicks: int = 40) -> list[ClickError]:
    random = np.random.default_rng(0)
    found = []
    for k in range(clicks):
        sure = k / clicks
        own = {"shares": (1 - sure) / 4, "gradcam": 0.2, "frame centre": random.uniform(0.05, 0.3), "face centre": None}
        found.append(ClickError(f"clip {k // 4}", k, 0.5, random.uniform(), sure, own))
    return found


def test_the_mean_error_is_over_clicks_in_frames_that_are_fake_enough() -> None:
    judged = made()
    assert mean_error(judged, "shares") == (pytest.approx(np.mean([(1 - k / 40) / 4 for k in range(40)])), 40)
    assert mean_error(judged, "shares", 0.5) == (pytest.approx(np.mean([(1 - k / 40) / 4 for k in range(20, 40)])), 20)
    mae, clicks = mean_error(judged, "face centre")
    assert np.isnan(mae) and clicks == 0


def test_errors_are_read_as_they_were_written(tmp_path: Path) -> None:
    judged = made(8)
    write_errors(tmp_path / "new" / "clicks.csv", judged)
    again = read_errors(tmp_path / "new" / "clicks.csv")
    for one, other in zip(judged, again, strict=True):
        assert (one.clip_id, one.frame, one.errors["face centre"]) == (other.clip_id, other.frame, None)
        assert one.errors["shares"] == pytest.approx(other.errors["shares"], abs=1e-6)
    (tmp_path / "odd.csv").write_text("a\n1\n")
    with pytest.raises(ProbeError, match=r"odd\.csv does not hold the errors of clicks"):
        read_errors(tmp_path / "odd.csv")


@pytest.mark.parametrize(
    ("number", "fps", "frames", "right"),
    [(0, 25, 50, 0), (49, 25, 50, 49), (50, 25, 50, 49), (30, 30, 60, 25), (59, 30, 60, 49), (10, 12.5, 20, 20)],
)
def test_a_source_frame_is_seen_at_its_own_time(number: int, fps: float, frames: int, right: int) -> None:
    assert frame_of(number, fps, frames) == right


def test_the_figure_has_a_curve_for_each_method_and_the_frames_with_their_clicks(tmp_path: Path) -> None:
    example = Example("clip 9", map_of([[0.5, 2], [-1, 0]], score=0.4), (0.3, 0.3))
    png, svg, _ = figure4.draw(made(), tmp_path, examples=[example, example])
    shown = words(svg)
    assert {"patch shares", "GradCAM", "frame centre", "clip 9", "face centre"} <= set(shown)
    assert shown.count("published") == 2 and png.stat().st_size > 10_000
    rows = {row[0]: row[1:] for row in figure4.table(made())}
    assert rows["GradCAM"][:2] == ("0.200", "40") and rows["face centre"] == ("—", "0", "0.058")


# ---- videos in the layout of ExDDV, through the encoder that made a stored feature


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exddv")
    pictures = [np.roll(astronaut(), k, axis=1) for k in range(5)]
    (folder / "videos" / "BioDeepAV").mkdir(parents=True)
    for name in ("one.mp4", "two.mp4"):
        write_video(folder / "videos" / "BioDeepAV" / name, pictures, 25)
    clicks = {"2": {"x": FACE[0], "y": FACE[1]}, "0": {"x": 0.1, "y": 0.9}}
    with (folder / "videos" / "ExDDV.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(
            [
                "id",
                "username",
                "movie_name",
                "text",
                "dataset",
                "manipulation",
                "click_locations",
                "difficulty",
                "split",
            ]
        )
        for k, name in enumerate(("one.mp4", "two.mp4")):
            said = json.dumps(clicks if k == 0 else {"99": {"x": 0.5, "y": 0.5}})
            writer.writerow([k, "Annotator1", name, "the mouth", "BioDeepAV", "", said, 1, "test"])
    info = DatasetInfo("exddv", root=str(folder / "videos"))
    manifest = build(exddv.read(folder / "videos"), info).manifest
    manifest.write(folder / "exddv.parquet")
    tower = tiny_clip(folder / "clip", image_size=56)
    extract(manifest, folder / "videos", [f"hf:{tower}"], folder / "store", Options(device="cpu", workers=1))
    feature = avfeat.open_store(folder / "store")["exddv"]["clip"]
    weight = np.random.default_rng(3).standard_normal(32)
    probe = LinearProbe().set_weights(weight, 0.2, ("clip",), (32,), {})
    probe.save(folder / "probe.safetensors", {"attributes": {"clip": dict(feature.attributes)}})
    return folder


def call(*arguments: object) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["explain", *map(str, arguments)])
    return done.exit_code, done.output


def test_a_video_is_explained_at_its_highest_frame(root: Path, tmp_path: Path) -> None:
    video = root / "videos" / "BioDeepAV" / "one.mp4"
    out = tmp_path / "map.svg"
    code, said = call("spatial", root / "probe.safetensors", video, "-o", out, "--device", "cpu", "--json")
    assert code == 0, said
    (told,) = json.loads(said)
    assert told["patches"] + sum(told["rest"].values()) == pytest.approx(told["score"], abs=1e-4)
    assert np.shape(told["shares"]) == (4, 4) and {"one.mp4", "GradCAM"} <= set(words(out))
    code, said = call("spatial", root / "probe.safetensors", video, "-o", out, "--frame", 1, "--frame", 3)
    assert code == 0 and [line.split()[1] for line in said.splitlines()[:2]] == ["1", "3"]


def test_clicks_are_judged_frame_by_frame_and_a_click_beyond_the_end_fails_its_clip(root: Path, tmp_path: Path) -> None:
    code, said = call(
        "clicks",
        root / "probe.safetensors",
        root / "exddv.parquet",
        "--split",
        "test",
        "-o",
        tmp_path,
        "--device",
        "cpu",
    )
    assert code == 3, said
    assert "two.mp4: there is no frame 99" in said
    first, second = read_errors(tmp_path / "clicks.csv")
    assert (first.clip_id, first.frame, second.frame) == ("BioDeepAV/one", 0, 2)
    assert second.errors["frame centre"] == pytest.approx((0.0 + 0.08) / 2)
    face = second.errors["face centre"]
    assert face is not None and face < 0.06 < (first.errors["face centre"] or 0)
    assert (tmp_path / "figure4.pdf").is_file()
    assert all(f"\n{word}" in said for word in ("patch shares", "GradCAM", "frame centre", "face centre"))


PROTOCOL = """\
title: Where
shows: heat-maps
datasets: {exddv: {manifest: exddv, train: test, val: null}}
rows:
  - {name: Tiny CLIP, features: [clip]}
columns:
  - {name: home, title: ExDDV, train: exddv, test: exddv}
"""


def test_the_figure_of_a_protocol_judges_its_clicks_once(root: Path, tmp_path: Path) -> None:
    (tmp_path / "where.yaml").write_text(PROTOCOL)
    (key,) = avfeat.open_store(root / "store").keys()
    known = load_probe(root / "probe.safetensors")
    known.save(probe_path(tmp_path, "f", 43), {"attributes": known.facts_["attributes"]})
    cell = Cell(
        "where", "Tiny CLIP", "home", "done", inputs="d", seeds=(43,), fits=("f",), test="exddv:test", test_key=key
    )
    results, protocol = Results(tmp_path, (cell,)), read_protocol(tmp_path / "where.yaml")
    paths, _ = draw(protocol, results, [root / "store"], tmp_path / "figures")
    assert paths[0].name == "where-tiny-clip.png" and "BioDeepAV/one" in words(paths[1])
    (kept,) = (tmp_path / "clicks").glob("d-*.csv")
    first = paths[1].read_bytes()
    before = kept.stat().st_mtime_ns
    draw(protocol, results, [root / "store"], tmp_path / "figures")
    assert kept.stat().st_mtime_ns == before and paths[1].read_bytes() == first
    with pytest.raises(ProbeError, match=r"no dataset has clicks: exddv has no ExDDV\.csv in"):
        draw(protocol, results, [root / "store"], tmp_path / "figures", root=tmp_path)


def test_a_clip_without_a_frame_rate_or_without_its_file_fails_with_a_sentence(root: Path) -> None:
    taking = explainer(load_probe(root / "probe.safetensors"), options=Options(device="cpu"))
    said = {name: [Annotation((Click(0, 0.5, 0.5),), "", 1)] for name in ("a", "b")}
    rows = [Row("a", "a.mp4"), Row("b", "b.mp4", fps=25.0), Row("unclicked", "c.mp4")]
    found = list(judge(taking, rows, root, said))
    assert [type(each) for each in found] == [Failed, Failed]
    assert "does not say its frame rate" in found[0].detail and "b.mp4" in found[1].detail


def test_other_heads_and_joined_features_are_refused() -> None:
    two = LinearProbe().set_weights(np.zeros(5), 0.0, ("a", "b"), (2, 3), {})
    with pytest.raises(ProbeError, match="linear probe of one feature"):
        explainer(two)
    one = LinearProbe().set_weights(np.zeros(2), 0.0, ("a",), (2,), {})
    with pytest.raises(ProbeError, match="does not say how a was made"):
        explainer(one)

"""Frame scores against fake stretches: intervals against clips written out, and the right stretches for a probe."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from avfeat.errors import ProbeError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import write_feature
from probes.cli import app
from probes.frame_measures import by_rank, measure_probe, measure_tracks
from probes.heads.linear import LinearProbe
from probes.intervals import draws
from probes.loading import Choice, Source
from probes.localization import OVERLAPS, Track, ap_of_weightings, proposals, recall_of_weightings


def made_tracks(seed, clips=5):
    rng = np.random.default_rng(seed)
    tracks = []
    for _ in range(clips):
        starts = np.arange(rng.integers(0, 3)) * 1.2 + rng.uniform(0, 0.4)
        segments = [(start, start + rng.uniform(0.2, 0.7)) for start in starts.tolist()]
        track = Track(rng.normal(size=70).astype(np.float32), segments)
        tracks.append(Track(track.scores + 2 * track.labels().astype(np.float32), segments))
    return tracks


def plain_matches(own, segments, overlap):
    """Which proposals, surest first, are right: plain loops."""
    taken, right = set(), []
    for start, end, _ in own:
        shares = []
        for number, (a, b) in enumerate(segments):
            common = max(0.0, min(end, b) - max(start, a))
            if number not in taken:
                shares.append((common / (end - start + b - a - common), -number))
        best = max(shares, default=(0.0, 0))
        right.append(bool(shares) and best[0] >= overlap)
        if right[-1]:
            taken.add(-best[1])
    return right


def plain_ap(tracks, overlap):
    """Clips are simply listed as often as they were drawn."""
    rows = []
    for track in tracks:
        own = proposals(track)
        rows += zip(own[:, 2], plain_matches(own, track.segments, overlap), strict=True)
    rows.sort(key=lambda row: -row[0])
    precision = np.cumsum([hit for _, hit in rows]) / np.arange(1, len(rows) + 1)
    recalled = [precision[k:].max() for k, (_, hit) in enumerate(rows) if hit]
    return sum(recalled) / sum(len(track.segments) for track in tracks)


def plain_recall(tracks, count):
    found = [
        sum(plain_matches(proposals(track)[:count], track.segments, overlap))
        for track in tracks
        for overlap in OVERLAPS
    ]
    return sum(found) / sum(len(track.segments) for track in tracks) / len(OVERLAPS)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), overlap=st.sampled_from([0.3, 0.5, 0.75]), count=st.sampled_from([1, 3, 10]))
def test_ap_and_recall_equal_plain_loops_over_the_clips(seed, overlap, count):
    tracks = made_tracks(seed)
    if not any(track.segments for track in tracks):
        with pytest.raises(ProbeError, match="there are none"):
            ap_of_weightings(tracks, overlap)
        return
    ones = np.ones((1, len(tracks)))
    assert ap_of_weightings(tracks, overlap)(ones) == pytest.approx([plain_ap(tracks, overlap)])
    assert recall_of_weightings(tracks, count)(ones) == pytest.approx([plain_recall(tracks, count)])


def test_a_clip_that_is_drawn_twice_counts_as_two_clips():
    tracks = made_tracks(3)
    weights = np.array([[1.0, 0, 1, 1, 0], [0, 1, 1, 0, 1]])
    for overlap in (0.3, 0.5):
        plain = [plain_ap([t for t, w in zip(tracks, row, strict=True) if w], overlap) for row in weights]
        assert ap_of_weightings(tracks, overlap)(weights) == pytest.approx(plain)
        assert ap_of_weightings(tracks, overlap)(2 * weights) == pytest.approx(plain)
    assert recall_of_weightings(tracks, 5)(2 * weights) == pytest.approx(recall_of_weightings(tracks, 5)(weights))
    assert np.isnan(ap_of_weightings(tracks, 0.5)(np.zeros((1, 5)))).all()


def test_intervals_are_the_quantiles_of_clips_drawn_anew():
    tracks = [track for track in made_tracks(1, 12) if track.segments]
    found = measure_tracks(tracks, replicates=60, seed=4)
    micro, macro = [], []
    for weights in next(draws(len(tracks), None, 60, 4)):
        drawn = [track for track, times in zip(tracks, weights, strict=True) for _ in range(int(times))]
        labels, scores = [track.labels() for track in drawn], [track.scores for track in drawn]
        micro.append(roc_auc_score(np.concatenate(labels), np.concatenate(scores)))
        macro.append(np.mean([roc_auc_score(*pair) for pair in zip(labels, scores, strict=True)]))
    for name, plain in (("frame AUC", micro), ("frame AUC, mean of clips", macro)):
        plain.append(found[name].value)
        assert (found[name].low, found[name].high) == pytest.approx(tuple(np.quantile(plain, [0.025, 0.975])), rel=1e-6)
    assert list(found)[2:] == ["AP@0.5", "AP@0.75", "AP@0.95", "AR@10", "AR@20", "AR@50"]


def test_fakes_without_a_real_frame_have_no_frame_auc_but_can_be_located():
    tracks = [Track(np.full(20, 3, np.float32), [(0.0, 0.8)]), Track(np.full(20, -3, np.float32), [])]
    found = measure_tracks(tracks, replicates=10)
    assert "frame AUC" not in found
    assert found["AP@0.95"].value == 1.0


def test_ranks_keep_the_order_of_all_frames_and_ignore_their_scale():
    tracks = made_tracks(0)
    scaled = [Track(np.exp(4 * track.scores) - 9, track.segments) for track in tracks]
    for one, other in zip(by_rank(tracks), by_rank(scaled), strict=True):
        np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
    ranked = np.concatenate([track.scores for track in by_rank(tracks)])
    np.testing.assert_array_equal(np.argsort(ranked), np.argsort(np.concatenate([track.scores for track in tracks])))
    assert (1 / (1 + np.exp(-2 * ranked)) <= 0.25).mean() == pytest.approx(0.25, abs=0.01)


def write_forged(store, reads, columns=("segments", "audio_segments", "video_segments"), unknown=()):
    """Frames of fakes lean one way in their stretch: of sound and pictures from 0.4 s to 0.8 s, together to 1.2 s."""
    rng = np.random.default_rng(0)
    stretches = {"segments": [(0.4, 1.2)], "audio_segments": [(0.4, 0.8)], "video_segments": [(0.8, 1.2)]}
    rows, values = [], {}
    for k in range(24):
        fake, clip_id = k % 2, f"c{k:02}"
        told = {name: stretches[name] if fake else None for name in columns if k not in unknown}
        rows.append(Row(clip_id, f"{clip_id}.mp4", "test", fake, speaker=f"s{k % 5}", **told))
        frames = rng.normal(size=(50, 6))
        first, last = {"sound": (10, 20), "face": (20, 30)}.get("+".join(reads), (10, 30))
        frames[first:last, 0] += 4 * fake
        values[clip_id] = frames
    identity = {"reads": [{"kind": kind} for kind in reads]} if reads else {}
    manifest = Manifest.from_rows(rows, DatasetInfo("forged"))
    write_feature(store, manifest, "made", values, rate_hz=25.0, first_seconds=0.02, identity=identity)


def straight(width=6):
    return LinearProbe().set_weights(np.eye(width)[0], -9.0, ("made",), (width,), {})


def measured(store, **more):
    source = Source([store], ["made"])
    return measure_probe(straight(), source.load(Choice("forged", "test")), source.attributes("forged"), **more)


@pytest.mark.parametrize(
    ("reads", "column", "why"),
    [
        (["sound"], "audio_segments", "the probe reads sound only"),
        (["face"], "video_segments", "the probe reads pictures only"),
        (["sound", "mouth"], "segments", "the probe reads sound and pictures"),
        ([], "segments", "the features do not say what they read"),
    ],
)
def test_the_stretches_are_those_of_what_the_probe_reads(tmp_path, reads, column, why):
    write_forged(tmp_path / "s", reads)
    found = measured(tmp_path / "s", replicates=20)
    assert (found.column, found.why) == (column, why)
    assert str(found).startswith(f"24 clips, 12 of them with fake stretches, from {column} ({why})")
    assert found.measures["frame AUC"].value > 0.9
    assert found.measures["AR@50"].value > 0.5


def test_clips_of_which_nobody_says_where_they_are_fake_are_left_out(tmp_path):
    write_forged(tmp_path / "s", ["sound"], unknown=(1, 2, 3))
    found = measured(tmp_path / "s", groups=[f"s{k % 5}" for k in range(24)], replicates=20)
    assert (found.clips, found.fakes, found.unknown) == (22, 10, 2)
    assert "left out: 2 of which nobody says where they are fake" in str(found)


def test_a_manifest_without_stretches_of_the_sound_gives_those_of_the_clip_and_says_so(tmp_path):
    write_forged(tmp_path / "s", ["sound"], columns=("segments",))
    found = measured(tmp_path / "s", replicates=5)
    assert (found.column, found.why) == ("segments", "the probe reads sound only, but no clip has audio_segments")
    write_forged(tmp_path / "none", ["sound"], columns=())
    with pytest.raises(ProbeError, match="forged:test: no clip is known to have a fake stretch"):
        measured(tmp_path / "none")


def test_eval_says_which_stretches_it_used(tmp_path):
    write_forged(tmp_path / "s", ["sound"])
    straight().save(tmp_path / "probe.safetensors")
    command = ["eval", str(tmp_path / "probe.safetensors"), str(tmp_path / "s"), "--test", "forged:test", "--frames"]
    done = CliRunner().invoke(app, [*command, "--intervals-by", "speaker"])
    assert done.exit_code == 0, done.output
    assert "frames of forged:test: 24 clips, 12 of them with fake stretches, from audio_segments" in done.output
    facts = json.loads(CliRunner().invoke(app, [*command, "--json"]).stdout)["forged:test"]["frames"]
    assert facts["measures"]["AR@50"]["low"] <= facts["measures"]["AR@50"]["value"] <= 1

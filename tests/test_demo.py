"""The rendered datasets: what is said, how it looks, what is forged, what is written."""

from dataclasses import fields, replace

import numpy as np
import pytest

from avfeat.clip import Clip
from avfeat.datasets import csv
from avfeat.landmarks import Landmarker, find_model
from demo.cast import A, B
from demo.dataset import LABELS, METHODS, RELEASES, perform, pictures, plan, render
from demo.portrait import Look, Portrait
from demo.speech import CONTROL_HZ, RATE_HZ, Voice, speak

STILL = np.zeros(4)


def forged(release, method, whole):
    """The first forged clip of this kind."""
    return next(
        clip
        for clip in plan(release)
        if clip.method == method and (clip.segment[1] - clip.segment[0] > clip.seconds - 0.1) == whole
    )


def test_the_same_seed_says_the_same_and_another_seed_something_else():
    said, again, other = (speak(1.0, Voice(150), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert np.array_equal(said.sound, again.sound) and np.array_equal(said.opening, again.opening)
    assert not np.array_equal(said.sound, other.sound)


@pytest.mark.parametrize("pitch_hz", [110, 220])
def test_a_voice_speaks_at_its_pitch(pitch_hz):
    sound = speak(3.0, Voice(pitch_hz), np.random.default_rng(3)).sound
    frames = np.lib.stride_tricks.sliding_window_view(sound, 1024)[::512]
    loud = frames[np.square(frames).mean(1) > 0.3 * np.square(frames).mean(1).max()] * np.hanning(1024)
    spectrum = np.abs(np.fft.rfft(loud, 4096)) ** 2
    likeness = np.fft.irfft(spectrum)[:, RATE_HZ // 400 : RATE_HZ // 60].argmax(1) + RATE_HZ // 400
    assert np.median(RATE_HZ / likeness) == pytest.approx(pitch_hz, rel=0.2)


def test_the_mouth_is_shut_in_silence_and_opens_where_it_is_loud():
    said = speak(6.0, Voice(170), np.random.default_rng(5))
    loud = np.sqrt(np.square(said.sound).reshape(-1, RATE_HZ // CONTROL_HZ).mean(1))
    assert said.opening[loud < 1e-4].max() < 0.05
    assert said.opening.max() > 0.8
    assert np.corrcoef(loud, said.opening)[0, 1] > 0.5


@pytest.mark.parametrize("photograph", ["hopper", "astronaut"])
def test_an_open_mouth_darkens_the_lower_face_and_leaves_the_rest_alone(photograph):
    portrait = Portrait(Look(photograph, eye_distance_px=60), 256, 256)
    shut, ajar, wide = (portrait.picture(opening, 0, 0, 0, STILL).astype(int) for opening in (0, 0.4, 0.9))
    assert np.array_equal(shut[:110], wide[:110])
    lips = np.s_[145:185, 100:156]
    dark = [(picture[lips].max(-1) < 70).sum() for picture in (shut, ajar, wide)]
    assert dark[0] < dark[1] < dark[2] and dark[2] > dark[0] + 100


def test_a_blink_covers_the_dark_of_the_eyes_and_changes_nothing_else():
    portrait = Portrait(Look("astronaut", eye_distance_px=60), 256, 256)
    awake, shut = (portrait.picture(0.3, 0, 0, blink, STILL) for blink in (0, 1))
    changed = (awake != shut).any(-1)
    assert changed[80:120].any() and not changed[:80].any() and not changed[120:].any()
    assert changed.any(0)[:120].any() and changed.any(0)[136:].any() and not changed[:, 120:136].any()
    for eye in (np.s_[94:108, 88:104], np.s_[94:108, 150:168]):
        assert (shut[eye].max(-1) < 90).sum() < 0.5 * (awake[eye].max(-1) < 90).sum()


def test_a_mirrored_look_is_the_same_face_seen_in_a_mirror_but_forged_lips_sit_on_the_same_side():
    plain, mirrored = (Portrait(Look("hopper", mirrored=flip), 256, 288) for flip in (False, True))
    assert np.array_equal(plain.picture(0.5, 0.3, 0, 0, STILL), mirrored.picture(0.5, 0.3, 0, 0, STILL)[:, ::-1])
    assert not np.array_equal(plain.picture(0.5, 0.3, 1, 0, STILL), mirrored.picture(0.5, 0.3, 1, 0, STILL)[:, ::-1])


def test_a_sway_moves_the_whole_picture_by_its_pixels():
    portrait = Portrait(Look("hopper"), 256, 256)
    still, moved = (portrait.picture(0, 0, 0, 0, np.array(sway)) for sway in ([0.0] * 4, [3.0, -2.0, 0.0, 0.0]))
    assert np.abs(still[4:-4, 4:-4].astype(int) - moved[2:-6, 7:-1]).max() <= 1


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_a_release_holds_enough_clips_of_both_classes_by_speakers_of_one_split_only(release):
    clips = plan(release)
    assert len(clips) >= 40 and len({clip.path for clip in clips}) == len(clips)
    assert all(2 <= clip.seconds <= 4 for clip in clips)
    assert {clip.method for clip in clips} == {"", *METHODS}
    for split in ("train", "val", "test"):
        assert {bool(clip.method) for clip in clips if clip.speaker.split == split} == {True, False}
    assert len({(clip.speaker.name, clip.speaker.split) for clip in clips}) == len(release.cast)
    lengths = {clip.path: (clip.segment[1] - clip.segment[0]) / clip.seconds for clip in clips if clip.segment}
    assert min(lengths.values()) < 0.7 and max(lengths.values()) > 0.99
    assert all(0 <= clip.segment[0] < clip.segment[1] <= clip.seconds for clip in clips if clip.segment)


def test_no_speaker_and_no_look_is_in_both_releases():
    names, looks = zip(*[(who.name, who.look) for release in RELEASES for who in release.cast], strict=True)
    assert len(set(names)) == len(names) and len(set(looks)) == len(looks)


def test_only_the_forgeries_of_the_first_release_begin_with_digital_silence():
    for release in (A, B):
        for clip in plan(release)[::9]:
            sound = perform(clip).sound
            silent = np.argmax(sound != 0) / RATE_HZ
            assert (silent > 0.15) == (release is A and bool(clip.method))


@pytest.mark.parametrize("method", METHODS)
def test_a_forgery_leaves_what_lies_outside_its_segments_as_it_was(method):
    clip = replace(forged(B, method, whole=False), silence_seconds=0.0)
    take, real = perform(clip), perform(replace(clip, method="", segment=None))
    start, end = clip.segment
    times = np.arange(len(take.sound)) / RATE_HZ
    inside, outside = (times > start + 0.01) & (times < end - 0.01), (times < start - 0.01) | (times > end + 0.01)
    assert np.allclose(take.sound[outside], real.sound[outside], atol=1e-6)
    assert np.allclose(take.sound[inside], real.sound[inside], atol=1e-2) == (method == "mouth")
    shown = np.arange(len(take.opening)) / B.fps
    away = (shown < start - 0.1) | (shown > end + 0.1)
    assert np.array_equal(take.opening[away], real.opening[away]) and take.pasted[away].max() == 0
    assert np.array_equal(take.opening, real.opening) == (method == "sound")


def test_when_both_are_forged_the_lips_follow_the_forged_sound():
    def agreement(method):
        clip = forged(A, method, whole=True)
        take = perform(replace(clip, silence_seconds=0.0))
        sound = take.sound[: len(take.opening) * RATE_HZ // A.fps]
        loud = np.sqrt(np.square(sound).reshape(len(take.opening), -1).mean(1))
        return np.corrcoef(loud, take.opening)[0, 1]

    assert agreement("both") > 0.4 > agreement("mouth")


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: release.name)
def test_a_face_is_found_in_the_pictures_of_every_speaker(release):
    clips = {clip.speaker.name: clip for clip in plan(release)}
    shown = []
    for clip in clips.values():
        take = perform(clip)
        widest = slice(take.opening.argmax(), take.opening.argmax() + 1)
        tracks = {field.name: getattr(take, field.name)[widest] for field in fields(take) if field.name != "sound"}
        shown += pictures(clip, replace(take, **tracks))
    with Landmarker(find_model()) as landmarker:
        faces = landmarker.detect(np.stack(shown))
    assert [len(each) for each in faces] == [1] * len(release.cast)


def test_rendered_files_are_what_the_release_says_and_are_left_alone_the_second_time(tmp_path):
    small = [replace(release, cast=release.cast[:1], clips_per_speaker=2) for release in RELEASES]
    assert render(tmp_path / "data", small, workers=1)
    for release in small:
        rows = csv.read(tmp_path / "data" / release.name / LABELS).rows
        assert [(row.label, row.segments == []) for row in sorted(rows, key=lambda row: row.label)] == [
            (0, True),
            (1, False),
        ]
        for clip, row in zip(plan(release), rows, strict=True):
            with Clip(tmp_path / "data" / release.name / row.path, row.path) as file:
                shown = np.concatenate(list(file.blocks()))
                sound = file.sound()
            media = file.media
            size = (media.fps, media.width, media.height, media.audio_rate_hz)
            assert size == (release.fps, release.width_px, release.height_px, release.sound_rate_hz)
            assert len(shown) == pytest.approx(25 * clip.seconds, abs=1)
            assert (np.abs(sound[: RATE_HZ // 8]).max() < 5e-4) == (clip.silence_seconds > 0)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert not render(tmp_path / "data", small, workers=1)
    assert times == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    next((tmp_path / "data" / "demo-a").rglob("*.mp4")).write_bytes(b"half")
    assert render(tmp_path / "data", small, workers=1)

"""Which face is followed, how gaps are filled, how a track is stored."""

import math

import numpy as np
import pytest
from faces import face_at, points_at, track_of
from hypothesis import given, settings
from hypothesis import strategies as st

from avfeat.errors import NoFaceError, StoreError
from avfeat.landmarks import TRACK_WIDTH, Face, Track, choose_track, fill_gaps, shots

SIZE = (640, 480)


def _walk(frames: int, start: tuple[float, float], size: float, seed: int = 0) -> list[Face]:
    """Return one face in each frame, moving and growing by a little."""
    random = np.random.default_rng(seed)
    path = np.array(start) + np.cumsum(random.uniform(-0.05, 0.05, (frames, 2)) * size, axis=0)
    return [face_at(x, y, size * random.uniform(0.9, 1.1)) for x, y in path]


def _points(faces: list[Face]) -> np.ndarray:
    return np.stack([face.points for face in faces])


def _same(ours: Track, theirs: Track) -> bool:
    return all(
        np.array_equal(getattr(ours, name), getattr(theirs, name), equal_nan=True)
        for name in ("points", "blendshapes", "found", "faces")
    )


# Few different places and sizes, so that ties between faces are common: 116 is as far from 100 as from 132.
_FACES = st.lists(
    st.lists(
        st.builds(
            face_at, st.sampled_from([100.0, 116.0, 132.0, 400.0]), st.just(200.0), st.sampled_from([64.0, 80.0])
        ),
        max_size=3,
    ),
    max_size=30,
)


@settings(deadline=None)
@given(_FACES, st.randoms(use_true_random=False))
def test_the_order_of_faces_within_a_frame_never_matters(faces: list[list[Face]], random: object) -> None:
    shuffled = [random.sample(each, len(each)) for each in faces]  # type: ignore[attr-defined]
    assert _same(choose_track(faces, *SIZE), choose_track(shuffled, *SIZE))


@settings(deadline=None)
@given(
    st.integers(0, 10_000),
    st.sets(st.integers(1, 38), max_size=10),
    st.lists(
        st.tuples(st.booleans(), st.floats(0, 640) | st.floats(280, 320), st.floats(180, 220), st.floats(10, 60)),
        min_size=40,
        max_size=40,
    ),
)
def test_a_smaller_face_never_changes_the_followed_one(
    seed: int, missing: set[int], others: list[tuple[bool, float, float, float]]
) -> None:
    main = _walk(40, (300, 200), 120, seed)
    alone = [[] if frame in missing else [face] for frame, face in enumerate(main)]
    company = [[*faces, face_at(*other[1:])] if other[0] else faces for faces, other in zip(alone, others, strict=True)]
    ours, theirs = choose_track(company, *SIZE), choose_track(alone, *SIZE)
    np.testing.assert_array_equal(ours.points, theirs.points)
    np.testing.assert_array_equal(ours.found, [frame not in missing for frame in range(40)])


def test_two_faces_of_like_size_do_not_swap() -> None:
    left, right = _walk(100, (150, 200), 100, 1), _walk(100, (450, 200), 100, 2)
    track = choose_track([list(pair) for pair in zip(left, right, strict=True)], *SIZE)
    middles = track.points.mean(axis=(1, 2))
    assert np.abs(np.diff(middles)).max() < 20
    assert track.found.all() and (track.faces == 2).all()


def test_after_a_cut_the_next_face_is_followed_as_a_shot_of_its_own() -> None:
    first, second = _walk(30, (150, 200), 100), _walk(20, (450, 200), 60)
    track = choose_track([[face] for face in first + second], *SIZE)
    np.testing.assert_array_equal(track.points, _points(first + second))
    assert shots(track) == [slice(0, 30), slice(30, 50)]


def test_a_bystander_is_not_followed_when_the_followed_face_leaves() -> None:
    main, bystander = _walk(30, (150, 200), 100), _walk(60, (450, 200), 50)
    faces = [[main[frame], face] if frame < 30 else [face] for frame, face in enumerate(bystander)]
    track = choose_track(faces, *SIZE)
    assert track.found.tolist() == [True] * 30 + [False] * 30
    assert np.isnan(track.points[30:]).all()
    with pytest.raises(NoFaceError, match=r"^one: no face from 1.20 s to 2.40 s, more than the 0.5 s allowed"):
        fill_gaps(track, clip_id="one")


def test_a_lasting_face_outweighs_a_large_guest() -> None:
    lasting, guest = _walk(100, (150, 200), 60), _walk(10, (450, 200), 120)
    faces = [
        [face, *guest[frame - 40 : frame - 39]] if 40 <= frame < 50 else [face] for frame, face in enumerate(lasting)
    ]
    np.testing.assert_array_equal(choose_track(faces, *SIZE).points, _points(lasting))


def test_in_a_dissolve_the_heavier_face_keeps_the_shared_frames() -> None:
    first, second = _walk(40, (150, 200), 100), _walk(30, (450, 200), 100)
    faces = [[face] for face in first] + [[] for _ in range(20)]
    for frame, face in enumerate(second, start=30):
        faces[frame].append(face)
    np.testing.assert_array_equal(choose_track(faces, *SIZE).points, _points(first + second[10:]))


def test_a_face_that_flashes_up_while_nobody_is_there_is_not_followed() -> None:
    main = _walk(40, (150, 200), 100)
    faces = [[face] for face in main] + [[face_at(500, 100, 100)] if frame < 4 else [] for frame in range(20)]
    assert choose_track(faces, *SIZE).found.tolist() == [True] * 40 + [False] * 20


def test_a_clip_whose_only_face_flashes_up_follows_it() -> None:
    assert choose_track([[], [face_at(100, 100, 50)], []], *SIZE).found.tolist() == [False, True, False]


def test_a_face_may_come_back_within_half_a_second_and_stays_the_same_person() -> None:
    main = _walk(40, (150, 200), 100)
    gone = [[face] if not 10 <= frame < 22 else [] for frame, face in enumerate(main)]
    guest = [[*faces, face_at(450, 200, 90)] if 10 <= frame < 22 else faces for frame, faces in enumerate(gone)]
    assert not choose_track(guest, *SIZE).found[10:22].any()


def test_no_pictures_make_an_empty_track() -> None:
    track = choose_track([], *SIZE)
    assert track.points.shape == (0, 68, 2) and track.to_rows().shape == (0, TRACK_WIDTH)
    with pytest.raises(NoFaceError, match="no face was found in any of its 0 frames"):
        fill_gaps(track)


def _line(*places: float) -> Track:
    """Return a track of faces of 50 pixels at these x; nan is a frame without."""
    return track_of(np.stack([points_at(x, 100 + 0 * x, 50) for x in places]))


NONE = math.nan


def test_a_gap_is_filled_in_a_straight_line() -> None:
    filled = fill_gaps(_line(100, NONE, NONE, NONE, 108))
    np.testing.assert_allclose(
        filled.points.mean(axis=1)[:, 0] - points_at(0, 0, 50).mean(axis=0)[0], [100, 102, 104, 106, 108], atol=1e-3
    )
    assert filled.found.tolist() == [True, False, False, False, True]
    assert np.isfinite(filled.blendshapes).all()


def test_before_the_first_and_after_the_last_sighting_the_nearest_is_copied() -> None:
    filled = fill_gaps(_line(NONE, NONE, 100, 102, NONE))
    np.testing.assert_array_equal(filled.points, _line(100, 100, 100, 102, 102).points)


def test_a_gap_at_a_cut_is_filled_from_both_sides_and_never_in_between() -> None:
    filled = fill_gaps(_line(100, NONE, NONE, NONE, 300, 300))
    np.testing.assert_array_equal(filled.points, _line(100, 100, 100, 300, 300, 300).points)
    assert shots(filled) == [slice(0, 3), slice(3, 6)]


@pytest.mark.parametrize("where", ["start", "middle", "end"])
def test_half_a_second_is_filled_and_one_frame_more_is_an_error(where: str) -> None:
    def clip(missing: int) -> Track:
        gap, seen = [NONE] * missing, [100.0] * 5
        return _line(*{"start": gap + seen, "middle": seen + gap + seen, "end": seen + gap}[where])

    assert np.isfinite(fill_gaps(clip(12)).points).all()
    start = 0.0 if where == "start" else 0.2
    with pytest.raises(NoFaceError, match=f"the clip: no face from {start:.2f} s to {start + 0.52:.2f} s, "):
        fill_gaps(clip(13))
    assert np.isfinite(fill_gaps(clip(13), math.inf).points).all()


def test_more_stretches_without_a_face_are_counted() -> None:
    gap = [NONE] * 20
    with pytest.raises(NoFaceError, match=r"from 0\.00 s to 0\.80 s and in 2 more stretches"):
        fill_gaps(_line(*gap, 100, *gap, 100, *gap))


def test_a_clip_without_any_face_says_so() -> None:
    with pytest.raises(NoFaceError, match="a/b: no face was found in any of its 3 frames"):
        fill_gaps(_line(NONE, NONE, NONE), clip_id="a/b")


_GAPS = st.lists(st.booleans(), min_size=1, max_size=40).filter(any)


@given(_GAPS)
def test_filling_keeps_what_was_seen_and_does_nothing_the_second_time(seen: list[bool]) -> None:
    track = _line(*(100 + 2 * frame if here else NONE for frame, here in enumerate(seen)))
    once = fill_gaps(track, math.inf)
    assert _same(once, fill_gaps(once, math.inf))
    np.testing.assert_array_equal(once.points[seen], track.points[seen])
    assert np.isfinite(once.points).all()


@given(_GAPS, st.booleans())
def test_a_track_comes_back_from_its_rows_to_the_bit(seen: list[bool], filled: bool) -> None:
    track = _line(*(100 + math.pi * frame if here else NONE for frame, here in enumerate(seen)))
    track = fill_gaps(track, math.inf) if filled else track
    rows = track.to_rows()
    assert rows.dtype == np.float32 and rows.shape == (len(seen), TRACK_WIDTH) and np.isfinite(rows).all()
    again = Track.from_rows(rows, track.width_px, track.height_px)
    assert _same(again, track)
    assert (again.points.dtype, again.found.dtype, again.faces.dtype) == (np.float32, np.bool_, np.uint8)


def test_rows_of_another_width_are_refused() -> None:
    with pytest.raises(StoreError, match="rows of 190 numbers"):
        Track.from_rows(np.zeros((3, 136), np.float32), *SIZE)

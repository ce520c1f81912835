"""The slot rule and the line of sound as pure functions, against brute force."""

from fractions import Fraction
from math import floor

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from avfeat.clip_sound import SoundLine
from avfeat.slots import Slots, slot_of

SECONDS = st.builds(Fraction, st.integers(-400, 4000), st.sampled_from([25, 30, 90, 1000, 1001, 12800]))
STAMPS = st.lists(SECONDS, min_size=1, max_size=40).map(sorted)
HELD = st.builds(Fraction, st.integers(0, 200), st.just(100))


def frames_of(stamps: list[Fraction], end: Fraction) -> list[int]:
    """The picture that each frame shows, as ``Slots`` says."""
    slots: Slots[int] = Slots()
    runs = [slots.take(stamp, number) for number, stamp in enumerate(stamps)] + [slots.finish(end)]
    return [number for run in runs if run is not None for number in [run[0]] * run[1]]


@given(SECONDS)
def test_the_slot_is_the_nearest_frame_and_the_later_one_of_two(seconds: Fraction) -> None:
    slot = slot_of(seconds)
    assert -Fraction(1, 50) < Fraction(slot, 25) - seconds <= Fraction(1, 50)


@given(STAMPS, HELD)
def test_slots_equal_the_rule_word_for_word(stamps: list[Fraction], held: Fraction) -> None:
    end = stamps[-1] + held
    slots = [floor(25 * stamp + Fraction(1, 2)) for stamp in stamps]
    length = max(floor(25 * end + Fraction(1, 2)), 1)
    expected = [max([j for j, slot in enumerate(slots) if slot <= k], default=0) for k in range(length)]
    assert frames_of(stamps, end) == expected


@given(STAMPS, HELD)
def test_pictures_come_in_order_and_never_more_than_half_a_frame_early(stamps: list[Fraction], held: Fraction) -> None:
    shown = frames_of(stamps, stamps[-1] + held)
    assert shown == sorted(shown)
    for k, number in enumerate(shown):
        assert stamps[number] <= Fraction(k, 25) + Fraction(1, 50) or number == 0


def test_no_picture_gives_no_frame_and_the_shortest_picture_gives_one() -> None:
    assert Slots[int]().finish(Fraction(1)) is None
    assert frames_of([Fraction(0)], Fraction(1, 1000)) == [0]
    assert frames_of([Fraction(-3), Fraction(-2)], Fraction(-1)) == [1]


@given(st.lists(st.tuples(st.integers(-300, 2000), st.integers(0, 300)), min_size=1, max_size=12))
def test_stretches_of_sound_equal_writing_them_backwards_into_zeros(pieces: list[tuple[int, int]]) -> None:
    line = SoundLine()
    written: dict[int, int] = {}
    length = 0
    for number, (start, count) in enumerate(pieces, 1):
        line.begin(Fraction(start, 16_000))
        half = count // 2
        line.add(np.full(half, number, np.int16))
        line.add(np.full(count - half, number, np.int16))
        # What lies before the end of what is there already is cut, as is what lies before zero.
        written |= {k: number for k in range(max(start, length, 0), start + count)}
        length = max(length, start, start + count, 0)
    expected = np.array([written.get(k, 0) for k in range(length)])
    assert len(line) == length
    assert np.array_equal(line.samples() * 32768, expected)


@given(st.lists(st.integers(0, 50), max_size=6), st.integers(-5, 320))
def test_a_cut_leaves_exactly_what_lies_before_it(counts: list[int], end: int) -> None:
    whole = np.arange(sum(counts), dtype=np.int16)
    line = SoundLine()
    line.begin(Fraction(0))
    for piece in np.split(whole, np.cumsum(counts)):
        line.add(piece)
    line.cut(Fraction(end, 16_000))
    assert np.array_equal(line.samples() * 32768, whole[: max(end, 0)])
    assert len(line) == len(line.samples())


def test_loudest_samples_become_minus_one_and_just_below_one() -> None:
    line = SoundLine()
    line.begin(Fraction(0))
    line.add(np.array([-32768, 32767, 1], np.int16))
    samples = line.samples()
    assert samples.dtype == np.float32
    assert samples.tolist() == [-1.0, 32767 / 32768, 1 / 32768]

"""When a clip is truncated, and what its sentence says: by hand, for counts that no file has to have."""

from fractions import Fraction

import pytest

from avfeat.clip_facts import Count, verdict

FRAME = Fraction(1, 25)


def pictures(decoded: int = 100, **facts: object) -> Count:
    """Four seconds at 25 pictures a second, of which ``decoded`` came out."""
    given = {"announced": 100, "announced_end": Fraction(4), "step": FRAME, "packets": 100, "decoded": decoded}
    return Count(**(given | {"start": Fraction(0), "end": decoded * FRAME} | facts))  # type: ignore[arg-type]


def sound(end: float = 4, **facts: object) -> Count:
    """Four seconds in packets of 23 ms, of which the first ``end`` seconds came out."""
    given = {"announced_end": Fraction(4), "step": Fraction(23, 1000), "packets": 174, "decoded": 174}
    return Count(**(given | {"start": Fraction(0), "end": Fraction(end)} | facts))  # type: ignore[arg-type]


def test_a_whole_clip_is_done_without_a_word() -> None:
    assert verdict(pictures(), sound(), None, False) == ("done", "")
    assert verdict(pictures(), None, None, False) == ("done", "")
    assert verdict(None, None, None, True) == ("done", "")


def test_one_missing_picture_is_allowed_and_two_are_not() -> None:
    assert verdict(pictures(99), sound(), None, False) == ("done", "")
    assert verdict(pictures(98), sound(), None, False) == (
        "truncated",
        "announces 100 pictures, only 98 can be decoded up to 3.92 s of 4.00 s: the rest is not in the file.",
    )


def test_pictures_that_an_edit_list_hides_are_not_missing() -> None:
    assert verdict(pictures(61, discarded=39, end=Fraction(4)), None, None, False) == ("done", "")


def test_packets_that_show_nothing_are_missing_only_if_the_decoder_complained() -> None:
    silent = pictures(90, announced=None, end=Fraction(4))
    assert verdict(silent, None, None, False) == ("done", "")
    complained = pictures(90, announced=None, end=Fraction(4), failed=10)
    assert verdict(complained, None, None, False) == (
        "truncated",
        "announces 100 pictures, only 90 can be decoded: its data are damaged.",
    )


def test_damage_that_costs_nothing_leaves_a_clip_done_with_a_sentence() -> None:
    assert verdict(pictures(corrupt=1), sound(failed=2), None, False) == (
        "done",
        "has 1 damaged picture; has 2 damaged packets of sound.",
    )


@pytest.mark.parametrize(("end", "status"), [(3.95, "done"), (3.93, "truncated"), (4.5, "done")])
def test_sound_may_end_a_packet_early_but_not_sixty_milliseconds(end: float, status: str) -> None:
    assert verdict(pictures(), sound(end), None, False)[0] == status


def test_sound_that_cannot_be_decoded_is_counted_in_seconds() -> None:
    lost = sound(failed=28, lost_seconds=Fraction(65, 100))
    assert verdict(pictures(), lost, None, False) == (
        "truncated",
        "0.65 s of its sound cannot be decoded: its data are damaged.",
    )


def test_a_file_that_only_says_its_own_length_is_measured_by_its_longest_stream() -> None:
    bare = {"announced": None, "announced_end": None}
    longest = pictures(100, **bare), sound(3, announced_end=None)
    assert verdict(*longest, Fraction(4), False) == ("done", "")
    assert verdict(*longest, Fraction(10), False) == (
        "truncated",
        "announces 10.00 s and ends after 4.00 s: the rest is not in the file.",
    )
    assert verdict(*longest, None, True) == (
        "truncated",
        "ends after 4.00 s and does not say how long it was: the file is cut off.",
    )


def test_a_hole_in_one_stream_is_a_pause_and_one_in_both_at_once_is_a_loss() -> None:
    hole = [(Fraction(1), Fraction(2))]
    later = [(Fraction(1, 2), Fraction(1)), (Fraction(3, 2), Fraction(5, 2))]
    paused = sound(holes=hole)
    assert verdict(pictures(), paused, None, False) == ("done", "has no sound for 1.00 s in its middle.")
    assert verdict(pictures(holes=later), paused, None, False)[0] == "done"
    assert verdict(pictures(holes=[(Fraction(0), Fraction(9, 5))]), paused, None, False) == (
        "truncated",
        "lacks 0.80 s in its middle: the rest is not in the file.",
    )
    assert verdict(pictures(holes=later, corrupt_packets=1), sound(), None, False) == (
        "truncated",
        "lacks 1.50 s in its middle: its data are damaged.",
    )


def test_a_clock_that_jumps_and_pictures_that_go_back_are_said() -> None:
    jumped = pictures(50, jump=(Fraction(2), Fraction(9000)))
    assert verdict(jumped, None, None, False)[1].startswith(
        "the clock of its pictures jumps from 2.00 s to 9000.00 s, nothing later can be placed"
    )
    assert verdict(pictures(misplaced=1), None, None, False) == ("done", "")
    assert verdict(pictures(misplaced=2), None, None, False)[1].startswith("2 of its pictures go back in time")

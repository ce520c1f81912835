import pytest
from hypothesis import given
from hypothesis import strategies as st

from avfeat.errors import AvfeatError
from avfeat.plan import LARGEST_PART, SMALLEST_PART, Shard, choose, cut, part_size


@given(st.integers(0, 400), st.integers(1, 60))
def test_parts_hold_every_clip_once_and_in_order(clips: int, part_clips: int) -> None:
    clip_ids = [f"{number:04}" for number in range(clips)]
    parts = cut(clip_ids, part_clips)
    assert [clip_id for part in parts for clip_id in part.clip_ids] == clip_ids
    assert [part.number for part in parts] == list(range(len(parts)))
    assert all(len(part.clip_ids) == part_clips for part in parts[:-1])


@given(st.integers(1, 400), st.integers(1, 9))
def test_shards_share_the_parts_without_overlap(clips: int, count: int) -> None:
    parts = cut([f"{number:04}" for number in range(clips)], 7)
    shares = [choose(parts, Shard(index, count), None) for index in range(count)]
    assert sorted(part.number for share in shares for part in share) == [part.number for part in parts]


@given(st.integers(1, 200))
def test_a_limit_takes_the_fewest_whole_parts_that_hold_so_many_clips(limit: int) -> None:
    parts = cut([f"{number:04}" for number in range(200)], 16)
    held = sum(len(part.clip_ids) for part in choose(parts, Shard(), limit))
    assert limit <= held < limit + 16


@pytest.mark.parametrize("text", ["", "1", "3/3", "-1/4", "1/0", "a/b"])
def test_a_shard_of_another_form_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(AvfeatError, match="0/8"):
        Shard.parse(text)


def test_parts_grow_with_the_manifest_within_their_bounds() -> None:
    assert part_size(84) == SMALLEST_PART
    assert part_size(6_400) == 100
    assert part_size(1_000_000) == LARGEST_PART

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from avfeat.errors import ProbeError
from probes.pooling import Pooling, pool_columns
from probes.ragged import PADDED_LIMIT, cut

NAMES = ["lse", "lse:0.5", "lse-mean", "lse-mean:2", "max", "mean", "min", "top:3"]


def plainly(name, z):
    """The formulas of one clip, z float64 [frames]."""
    kind, _, number = name.partition(":")
    t = float(number or 1)
    if kind == "top":
        return torch.sort(z, descending=True).values[: int(t)].mean()
    return {
        "lse": lambda: t * torch.log(torch.exp(z / t).sum()),
        "lse-mean": lambda: t * torch.log(torch.exp(z / t).mean()),
        "max": lambda: z.max(),
        "mean": lambda: z.mean(),
        "min": lambda: z.min(),
    }[kind]()


def ragged(lengths, probes=3, seed=0):
    rows = torch.randn(sum(lengths), probes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return rows, torch.tensor([0, *np.cumsum(lengths)])


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=12))
def test_pooling_a_ragged_set_equals_pooling_each_clip_alone(name, lengths):
    rows, offsets = ragged(lengths)
    rows.requires_grad_()
    plain = torch.stack(
        [torch.stack([plainly(name, rows[a:b, k]) for k in range(rows.shape[1])]) for a, b in pairwise(offsets)]
    )
    (slopes,) = torch.autograd.grad(plain.sum(), rows)
    (span,) = cut(offsets, 1000)
    scores, shares = Pooling.parse(name).pool(span.lay_out(rows.detach()), span.lengths)
    torch.testing.assert_close(scores, plain.detach())
    torch.testing.assert_close(span.gather(shares), slopes)


@pytest.mark.parametrize("name", NAMES)
def test_shares_of_a_clip_sum_to_one_and_padding_has_none(name):
    rows, offsets = ragged([1, 7, 3])
    (span,) = cut(offsets, 1000)
    _, shares = Pooling.parse(name).pool(span.lay_out(rows), span.lengths)
    torch.testing.assert_close(shares.sum(1), torch.ones(3, 3, dtype=torch.float64))
    assert not shares[0, 1:].any() and not shares[2, 3:].any()


def test_log_sum_exp_holds_for_scores_that_would_overflow():
    grid = torch.tensor([[[1000.0], [999.0]], [[-1000.0], [-torch.inf]]])
    scores, _ = Pooling("lse").pool(grid, torch.tensor([2, 1]))
    assert scores[0, 0] == pytest.approx(1000 + np.log(1 + np.exp(-1)))
    assert scores[1, 0] == -1000


def test_each_column_has_its_own_pooling():
    rows, offsets = ragged([4, 2], probes=3)
    (span,) = cut(offsets, 100)
    grid = span.lay_out(rows)
    pools = (Pooling("max"), Pooling("mean"), Pooling("max"))
    scores, shares = pool_columns(grid, span.lengths, pools)
    for k, pool in enumerate(pools):
        alone, share = pool.pool(grid[:, :, k : k + 1], span.lengths)
        assert torch.equal(scores[:, k], alone[:, 0])
        assert torch.equal(shares[:, :, k], share[:, :, 0])


@pytest.mark.parametrize("text", ["lse", "lse:0.5", "lse-mean:2", "top:5", "top:1", "min"])
def test_a_pooling_is_written_as_it_is_read(text):
    assert str(Pooling.parse(text)) == text


@pytest.mark.parametrize("text", ["median", "top", "top:1.5", "top:0", "lse:-1", "lse:inf", "lse:x", "max:2", ""])
def test_a_wrong_pooling_is_refused_with_what_there_is(text):
    with pytest.raises(ProbeError, match=r"lse-mean|number after the colon"):
        Pooling.parse(text)


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(1, 30), min_size=1, max_size=30), rows=st.integers(1, 60))
def test_spans_cover_every_row_once_and_keep_to_their_size(lengths, rows):
    spans = cut(torch.tensor([0, *np.cumsum(lengths)]), rows)
    assert [row for span in spans for row in range(span.start, span.stop)] == list(range(sum(lengths)))
    assert [clip for span in spans for clip in range(span.first, span.last)] == list(range(len(lengths)))
    for span in spans:
        alone = span.last - span.first == 1
        assert alone or span.rows <= rows
        assert alone or len(span.grid) <= PADDED_LIMIT * rows
        values = torch.arange(span.rows, dtype=torch.float64)[:, None]
        assert torch.equal(span.gather(span.lay_out(values)), values)

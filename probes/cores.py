"""Work for several cores: one thread for each piece, each piece on one core.

Threads within one operation must meet at its end. For operations as small as ours that costs as much as the operation,
and a hundred times that when another program has one of the cores; pieces of work meet once, when all is done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TypeVar

import torch

Piece = TypeVar("Piece")
Result = TypeVar("Result")

MOST = 8
"""Beyond these the memory is the limit, and the interpreter that all threads share."""


def pieces(device: torch.device) -> int:
    """Return into how many pieces work on ``device`` should be cut."""
    return 1 if device.type == "cuda" else min(torch.get_num_threads(), MOST)


def spread(work: Callable[[Piece], Result], items: Sequence[Piece]) -> list[Result]:
    """Do the work for all pieces at once, without gradients, and return the results in their order."""

    def quietly(piece: Piece) -> Result:
        torch.set_num_threads(1)  # here too: what a thread says of its own products, a new thread does not know
        with torch.inference_mode():
            return work(piece)

    with one_thread_each():
        if len(items) == 1:
            return [quietly(items[0])]
        with ThreadPoolExecutor(len(items)) as pool:
            return list(pool.map(quietly, items))


@contextmanager
def one_thread_each() -> Iterator[None]:
    """Let each thread compute alone: one that has helped goes on to keep its core busy, waiting for more work."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)

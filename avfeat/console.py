"""What all commands share: errors become one line and an exit code, results become aligned columns."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from avfeat.errors import AvfeatError


@contextmanager
def errors_to_exit() -> Iterator[None]:
    """Print an AvfeatError as one line on stderr, ``ManifestError: …``, and exit with 1; also a decorator."""
    try:
        yield
    except AvfeatError as error:
        sentence = " ".join(line.strip() for line in str(error).splitlines())
        print(f"{type(error).__name__}: {sentence}", file=sys.stderr)
        raise SystemExit(1) from None


def align(rows: Sequence[Sequence[object]]) -> str:
    """Return the cells in columns that are two spaces apart; numbers end, and all else begins, on one line."""
    texts = [[f"{cell:,}".replace(",", " ") if isinstance(cell, int) else str(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    lines = [
        "  ".join(
            text.rjust(width) if isinstance(cell, int | float) else text.ljust(width)
            for cell, text, width in zip(row, line, widths, strict=True)
        )
        for row, line in zip(rows, texts, strict=True)
    ]
    return "\n".join(line.rstrip() for line in lines)

"""Rows of plain values as one file, in the form that its suffix names."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from avfeat.errors import ProbeError

Rows = Sequence[Mapping[str, Any]]


def write_rows(path: Path, rows: Rows) -> None:
    """Write rows that have the same columns; whole or not at all, in place of what was there; makes the folder.

    Raises:
        ProbeError: another suffix than .csv, .parquet and .json, or the file cannot be written.
    """
    check_suffix(path)
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(_FORMS[path.suffix](rows))
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ProbeError(f"The table cannot be written to {path}: {error.strerror}.") from error


def check_suffix(path: Path) -> None:
    """Refuse a file whose form is not known.

    Raises:
        ProbeError: another suffix than .csv, .parquet and .json.
    """
    if path.suffix not in _FORMS:
        raise ProbeError(f"{path}: a table is written as {', '.join(_FORMS)}; end the file's name with one of these.")


def _csv(rows: Rows) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _parquet(rows: Rows) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    buffer = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), buffer)
    written: bytes = buffer.getvalue().to_pybytes()
    return written


def _json(rows: Rows) -> bytes:
    return (json.dumps(list(rows), indent=2) + "\n").encode()


_FORMS: dict[str, Callable[[Rows], bytes]] = {".csv": _csv, ".parquet": _parquet, ".json": _json}

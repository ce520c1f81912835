"""The paper's numbers, for side by side: manifests/published/*.csv, in percent."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path

from avfeat.errors import ProtocolError
from probes.protocol import Protocol


def published(protocol: Protocol) -> Mapping[tuple[str, str], float]:
    """Return the published numbers of a protocol by (row, column), in percent; empty when it names none.

    The file's first column names rows, its head names columns, both as the protocol does; other columns are left
    alone, and empty cells were not published.

    Raises:
        ProtocolError: a cell of one of the protocol's columns is not a number.
    """
    path = protocol.published_path
    if path is None:
        return {}
    names = {column.name for column in protocol.columns}
    found = {}
    for number, line in enumerate(_lines(path), 2):
        row = next(iter(line.values()))
        for column in names & line.keys():
            if line[column]:
                found[row, column] = _number(line[column], f"{path}:{number}")
    return found


def _lines(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ProtocolError(f"{where}: a number in percent is needed here, not {text!r}.") from None

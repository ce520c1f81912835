"""A probe on disk: one safetensors file, tensors and a page of JSON beside them."""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from avfeat.errors import ProbeError
from probes.heads import HEADS, Head, head_class

FORMAT = "1"


def write_probe(path: Path, head: str, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    """Write the file, whole or not at all: beside its place first, then renamed; makes the folder if needed.

    Raises:
        ProbeError: the file cannot be written there.
    """
    path = Path(path)
    notes = {"format": FORMAT, "head": head, "facts": json.dumps(facts, allow_nan=False, sort_keys=True)}
    beside = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with beside.open("xb") as file:
                file.write(save({name: np.ascontiguousarray(value) for name, value in tensors.items()}, notes))
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        finally:
            beside.unlink(missing_ok=True)
    except OSError as error:
        raise ProbeError(f"The probe cannot be written to {path}: {error.strerror}.") from error


def read_probe(path: Path) -> tuple[str, dict[str, NDArray[Any]], dict[str, Any]]:
    """Return the head's name, its tensors and its facts.

    Raises:
        ProbeError: the file is missing, no probe, or of another format.
    """
    if not Path(path).is_file():
        raise ProbeError(f"{path} does not exist; probes fit makes a probe.")
    try:
        with safe_open(path, "numpy") as file:
            notes = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise ProbeError(f"{path} is not a probe: {error}.") from error
    if notes.get("format") != FORMAT or notes.get("head") not in HEADS:
        raise ProbeError(
            f"{path} is not a probe of format {FORMAT} with a known head ({', '.join(HEADS)}); "
            f"found format {notes.get('format')}, head {notes.get('head')}."
        )
    return notes["head"], tensors, json.loads(notes["facts"])


def load_probe(path: Path) -> Head:
    """Return the head that a file holds, ready to score.

    Raises:
        ProbeError: as ``read_probe``.
    """
    head, tensors, facts = read_probe(path)
    return head_class(head).from_file(tensors, facts)

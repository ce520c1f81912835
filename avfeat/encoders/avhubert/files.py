"""The weight files of AV-HuBERT on this machine: fetched, converted, checked against their hashes."""

from __future__ import annotations

from pathlib import Path

from avfeat.encoders.avhubert.loading import convert, read_converted
from avfeat.encoders.avhubert.published import Published
from avfeat.errors import WeightsError
from avfeat.weights import fetch, sha256_of


def get(published: Published) -> Path:
    """Return the converted tensors of a published file, fetched and converted if they are not there yet.

    Raises:
        WeightsError: it cannot be fetched (the message says which file to put where), or is not what it should be.
    """
    if not published.converted.is_file():
        name = f"avhubert/{published.file.name}"
        official = fetch(name, [published.file.address], published.file.sha256)
        convert(official, published.converted, published)
    return published.converted


def check(published: Published) -> list[str]:
    """Return a sentence for each file of an encoder that is on this machine, hashed anew and read whole.

    Raises:
        WeightsError: a file is not what it should be, or was when it was first used.
    """
    found, known = [], published.file.sha256
    if published.converted.is_file():
        weights = read_converted(published.converted, anew=True)
        known = known or weights.origin["sha256"]
        found.append(f"{published.converted}: {len(weights.tensors)} tensors from {published.file.name}, as written")
    if published.official.is_file():
        sha256 = sha256_of(published.official)
        if known and known != sha256:
            raise WeightsError(f"{published.official} has sha256 {sha256}; it should have {known}. Fetch it again.")
        found.append(f"{published.official}: sha256 {sha256}, {'as it should be' if known else 'not used yet'}")
    return found

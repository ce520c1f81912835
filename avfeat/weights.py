"""Weight files: where they are kept, fetching and checking them, reading tensors. Nothing in a file ever runs."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from avfeat.errors import WeightsError

if TYPE_CHECKING:
    import torch

CACHE_VARIABLE = "AVFEAT_CACHE"
"""Environment variable that names the cache folder."""

_TIMEOUT_SECONDS = 30
_COPY_BYTES = 1 << 20


def cache_dir() -> Path:
    """Return the user's folder for fetched files: AVFEAT_CACHE, else XDG_CACHE_HOME/avfeat, else ~/.cache/avfeat.

    The folder may not exist yet.
    """
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named).expanduser()
    if shared := os.environ.get("XDG_CACHE_HOME"):
        return Path(shared).expanduser() / "avfeat"
    return Path.home() / ".cache" / "avfeat"


def sha256_of(path: Path) -> str:
    """Return the sha256 of a file's content, 64 hex digits.

    Raises:
        WeightsError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error}).") from error


def recorded_sha256(path: Path, pin: str = "") -> str:
    """Return the sha256 of a weight file, hashing it only when it is new or was touched since it was last hashed.

    Args:
        path: the file.
        pin: a name such as ``openai--clip/<commit>/model.safetensors`` for content that must never change. The first
            use records its hash in the cache; from then on a file with another hash is refused.

    Raises:
        WeightsError: the file cannot be read, or is not the one recorded under ``pin``; or the cache cannot be
            written.
    """
    real = path.resolve()
    key = pin or str(real)
    record = cache_dir() / "sha256" / f"{hashlib.sha256(key.encode()).hexdigest()[:32]}.json"
    try:
        facts = real.stat()
    except OSError as error:
        raise WeightsError(f"{path} cannot be read ({error}).") from error
    seen = {"of": key, "path": str(real), "size": facts.st_size, "mtime_ns": facts.st_mtime_ns}
    known = _read_record(record)
    if known and {name: known.get(name) for name in seen} == seen:
        return str(known["sha256"])
    found = sha256_of(real)
    if pin and known and known.get("sha256") != found:
        raise WeightsError(
            f"{path} has changed: its sha256 was {known.get('sha256')} when it was first used and is {found} now. "
            f"Fetch it again, or delete {record} if the change is meant."
        )
    with written(record) as file:
        file.write(json.dumps(seen | {"sha256": found}).encode())
    return found


def fetch(name: str, addresses: Sequence[str], sha256: str) -> Path:
    """Return the file ``name`` of the cache, checked; download it first if it is not there.

    Args:
        name: relative to the cache folder.
        addresses: URLs that serve the same file; tried in this order.
        sha256: 64 hex digits of the right content; empty where none is published: then only the length is checked,
            and the caller sees to it that the content makes sense and is recorded.

    Raises:
        WeightsError: no address gave the right file; says why for each, and which file to put where.
    """
    path = cache_dir() / name
    if path.is_file() and (not sha256 or recorded_sha256(path) == sha256):
        return path
    reasons = []
    for address in addresses:
        try:
            _download(address, path, sha256)
            return path
        except (OSError, http.client.HTTPException, ValueError, _WrongContentError) as error:
            reasons.append(f"{address}: {error}")
    raise WeightsError(
        f"{name} is not on this machine and could not be fetched ({'; '.join(reasons) or 'no address is known'}): "
        f"put the file{f' with sha256 {sha256}' if sha256 else ''} at {path}."
    )


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """Return all tensors of a safetensors file, on the CPU, in the dtype that the file has.

    Raises:
        WeightsError: the file is missing, or is not a whole safetensors file.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise WeightsError(f"{path} cannot be read as safetensors ({error}).") from error


class _WrongContentError(Exception):
    """An address served another file."""


def _download(address: str, path: Path, sha256: str) -> None:
    digest, received = hashlib.sha256(), 0
    with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer, written(path) as file:
        while block := answer.read(_COPY_BYTES):
            digest.update(block)
            received += file.write(block)
        announced = answer.headers.get("Content-Length", received)
        if int(announced) != received:
            raise _WrongContentError(f"it gave {received} bytes of {announced}")
        if sha256 and digest.hexdigest() != sha256:
            raise _WrongContentError(f"it serves a file with sha256 {digest.hexdigest()}")


def _read_record(record: Path) -> dict[str, object] | None:
    try:
        content = json.loads(record.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{record} cannot be read ({error}): delete it.") from error
    return content if isinstance(content, dict) else None


@contextmanager
def written(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write beside ``path``, in the cache, and move it there when all went well: whole or not at all.

    Several processes may do so at the same time.

    Raises:
        WeightsError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    except OSError as error:
        raise WeightsError(
            f"the cache folder {path.parent} cannot be written ({error}): name another in {CACHE_VARIABLE}."
        ) from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

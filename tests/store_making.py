"""Small stores for tests: clips of known rows, and writers that run in processes of their own."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from avfeat import store_part, store_write
from avfeat.errors import ClipError, NoFaceError, StoreError
from avfeat.manifest import DatasetInfo, Manifest, Row
from avfeat.store import Feature, open_store
from avfeat.store_layout import Form

WIDTH = 6
PART_CLIPS = 3
CHUNK_ROWS = 4
SHARD_ROWS = 16
FEATURE = "logmel"


def manifest_of(clips: int, name: str = "tiny") -> Manifest:
    """Clips c000, c001, ..."""
    ids = [f"c{number:03}" for number in range(clips)]
    return Manifest.from_rows([Row(clip_id, f"{clip_id}.mp4") for clip_id in ids], DatasetInfo(name))


def rows_of(clip_id: str, length: int | None = None, width: int = WIDTH) -> NDArray[np.float32]:
    """The rows of a clip, the same in every process; 0 to 40 of them when nobody says how many."""
    random = np.random.default_rng(zlib.crc32(clip_id.encode()))
    rows = int(random.integers(0, 41)) if length is None else length
    return random.standard_normal((rows, width)).astype(np.float32)


def all_rows(manifest: Manifest) -> dict[str, NDArray[Any] | ClipError]:
    """Rows for every clip, but every seventh has none."""
    return {
        clip_id: NoFaceError(f"{clip_id}: no face.") if number % 7 == 5 else rows_of(clip_id)
        for number, clip_id in enumerate(manifest.clip_ids)
    }


def write(
    store: Path, manifest: Manifest, rows: dict[str, NDArray[Any] | ClipError] | None = None, **more: Any
) -> None:
    """Write FEATURE with small parts, chunks and shards."""
    form = {"part_clips": PART_CLIPS, "chunk_rows": CHUNK_ROWS, "shard_rows": SHARD_ROWS}
    settings: dict[str, Any] = {"rate_hz": 25.0, "first_seconds": 0.02, **form, **more}
    store_write.write_feature(store, manifest, FEATURE, all_rows(manifest) if rows is None else rows, **settings)


def feature_of(store: Path) -> Feature:
    """Open the only manifest's FEATURE."""
    opened = open_store(store)
    return opened[opened.keys()[0]][FEATURE]


def assert_same(store: Path, other: Path) -> None:
    """Every clip has the same bytes and the same index row in both stores."""
    one, two = feature_of(store), feature_of(other)
    assert one.index().equals(two.index())
    for clip_id, status in zip(one.index()["clip_id"].to_pylist(), one.index()["status"].to_pylist(), strict=True):
        if status != "failed":
            assert one.clip(clip_id).tobytes() == two.clip(clip_id).tobytes()


def process(target: Callable[..., None], *arguments: object) -> tuple[BaseProcess, Connection]:
    """Start ``target(connection, *arguments)`` in a fresh process, and return it with our end of the connection."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["pytest", "zarr", "zarr.codecs", "avfeat.store"])
    ours, theirs = context.Pipe()
    started = context.Process(target=target, args=(theirs, *arguments), daemon=True)
    started.start()
    theirs.close()
    return started, ours


def write_all(connection: Connection, store: Path, clips: int) -> None:
    """Say that we begin, write the whole feature, say that it is done."""
    connection.send("begun")
    write(store, manifest_of(clips))
    connection.send("done")


def write_part(connection: Connection, feature: Path, clip_ids: Sequence[str], stop: str) -> None:
    """Write part 0, standing still once on the way; send ``commit``'s answer, or the error.

    stop: ``rename`` just before the part's one rename, ``middle`` between two clips, ``start`` when told "go".
    """
    form = Form.of(WIDTH, chunk_rows=CHUNK_ROWS, shard_rows=SHARD_ROWS)
    if stop == "rename":
        rename = store_part.commit_folder

        def stalled(private: Path, final: Path) -> bool:
            _stand_still(connection)
            return rename(private, final)

        store_part.commit_folder = stalled
    try:
        with store_part.PartWriter(feature, form, 0.02, 0, 0, clip_ids) as writer:
            for number, clip_id in enumerate(clip_ids):
                if stop == "middle" and number == len(clip_ids) - 1:
                    _stand_still(connection)
                writer.add(clip_id, rows_of(clip_id, 20), {})
            if stop == "start":
                connection.send("ready")
                connection.recv()
            connection.send(writer.commit())
    except StoreError as error:
        connection.send(str(error))


def ensure_group_stalling(connection: Connection, store: Path, clips: int, part_clips: int) -> None:
    """Make the group of a manifest, standing still just before its rename; send the error."""
    rename = store_write.commit_folder

    def stalled(private: Path, final: Path) -> bool:
        _stand_still(connection)
        return rename(private, final)

    store_write.commit_folder = stalled
    try:
        store_write.ensure_group(store, manifest_of(clips), part_clips)
    except StoreError as error:
        connection.send(str(error))


def _stand_still(connection: Connection) -> None:
    connection.send("still")
    os.kill(os.getpid(), signal.SIGSTOP)


def wake(stopped: BaseProcess, connection: Connection) -> object:
    """Let a process that stands still go on, and return the next thing it says."""
    while not connection.poll(0.02):
        os.kill(stopped.pid or 0, signal.SIGCONT)
    answer = connection.recv()
    stopped.join()
    return answer


@contextmanager
def memory_disk() -> Iterator[Path]:
    """A folder in memory where there is one: fsync costs nothing there, so that many small parts are quick."""
    shm = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shm if shm.is_dir() and os.access(shm, os.W_OK) else None) as folder:
        yield Path(folder)

import hashlib
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from avfeat import weights
from avfeat.errors import WeightsError

CONTENT = b"tensors" * 1000
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        self.server.requests += 1  # type: ignore[attr-defined]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "right.bin").write_bytes(CONTENT)
    (folder / "wrong.bin").write_bytes(CONTENT[:-1])
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Silent, directory=str(folder))) as serving:
        serving.requests = 0  # type: ignore[attr-defined]
        threading.Thread(target=serving.serve_forever, daemon=True).start()
        yield serving
        serving.shutdown()


def _address(server: ThreadingHTTPServer, name: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{name}"


def test_the_cache_is_where_the_variables_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.delenv("AVFEAT_CACHE", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert weights.cache_dir() == Path("/home/somebody/.cache/avfeat")
    monkeypatch.setenv("XDG_CACHE_HOME", "/shared")
    assert weights.cache_dir() == Path("/shared/avfeat")
    monkeypatch.setenv("AVFEAT_CACHE", "~/mine")
    assert weights.cache_dir() == Path("/home/somebody/mine")


def test_a_file_is_fetched_once_and_found_afterwards(cache: Path, server: ThreadingHTTPServer) -> None:
    addresses = [_address(server, "absent.bin"), _address(server, "wrong.bin"), _address(server, "right.bin")]
    path = weights.fetch("models/net.bin", addresses, DIGEST)
    assert path == cache / "models" / "net.bin"
    assert path.read_bytes() == CONTENT
    asked = server.requests  # type: ignore[attr-defined]
    assert weights.fetch("models/net.bin", addresses, DIGEST) == path
    assert server.requests == asked  # type: ignore[attr-defined]


def test_a_damaged_file_in_the_cache_is_fetched_again(cache: Path, server: ThreadingHTTPServer) -> None:
    path = weights.fetch("net.bin", [_address(server, "right.bin")], DIGEST)
    path.write_bytes(CONTENT[:-3])
    assert weights.fetch("net.bin", [_address(server, "right.bin")], DIGEST).read_bytes() == CONTENT


def test_what_cannot_be_fetched_says_why_and_what_to_put_where(cache: Path, server: ThreadingHTTPServer) -> None:
    with pytest.raises(WeightsError) as error:
        weights.fetch("net.bin", [_address(server, "wrong.bin"), "http://127.0.0.1:1/net.bin"], DIGEST)
    sentence = str(error.value)
    assert hashlib.sha256(CONTENT[:-1]).hexdigest() in sentence
    assert "127.0.0.1:1" in sentence
    assert f"put the file with sha256 {DIGEST} at {cache / 'net.bin'}" in sentence
    assert [path.name for path in cache.rglob("*") if path.is_file()] == []


def test_a_cache_that_cannot_be_written_names_the_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ThreadingHTTPServer
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AVFEAT_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(WeightsError, match="AVFEAT_CACHE"):
        weights.fetch("net.bin", [_address(server, "right.bin")], DIGEST)


def test_a_file_is_hashed_again_only_after_a_change(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = []
    plain = weights.sha256_of
    monkeypatch.setattr(weights, "sha256_of", lambda path: hashed.append(path) or plain(path))
    path = tmp_path / "net.bin"
    path.write_bytes(CONTENT)
    assert [weights.recorded_sha256(path) for _ in range(3)] == [DIGEST] * 3
    assert len(hashed) == 1
    path.write_bytes(CONTENT + b"more")
    assert weights.recorded_sha256(path) == hashlib.sha256(CONTENT + b"more").hexdigest()


def test_a_pinned_file_may_not_change(cache: Path, tmp_path: Path) -> None:
    path = tmp_path / "net.bin"
    path.write_bytes(CONTENT)
    weights.recorded_sha256(path, "somebody--net/1234/net.bin")
    elsewhere = tmp_path / "copy.bin"
    elsewhere.write_bytes(CONTENT)
    assert weights.recorded_sha256(elsewhere, "somebody--net/1234/net.bin") == DIGEST
    path.write_bytes(CONTENT + b"more")
    with pytest.raises(WeightsError, match=f"has changed.*{DIGEST}"):
        weights.recorded_sha256(path, "somebody--net/1234/net.bin")


def test_tensors_are_read_as_they_are_and_damage_is_named(tmp_path: Path) -> None:
    path = tmp_path / "net.safetensors"
    save_file({"a": np.arange(6, dtype=np.float16).reshape(2, 3)}, path)
    assert weights.read_tensors(path)["a"].tolist() == [[0, 1, 2], [3, 4, 5]]
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(WeightsError, match=r"net\.safetensors"):
        weights.read_tensors(path)
    with pytest.raises(WeightsError, match=r"absent\.safetensors"):
        weights.read_tensors(tmp_path / "absent.safetensors")

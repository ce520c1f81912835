"""The files of a checkpoint: found in a folder or in the hub's cache, fetched from the hub, hashed."""

from __future__ import annotations

import functools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from avfeat.encoders.hf import Source
from avfeat.errors import WeightsError
from avfeat.weights import recorded_sha256

CONFIG = "config.json"
INPUT = "preprocessor_config.json"
_INPUT_OF_PROCESSOR = "processor_config.json"

_SAFE = ("model.safetensors", "model.safetensors.index.json")
_TORCH = ("pytorch_model.bin", "pytorch_model.bin.index.json")
# The second form holds pickles; they go through torch's weights-only reader, which builds tensors and runs nothing.
_DESCRIPTIONS = (CONFIG, INPUT, _INPUT_OF_PROCESSOR)
_TENSORS = (
    ("model.safetensors", "model-*-of-*.safetensors", "model.safetensors.index.json"),
    ("pytorch_model.bin", "pytorch_model-*-of-*.bin", "pytorch_model.bin.index.json"),
)


@dataclass(frozen=True)
class Checkpoint:
    """A folder that holds one network's files; ``revision`` is the hub's commit, empty for a user's own folder."""

    folder: Path
    revision: str = ""

    def read_json(self, name: str) -> dict[str, Any] | None:
        """Return the content of a JSON file, None when it is not there.

        Raises:
            WeightsError: it is not a JSON object.
        """
        path = self.folder / name
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise WeightsError(f"{path} cannot be read ({error}).") from error
        if not isinstance(content, dict):
            raise WeightsError(f"{path} is not a JSON object.")
        return content

    def read_input(self) -> dict[str, Any] | None:
        """Return what the checkpoint says of its input, None when it says nothing.

        Raises:
            WeightsError: the file is not a JSON object.
        """
        if (own := self.read_json(INPUT)) is not None:
            return own
        both = self.read_json(_INPUT_OF_PROCESSOR) or {}
        part = both.get("feature_extractor") or both.get("image_processor")
        return part if isinstance(part, dict) else None

    def weight_files(self) -> list[Path]:
        """Return the files that hold the tensors, safetensors before the older form.

        Raises:
            WeightsError: there are none, or an index names files that are not there.
        """
        for whole, index in (_SAFE, _TORCH):
            if (self.folder / whole).is_file():
                return [self.folder / whole]
            if (content := self.read_json(index)) is not None:
                names = sorted(set(content.get("weight_map", {}).values()))
                absent = [name for name in names if not (self.folder / name).is_file()]
                if absent or not names:
                    raise WeightsError(f"{self.folder}: {index} names {', '.join(absent) or 'no file'}; not there.")
                return [self.folder / name for name in names]
        raise WeightsError(f"{self.folder} holds neither {_SAFE[0]} nor {_TORCH[0]}: put one of them there.")

    def hashes(self, files: Sequence[Path], repository: str) -> list[dict[str, str]]:
        """Return name and sha256 of files; those of a hub's commit are checked against their first use.

        Raises:
            WeightsError: a file cannot be read, or has changed since.
        """
        return [
            {
                "file": path.name,
                "sha256": recorded_sha256(path, f"{repository}/{self.revision}/{path.name}" if self.revision else ""),
            }
            for path in files
        ]


def find_folder(source: Source, *, weights: bool) -> Checkpoint:
    """Return the folder of a checkpoint: the user's own, or the hub's snapshot, fetched where it is not yet there.

    Args:
        source: what is looked for.
        weights: whether the tensors are needed; the descriptions alone are small.

    Raises:
        WeightsError: it is not there and cannot be fetched; says which files to put where.
    """
    if source.folder is not None:
        if not (source.folder / CONFIG).is_file():
            raise WeightsError(
                f"{source.name}: {source.folder} holds no {CONFIG}: give a folder with {CONFIG}, {INPUT} and "
                f"{_SAFE[0]}, as save_pretrained writes them."
            )
        return Checkpoint(source.folder)
    return _snapshot(source.repository, source.name, weights)


def how_to_place(name: str) -> str:
    """Return what to do on a machine that cannot reach the hub, for a message."""
    from avfeat.encoders import ENCODERS

    option = "with --weights FOLDER" if name in ENCODERS else "as hf:FOLDER"
    return f"put {CONFIG}, {INPUT} and {_SAFE[0]} (or {_TORCH[0]}) into one folder and give it {option}"


def cached_snapshot(repository: str) -> Path | None:
    """Return the hub's cached folder of a repository if it holds a description and tensors; asks no network."""
    from huggingface_hub import constants

    snapshots = Path(constants.HF_HUB_CACHE) / f"models--{repository.replace('/', '--')}" / "snapshots"
    for folder in sorted(snapshots.glob("*")):
        if (folder / CONFIG).is_file() and any((folder / name).is_file() for name in (*_SAFE, *_TORCH)):
            return folder
    return None


@functools.lru_cache
def _snapshot(repository: str, name: str, weights: bool) -> Checkpoint:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        folder = Path(snapshot_download(repository, allow_patterns=list(_DESCRIPTIONS)))
        for patterns in _TENSORS if weights else ():
            snapshot_download(repository, revision=folder.name, allow_patterns=list(patterns))
            if any(any(folder.glob(pattern)) for pattern in patterns):
                break
    except (OSError, HfHubHTTPError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(
            f"{name}: https://huggingface.co/{repository} is not in the cache and cannot be fetched ({reason}): "
            f"{how_to_place(name)}."
        ) from error
    if not (folder / CONFIG).is_file() or (weights and cached_snapshot(repository) is None):
        raise WeightsError(
            f"{name}: neither the cache nor https://huggingface.co/{repository} gave {CONFIG} and the tensors: "
            f"{how_to_place(name)}."
        )
    return Checkpoint(folder, folder.name)

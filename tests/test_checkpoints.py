"""Official checkpoints: tensors and plain data come out, nothing in the file ever runs."""

import argparse
import collections
import io
import os
import pickle
import random
import subprocess
import sys
import tempfile
import types
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from avfeat.checkpoints import Inert, open_checkpoint, read_checkpoint
from avfeat.errors import WeightsError

FAKES = {
    "fairseq.data.dictionary": ("Dictionary",),
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.nodes": ("AnyNode",),
    "omegaconf.base": ("Metadata",),
    "pytorch_lightning.utilities.parsing": ("AttributeDict",),
}


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> dict[str, type]:
    """Classes as the trainers of official files have them; they live as long as the test writes its file."""
    made: dict[str, type] = {}
    for module_name, names in FAKES.items():
        for end in range(1, module_name.count(".") + 2):
            part = ".".join(module_name.split(".")[:end])
            if part not in sys.modules:
                monkeypatch.setitem(sys.modules, part, types.ModuleType(part))
        for name in names:
            base = dict if name == "AttributeDict" else object
            cls = type(name, (base,), {"__module__": module_name})
            setattr(sys.modules[module_name], name, cls)
            made[name] = cls
    return made


def of(cls: type, **state: Any) -> Any:
    instance = cls.__new__(cls)
    instance.__dict__.update(state)
    return instance


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
def test_what_a_trainer_saves_comes_back_as_tensors_and_plain_data(
    fakes: dict[str, type], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, zipped: bool
) -> None:
    root = of(fakes["DictConfig"])
    leaf = of(fakes["AnyNode"], _metadata=of(fakes["Metadata"], key="heads"), _parent=root, _val=4)
    items = of(fakes["ListConfig"], _parent=root, _content=[of(fakes["AnyNode"], _parent=root, _val="prelu")])
    root.__dict__.update(_parent=None, _content={"heads": leaf, "relu": items})
    shared = torch.arange(6.0)
    saved = {
        "args": argparse.Namespace(width=64, names=["a", "b"]),
        "cfg": {"model": root},
        "model": collections.OrderedDict(
            turned=shared.view(2, 3).t(),
            part=shared[2:4],
            half=torch.tensor([1.5, -2.0], dtype=torch.float16),
            counts=torch.tensor(7),
            brain=torch.tensor([0.5], dtype=torch.bfloat16),
            flags=torch.tensor([True, False]),
            own=torch.nn.Parameter(torch.ones(2)),
            none=torch.empty(0, 3),
        ),
        "task_state": {"dictionary": of(fakes["Dictionary"], symbols=["<s>", "</s>"])},
        "meters": {"sum": np.float32(2.5), "history": np.arange(6.0).reshape(2, 3), "seen": {3, 4}, "raw": b"\xff\x00"},
        "hyper_parameters": fakes["AttributeDict"](lr=0.1),
        "counter": collections.defaultdict(int, a=1),
        "deep": (1, [2, (3, None)], True, 1 << 70),
    }
    path = tmp_path / "model.pt"
    torch.save(saved, path, _use_new_zipfile_serialization=zipped)
    wanted = saved["model"]
    monkeypatch.undo()
    checkpoint = open_checkpoint(path)
    content = checkpoint.content
    assert not {"fairseq", "omegaconf", "pytorch_lightning"} & set(sys.modules)
    assert content["args"] == {"width": 64, "names": ["a", "b"]}
    assert content["cfg"] == {"model": {"heads": 4, "relu": ["prelu"]}}
    assert list(content["model"]) == list(wanted)
    for key, tensor in wanted.items():
        found = content["model"][key]
        assert found.dtype == tensor.dtype and torch.equal(found, tensor.detach()), key
    assert content["task_state"]["dictionary"] == Inert(
        "fairseq.data.dictionary.Dictionary", state={"symbols": ["<s>", "</s>"]}
    )
    assert content["meters"]["sum"] == 2.5 and isinstance(content["meters"]["sum"], float)
    assert content["meters"]["history"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert sorted(content["meters"]["seen"]) == [3, 4] and content["meters"]["raw"] == b"\xff\x00"
    assert content["hyper_parameters"].items == {"lr": 0.1}
    assert content["counter"] == {"a": 1}
    assert content["deep"] == (1, [2, (3, None)], True, 1 << 70)
    assert checkpoint.inert == (
        "fairseq.data.dictionary.Dictionary",
        "pytorch_lightning.utilities.parsing.AttributeDict",
    )


def test_tensors_are_mapped_and_writing_to_them_leaves_the_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"model": {"a": torch.zeros(1000)}}, path)
    before = path.read_bytes()
    read_checkpoint(path)["model"]["a"].fill_(1.0)
    assert path.read_bytes() == before


class _Calls:
    def __init__(self, function: Any, *args: Any):
        self._call = (function, args)

    def __reduce__(self) -> Any:
        return self._call


def _evil(marker: Path) -> dict[str, Any]:
    command = f"touch {marker}"
    return {
        "os.system": _Calls(os.system, command),
        "eval": _Calls(eval, f"open({str(marker)!r}, 'w')"),
        "exec": _Calls(exec, f"open({str(marker)!r}, 'w')"),
        "subprocess": _Calls(subprocess.Popen, ["touch", str(marker)]),
        "nested": {"cfg": [_Calls(getattr, _Calls(__import__, "os"), "system")]},
    }


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
@pytest.mark.parametrize("way", ["os.system", "eval", "exec", "subprocess", "nested"])
def test_what_a_file_wants_to_run_comes_out_as_inert_data(tmp_path: Path, way: str, zipped: bool) -> None:
    marker, path = tmp_path / "PWNED", tmp_path / "evil.pt"
    torch.save(
        {"model": {"a": torch.ones(2)}, "extra": _evil(marker)[way]}, path, _use_new_zipfile_serialization=zipped
    )
    checkpoint = open_checkpoint(path)
    assert not marker.exists()
    extra = checkpoint.content["extra"]
    assert isinstance(extra["cfg"][0] if way == "nested" else extra, Inert)
    assert any(name.split(".")[-1] in ("system", "eval", "exec", "Popen", "getattr") for name in checkpoint.inert)


def test_the_same_file_does_run_under_an_unrestricted_loader(tmp_path: Path) -> None:
    marker, path = tmp_path / "PWNED", tmp_path / "evil.pt"
    torch.save({"extra": _evil(marker)["exec"]}, path)
    torch.load(path, weights_only=False)
    assert marker.exists()


def _archive(path: Path, pickled: bytes, **more: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in {"data.pkl": pickled, "version": b"3\n", **more}.items():
            archive.writestr(f"model/{name}", data)
    return path


def test_a_dotted_name_is_text_and_leads_nowhere(tmp_path: Path) -> None:
    marker = tmp_path / "PWNED"
    calls = b"\x80\x04}\x8c\x01a\x8c\x10argparse.extra.x\x8c\x09os.system\x93\x8c"
    command = f"touch {marker}".encode()
    path = _archive(tmp_path / "evil.pt", calls + bytes([len(command)]) + command + b"\x85Rs.")
    content = read_checkpoint(path)
    assert content == {"a": Inert("argparse.extra.x.os.system", args=(command.decode(),))}
    assert not marker.exists()


def test_a_file_cannot_change_the_reader_for_the_next_one(tmp_path: Path) -> None:
    # BUILD with slot state sets attributes on whatever lies on the stack, here a class that the reader handed out.
    build = b"\x80\x02}U\x01acargparse\nNamespace\n(N}U\x0c__setstate__U\x01xstbs."
    with pytest.raises(WeightsError, match="cannot be read as a checkpoint"):
        read_checkpoint(_archive(tmp_path / "evil.pt", build))
    torch.save({"args": argparse.Namespace(a=1)}, tmp_path / "good.pt")
    assert read_checkpoint(tmp_path / "good.pt") == {"args": {"a": 1}}


def test_tensors_never_reach_beyond_their_data(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    torch.save({"a": torch.zeros(4, 5)}, path)
    with zipfile.ZipFile(path) as archive:
        files = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    pickled = files.pop("data.pkl")
    with pytest.raises(WeightsError, match=r"shape \[4, 6\] reaches beyond its 20 numbers"):
        read_checkpoint(_archive(path, pickled.replace(b"K\x04K\x05\x86", b"K\x04K\x06\x86"), **files))
    with pytest.raises(WeightsError, match="fewer numbers than it says"):
        read_checkpoint(_archive(path, pickled, **files | {"data/0": bytes(76)}))
    del files["data/0"]
    with pytest.raises(WeightsError, match="storage '0' are missing"):
        read_checkpoint(_archive(path, pickled, **files))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "cannot be read"),
        (b"not a checkpoint", "cannot be read"),
        (pickle.dumps({"a": 1}), "not one that torch wrote"),
        (b"PK\x05\x06" + bytes(18), "0 files NAME/data.pkl"),
    ],
)
def test_other_files_are_refused_with_their_name(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "other.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"other\.pt.*{reason}"):
        read_checkpoint(path)


def test_a_missing_file_and_a_lone_tensor_are_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"none\.pt"):
        read_checkpoint(tmp_path / "none.pt")
    torch.save(torch.ones(2), tmp_path / "tensor.pt")
    with pytest.raises(WeightsError, match="holds one Tensor"):
        read_checkpoint(tmp_path / "tensor.pt")


def test_endless_nesting_is_refused(tmp_path: Path) -> None:
    path = _archive(tmp_path / "deep.pt", b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".")
    with pytest.raises(WeightsError, match="nested too deeply"):
        read_checkpoint(path)


def test_a_huge_object_number_does_not_eat_the_memory(tmp_path: Path) -> None:
    path = _archive(tmp_path / "big.pt", b"\x80\x02}r\xff\xff\xff\x7f.")
    with pytest.raises(WeightsError, match="object number 2147483647 cannot be"):
        read_checkpoint(path)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "stream"])
def test_a_damaged_file_is_read_or_refused_but_never_crashes(tmp_path: Path, zipped: bool) -> None:
    dice = random.Random(0)
    buffer = io.BytesIO()
    saved = {"args": argparse.Namespace(a=1), "model": {"w": torch.ones(3, 2)}, "x": np.float32(1), "y": np.ones(2)}
    torch.save(saved, buffer, _use_new_zipfile_serialization=zipped)
    path, whole = tmp_path / "damaged.pt", buffer.getvalue()
    outcomes = collections.Counter[bool]()
    for _ in range(300):
        damaged = bytearray(whole[: dice.choice([len(whole), len(whole), dice.randrange(len(whole))])])
        for _ in range(dice.randrange(4)):
            damaged[dice.randrange(len(damaged))] = dice.randrange(256)
        path.write_bytes(damaged)
        try:
            read_checkpoint(path)
            outcomes[True] += 1
        except WeightsError:
            outcomes[False] += 1
    assert outcomes[True] > 20 and outcomes[False] > 20


@pytest.mark.shared
def test_no_malicious_file_of_the_golden_set_runs(shared: Path) -> None:
    marker = Path(tempfile.gettempdir()) / "PWNED"
    marker.unlink(missing_ok=True)
    files = sorted((shared / "golden" / "avhubert" / "malicious").glob("*.pt"))
    assert len(files) == 6
    inert = []
    for path in files:
        try:
            inert.extend(open_checkpoint(path).inert)
        except WeightsError:
            continue
    assert {"__builtin__.eval", "__builtin__.exec", "posix.system", "commands.Popen"} <= set(inert)
    assert not marker.exists()


@pytest.mark.parametrize("letters", range(8))
def test_a_tensor_without_numbers_is_read_wherever_its_bytes_would_begin(tmp_path: Path, letters: int) -> None:
    path = tmp_path / "empty.pt"
    saved = {"name": "x" * letters, "none": torch.empty(0, 3)}
    torch.save(saved, path, _use_new_zipfile_serialization=False)
    assert read_checkpoint(path)["none"].shape == (0, 3)

"""How a network computes, whichever it is: in half precision, compiled."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from avfeat.encoders.base import DtypeCompute, Encoder, Encoding, FeatureName, Result
from avfeat.errors import SetupError
from avfeat.views import Views

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def check_dtype(device: str, dtype: DtypeCompute) -> None:
    """See that ``device`` computes in ``dtype`` itself.

    Raises:
        SetupError: it does not, and would only imitate it in float32.
    """
    kind = torch.device(device).type
    if dtype == "fp32":
        return
    if kind == "cuda":
        exists = dtype == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
        name, instead = f"{device} ({torch.cuda.get_device_name(device)})", "fp16 or fp32"
    else:
        # oneDNN runs what the processor has instructions for; all else would be float32 by way of the half type.
        mkldnn: Any = torch.ops.mkldnn
        exists = mkldnn._is_mkldnn_bf16_supported() if dtype == "bf16" else mkldnn._is_mkldnn_fp16_supported()
        name, instead = "this CPU", "fp32"
    if not exists:
        raise SetupError(f"{name} does not compute in {dtype}: use --dtype-compute {instead}.")


class HalfEncoder(Encoder):
    """Another encoder whose products and convolutions run in half precision; weights and rows stay float32.

    So does what the blocks add up from first to last: in bfloat16 each sum would be good to three digits only.
    Its provenance says so; what has no such word there was computed in float32.
    """

    def __init__(self, encoder: Encoder, device: str, dtype: DtypeCompute):
        check_dtype(device, dtype)
        self.card, self.wanted = encoder.card, encoder.wanted
        self.provenance = dict(encoder.provenance) | {"dtype_compute": dtype}
        self._encoder, self._kind, self._dtype = encoder, torch.device(device).type, _DTYPES[dtype]
        for block in encoder.blocks():
            block.register_forward_pre_hook(_in_float32)

    def half(self) -> torch.autocast:
        """Return a context in which networks compute so."""
        return torch.autocast(self._kind, dtype=self._dtype)

    def begin(self) -> Encoding:
        """Start a new clip."""
        return _Half(self, self._encoder.begin())

    def together(self, encodings: Sequence[Encoding]) -> None:
        """Do at once what is left of several clips."""
        with self.half():
            self._encoder.together([each.inner for each in encodings if isinstance(each, _Half)])

    def blocks(self) -> Sequence[torch.nn.Module]:
        """The network's blocks."""
        return self._encoder.blocks()


def _in_float32(block: torch.nn.Module, given: tuple[Any, ...]) -> tuple[Any, ...]:
    steps, *others = given
    return (steps.float(), *others)


class _Half(Encoding):
    def __init__(self, encoder: HalfEncoder, inner: Encoding):
        self.inner = inner
        self._encoder = encoder

    def take(self, views: Views) -> None:
        with self._encoder.half():
            self.inner.take(views)

    def finish(self, wanted: Sequence[FeatureName]) -> Mapping[FeatureName, Result]:
        with self._encoder.half():
            return self.inner.finish(wanted)


def compile_blocks(encoder: Encoder, device: str) -> None:
    """Have torch compile the network's blocks, when they first run; they share their code, so one is compiled for all.

    What a hook sees of a block is unchanged: hooks stay outside of what is compiled.

    Raises:
        SetupError: the CPU's code needs a C++ compiler, and there is none.
    """
    if device == "cpu" and not any(map(shutil.which, ("g++", "c++", "clang++"))):
        raise SetupError("--compile builds code for the CPU with a C++ compiler, and none is here: install g++.")
    for block in encoder.blocks():
        block.forward = torch.compile(block.forward, dynamic=True)

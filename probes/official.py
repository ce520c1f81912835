"""Probes of the paper's own trainer: Lightning checkpoints, read without running anything in them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from avfeat.checkpoints import read_checkpoint
from avfeat.errors import ProbeError
from probes.heads.linear import LinearProbe


def import_linear(path: Path, feature: str) -> LinearProbe:
    """Return the probe that an official ``.ckpt`` holds, with identical scores.

    Args:
        path: a checkpoint with ``head.weight`` [1, width] and ``head.bias`` [1] in its ``state_dict``.
        feature: the name of the stored feature it reads; the checkpoint itself only says audio, video or multimodal.

    Raises:
        WeightsError: the file cannot be read as a checkpoint.
        ProbeError: it holds no linear probe, or its weights contradict its own width.
    """
    content = read_checkpoint(Path(path))
    state = content.get("state_dict")
    found = {name: tuple(value.shape) for name, value in state.items()} if isinstance(state, dict) else {}
    shapes = found.get("head.weight", ()), found.get("head.bias", ())
    if set(found) != {"head.weight", "head.bias"} or len(shapes[0]) != 2 or shapes[0][0] != 1 or shapes[1] != (1,):
        raise ProbeError(
            f"{path} holds no linear probe: needed are head.weight [1, width] and head.bias [1], not {found}."
        )
    assert isinstance(state, dict)
    weight, bias = state["head.weight"].float().numpy(), float(state["head.bias"][0])
    facts = _model_facts(content)
    if facts.get("feats_dim") not in (None, weight.shape[1]):
        raise ProbeError(f"{path} says width {facts['feats_dim']}, but its weights are {weight.shape[1]} wide.")
    if not (np.isfinite(weight).all() and np.isfinite(bias)):
        raise ProbeError(f"{path}: the weights are not all finite.")
    origin = {"checkpoint": Path(path).name, "input_type": facts.get("input_type")}
    return LinearProbe(pool="lse", solver="adam").set_weights(weight[0], bias, (feature,), (weight.shape[1],), origin)


def _model_facts(content: dict[Any, Any]) -> dict[str, Any]:
    """``hyper_parameters.config.model_hparams``, empty where the file has none."""
    found: Any = content
    for key in ("hyper_parameters", "config", "model_hparams"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}

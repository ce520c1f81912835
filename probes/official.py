"""Probes of the official trainers, read without running anything in their files.

Three kinds are told apart by what they hold:

    linear   ssr-dfd's Lightning .ckpt: ``head.weight`` [1, width] and ``head.bias`` [1]
    mlp      AVH-Align/sup's Lightning .ckpt: ``mlp`` and, for two features, ``visual_proj`` and ``audio_proj``, for one
             ``proj``
    sync     AVH-Align's .pt: the tensors of mlp with two features, no Lightning hyper-parameters, the trainer's
             arguments beside them

The last two have the same network, but sync's score is its negated output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from avfeat.checkpoints import read_checkpoint
from avfeat.errors import ProbeError
from probes.heads.linear import LinearProbe
from probes.heads.mlp import MlpProbe
from probes.heads.neural import load_state
from probes.heads.pair import check_pair
from probes.heads.sync import SyncProbe

Neural = TypeVar("Neural", MlpProbe, SyncProbe)

_PROJECTIONS = {"visual_proj": "projections.0", "audio_proj": "projections.1", "proj": "projections.0"}

_ARGUMENTS = {
    "tau": "tau",
    "learning_rate": "learning_rate",
    "batch_size": "batch",
    "epochs": "epochs",
    "early_stopping_patience": "patience",
    "scheduler_patience": "decay_patience",
}
"""AVH-Align's arguments, and what our sync head calls them."""


def import_official(path: Path, features: Sequence[str]) -> LinearProbe | MlpProbe | SyncProbe:
    """Return the probe that an official checkpoint holds, with identical scores.

    Args:
        path: a checkpoint of one of the kinds above.
        features: the names of the stored features it reads; where there are two, video's before audio's.

    Raises:
        WeightsError: the file cannot be read as a checkpoint.
        ProbeError: it holds no probe of these kinds, its weights contradict themselves, or the features do not fit.
    """
    path = Path(path)
    content = read_checkpoint(path)
    state = content.get("state_dict")
    named = state if isinstance(state, dict) else {}
    tensors = {name: value.float() for name, value in named.items() if isinstance(value, Tensor)}
    if not any(name.startswith("mlp.") for name in tensors):
        return _linear(path, features, content, tensors)
    projections = [tensors[f"{name}.weight"] for name in _PROJECTIONS if f"{name}.weight" in tensors]
    widths = [weight.shape[-1] for weight in projections]
    if len(widths) != len(features):
        raise ProbeError(f"{path} reads {len(widths)} features, video before audio; named are {', '.join(features)}.")
    if len(widths) == 2:
        check_pair(tuple(features))
    sizes = _sizes(path, tensors)
    origin: dict[str, Any] = {"checkpoint": path.name}
    if "hyper_parameters" in content:
        origin |= {"input_type": _model_facts(content).get("input_type")}
        return _with_network(MlpProbe(sizes=sizes), path, features, widths, tensors, origin)
    arguments = content.get("args")
    known = arguments if isinstance(arguments, dict) else {}
    settings = {ours: known[name] for name, ours in _ARGUMENTS.items() if isinstance(known.get(name), int | float)}
    origin |= {"epoch": content.get("epoch"), "arguments": {name: str(value) for name, value in known.items()}}
    return _with_network(SyncProbe(sizes=sizes, **settings), path, features, widths, tensors, origin)


def _linear(path: Path, features: Sequence[str], content: dict[Any, Any], tensors: Mapping[str, Tensor]) -> LinearProbe:
    found = {name: tuple(value.shape) for name, value in tensors.items()}
    shapes = found.get("head.weight", ()), found.get("head.bias", ())
    if set(found) != {"head.weight", "head.bias"} or len(shapes[0]) != 2 or shapes[0][0] != 1 or shapes[1] != (1,):
        raise ProbeError(
            f"{path} holds no probe of an official trainer: "
            f"a linear one needs head.weight [1, width] and head.bias [1], not {found}."
        )
    if len(features) != 1:
        raise ProbeError(f"{path} reads one feature; named are {', '.join(features)}.")
    weight, bias = tensors["head.weight"].numpy(), float(tensors["head.bias"][0])
    facts = _model_facts(content)
    if facts.get("feats_dim") not in (None, weight.shape[1]):
        raise ProbeError(f"{path} says width {facts['feats_dim']}, but its weights are {weight.shape[1]} wide.")
    if not (np.isfinite(weight).all() and np.isfinite(bias)):
        raise ProbeError(f"{path}: the weights are not all finite.")
    origin = {"checkpoint": path.name, "input_type": facts.get("input_type")}
    probe = LinearProbe(pool="lse", solver="adam")
    return probe.set_weights(weight[0], bias, tuple(features), (weight.shape[1],), origin)


def _with_network(
    probe: Neural,
    path: Path,
    features: Sequence[str],
    widths: Sequence[int],
    tensors: Mapping[str, Tensor],
    origin: dict[str, Any],
) -> Neural:
    network = probe.make_network(widths)
    load_state(network, {_our_name(name): value for name, value in tensors.items()}, str(path), probe.kind)
    return probe.set_network(network, features, widths, origin)


def _our_name(name: str) -> str:
    layer, dot, rest = name.partition(".")
    return f"{_PROJECTIONS.get(layer, layer)}{dot}{rest}"


def _sizes(path: Path, tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Width of the projections together, then of the hidden layers."""
    linear = [value for name, value in tensors.items() if name.startswith("mlp.") and value.ndim == 2]
    if len(linear) < 2:
        raise ProbeError(f"{path} holds no network: needed are the weights of mlp's linear layers, two or more.")
    return (linear[0].shape[1], *(layer.shape[0] for layer in linear[:-1]))


def _model_facts(content: dict[Any, Any]) -> dict[str, Any]:
    """``hyper_parameters.config.model_hparams``, empty where the file has none."""
    found: Any = content
    for key in ("hyper_parameters", "config", "model_hparams"):
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else {}

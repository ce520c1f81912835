"""Weights of AV-HuBERT: from an official file, from its tensors written down once as safetensors, or from a seed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from avfeat.checkpoints import open_checkpoint
from avfeat.encoders.avhubert.initial import random_tensors
from avfeat.encoders.avhubert.published import LICENCE, LICENCE_NOTE, Architecture, Published
from avfeat.encoders.avhubert.state import architecture_of, check_tensors, encoder_tensors
from avfeat.errors import WeightsError
from avfeat.weights import read_tensors, recorded_sha256, sha256_of

_FORMAT = 1


@dataclass(frozen=True)
class Weights:
    """The encoder's tensors under their bare official names, what network they make, and where they come from.

    ``origin`` is plain data: the official file's name and sha256, or the seed.
    """

    tensors: Mapping[str, Tensor]
    architecture: Architecture
    origin: Mapping[str, Any]
    inert: tuple[str, ...] = ()

    @property
    def provenance(self) -> dict[str, Any]:
        """What the store is to say of them."""
        facts = {"weights": "random", **self.origin} if "seed" in self.origin else {"weights": [dict(self.origin)]}
        return facts | {"architecture": asdict(self.architecture)}


def find_weights(published: Published, given: Path | None, seed: int | None) -> Weights:
    """Return the weights that a request asks for; of the official file in the cache the tensors are kept for next time.

    Args:
        published: the named encoder; its architecture is what the features' name promises.
        given: a file of the user's own, official or converted, in place of the published one.
        seed: random weights instead.

    Raises:
        WeightsError: there is no file, or not the right one.
    """
    if seed is not None:
        return Weights(random_tensors(published.architecture, seed), published.architecture, {"seed": seed})
    if given is None and not published.converted.is_file():
        if not published.official.is_file():
            raise WeightsError(f"{published.name}: {published.how_to_get}.")
        convert(published.official, published.converted, published)
    path = given or published.converted
    weights = read_converted(path) if path.suffix == ".safetensors" else read_official(path, published.architecture)
    promised = published.architecture
    if replace(weights.architecture, norm_first=promised.norm_first) != promised:
        raise WeightsError(
            f"{path} holds an encoder of width {weights.architecture.width} with {weights.architecture.layers} blocks; "
            f"{published.name} has width {promised.width} and {promised.layers} blocks. Name the encoder that it is."
        )
    return weights


def read_official(path: Path, promised: Architecture | None = None) -> Weights:
    """Return the encoder in an official file: pre-trained, or fine-tuned with a decoder, by any version of the trainer.

    Sizes come from the tensors. Heads and the norms' place come from the file's own configuration where it has one,
    else from ``promised``, which then has to agree with the tensors in all else.

    Raises:
        WeightsError: it is not such a file, lacks a tensor, says one thing and holds another, or does not say enough.
    """
    checkpoint = open_checkpoint(path)
    state = checkpoint.content.get("model")
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise WeightsError(f"{path} holds no table of tensors called 'model', so it is no file of the fairseq trainer.")
    tensors = encoder_tensors(state, str(path))
    config = model_config(checkpoint.content)
    if config is not None:
        architecture = _configured(tensors, config, path)
    elif promised is not None:
        architecture = architecture_of(tensors, promised.heads, promised.norm_first, str(path))
        if architecture != promised:
            raise WeightsError(
                f"{path} does not say how many attention heads its network has, and its width of {architecture.width} "
                f"with {architecture.layers} blocks is not the {promised.width} with {promised.layers} asked for."
            )
    else:
        raise WeightsError(
            f"{path} does not say how many attention heads its network has: name the encoder that it is."
        )
    check_tensors(tensors, architecture, str(path))
    origin = {"file": path.name, "sha256": recorded_sha256(path)}
    return Weights(tensors, architecture, origin, checkpoint.inert)


def model_config(content: Mapping[Any, Any]) -> Mapping[str, Any] | None:
    """Return the encoder's own part of a checkpoint's configuration, None where the file does not keep it.

    A fine-tuned file has the decoder's settings on top and the pre-training's whole configuration in ``w2v_args``; one
    straight from the trainer has only a path to it. Older files have a flat ``args``.
    """
    for found in (_table(content.get("cfg"), "model"), content.get("args")):
        if not isinstance(found, dict):
            continue
        if "w2v_args" in found or "w2v_path" in found:
            inner = found.get("w2v_args")
            return (_table(inner, "model") or inner) if isinstance(inner, dict) else None
        return found
    return None


def convert(path: Path, target: Path, published: Published | None) -> Weights:
    """Write an official file's encoder to ``target`` (safetensors) and its facts beside it (JSON), and return it.

    Args:
        path: the official file.
        target: what to write; its folder is made. The JSON has the same name with the suffix ``.json``.
        published: the encoder that the file is said to be, None for the user's own. Where no hash of it is published,
            that of the first file used under its name is recorded and holds from then on.

    Raises:
        WeightsError: the file is not what it should be, or ``target`` cannot be written.
    """
    if target.suffix != ".safetensors":
        raise WeightsError(f"{target} has to end in .safetensors: that is what it will be.")
    weights = read_official(path, None if published is None else published.architecture)
    if published is not None and published.file.sha256 not in ("", weights.origin["sha256"]):
        raise WeightsError(
            f"{path} has sha256 {weights.origin['sha256']}, not the {published.file.sha256} of {published.name}. Files "
            "trained with noise have the same name: give such a file with --weights, or convert it with --out."
        )
    if published is not None and not published.file.sha256:
        recorded_sha256(path, f"avhubert/{published.file.name}")
    facts = {
        "format": _FORMAT,
        "family": "avhubert",
        "architecture": asdict(weights.architecture),
        "origin": dict(weights.origin),
        "licence": LICENCE,
        "licence_note": LICENCE_NOTE,
    }
    beside = target.with_name(f".{target.name}-{recorded_sha256(path)[:8]}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        save_file({key: tensor.contiguous() for key, tensor in weights.tensors.items()}, beside)
        facts["tensors_sha256"] = sha256_of(beside)
        beside.replace(target)
        beside.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        beside.replace(target.with_suffix(".json"))
    except OSError as error:
        raise WeightsError(f"{target} cannot be written ({error}).") from error
    finally:
        beside.unlink(missing_ok=True)
    return weights


def read_converted(path: Path, *, anew: bool = False) -> Weights:
    """Return the encoder that ``convert`` wrote to ``path``.

    Args:
        path: the safetensors file.
        anew: hash it again even when its size and time are those of the last time.

    Raises:
        WeightsError: the JSON beside it is missing or of another make, or the tensors are not those it was written for.
    """
    beside = path.with_suffix(".json")
    try:
        facts = json.loads(beside.read_text(encoding="utf-8"))
        if (facts["format"], facts["family"]) != (_FORMAT, "avhubert"):
            raise WeightsError(f"{beside} is of another make: convert the official file again.")
        architecture, origin = Architecture(**facts["architecture"]), dict(facts["origin"])
        wanted = facts["tensors_sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise WeightsError(
            f"{path} comes with {beside.name}, which cannot be read ({type(error).__name__}: {error}): convert the "
            "official file again with avfeat weights convert FILE."
        ) from error
    found = sha256_of(path) if anew else recorded_sha256(path)
    if found != wanted:
        raise WeightsError(f"{path} has changed: its sha256 is {found}, {beside.name} says {wanted}. Convert it again.")
    tensors = read_tensors(path)
    check_tensors(tensors, architecture, str(path))
    return Weights(tensors, architecture, origin)


_DEFAULTS = {
    "encoder_layers": 12,
    "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072,
    "encoder_attention_heads": 12,
    "layer_norm_first": False,
    "conv_pos": 128,
    "conv_pos_groups": 16,
}
"""What the reference's class has where a configuration says nothing: only settings that were written are stored."""

_ONLY = {"activation_fn": "gelu", "resnet_relu_type": "prelu", "modality_fuse": "concat", "sub_encoder_layers": 0}
"""Settings that no published file has otherwise; the network here has just these."""


def _configured(tensors: Mapping[str, Tensor], config: Mapping[str, Any], path: Path) -> Architecture:
    for key, only in _ONLY.items():
        if config.get(key, only) != only:
            raise WeightsError(f"{path} was trained with {key} {config[key]!r}; only {only!r} is supported.")
    said = {key: config.get(key, default) for key, default in _DEFAULTS.items()}
    if any(not isinstance(value, type(_DEFAULTS[key])) for key, value in said.items()):
        raise WeightsError(f"{path} has a configuration that cannot be understood: {said}.")
    found = architecture_of(tensors, said["encoder_attention_heads"], said["layer_norm_first"], str(path))
    seen = {
        "encoder_layers": found.layers,
        "encoder_embed_dim": found.width,
        "encoder_ffn_embed_dim": found.ffn,
        "conv_pos": found.conv_kernel,
        "conv_pos_groups": found.conv_groups,
    }
    for key, value in seen.items():
        if said[key] != value:
            raise WeightsError(f"{path} says {key} {said[key]} but its tensors show {value}; some are missing.")
    return found


def _table(value: Any, key: str) -> dict[str, Any] | None:
    inner = value.get(key) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else None

"""A network of transformers, its tensors checked one by one or drawn from a seed, ready to run."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from torch import Tensor, nn

from avfeat.device import prepare_device
from avfeat.encoders.hf_config import Facts
from avfeat.encoders.hf_files import CONFIG, INPUT, Checkpoint, find_folder
from avfeat.errors import WeightsError

_NAMED_KEYS = 5


@dataclass(frozen=True)
class Network:
    """A network ready to run: ``module`` runs, ``layers`` are its blocks as far as needed, ``norm`` its last norm."""

    module: nn.Module
    layers: Sequence[nn.Module]
    norm: nn.Module
    provenance: Mapping[str, Any]

    def run(
        self,
        blocks: Collection[int],
        *inputs: Tensor,
        keep: Callable[[Tensor], Tensor] = lambda tokens: tokens,
        **more: Any,
    ) -> tuple[Any, dict[int, Tensor]]:
        """Return what the network gives, and for each of ``blocks``, counted from 1, ``keep`` of its raw output."""
        kept: dict[int, Tensor] = {}

        def taking(block: int) -> Any:
            def hook(module: nn.Module, given: Any, output: Any) -> None:
                kept[block] = keep(output[0] if isinstance(output, tuple) else output)

            return hook

        handles = [self.layers[block - 1].register_forward_hook(taking(block)) for block in blocks]
        try:
            result = self.module(*inputs, **more)
        finally:
            for handle in handles:
                handle.remove()
        return result, kept


def load_network(facts: Facts, blocks: int, seed: int | None, device: str) -> Network:
    """Return the network with its first ``blocks`` blocks, in float32 and eval mode on ``device``.

    Args:
        facts: what ``hf_config.inspect`` found.
        blocks: how many blocks are needed; the others are neither read nor kept.
        seed: draw the weights from the model's own initialiser with this seed instead of reading them. All blocks
            are drawn, so that block k does not depend on ``blocks``.
        device: a torch device.

    Raises:
        WeightsError: a tensor that the network needs is missing or has another shape, the files hold one that nobody
            knows, or cannot be read.
    """
    prepare_device(device)
    network_class = getattr(transformers, facts.family.model)
    network: nn.Module
    if seed is None:
        checkpoint = find_folder(facts.source, weights=True)
        network = _read(network_class, facts, checkpoint, blocks)
        files = [path for name in (CONFIG, INPUT) if (path := checkpoint.folder / name).is_file()]
        hashes = checkpoint.hashes([*files, *checkpoint.weight_files()], facts.source.repository)
        weights: dict[str, Any] = {"weights": hashes, "revision": checkpoint.revision}
    else:
        network = _drawn(network_class, _built(facts), seed)
        weights = {"weights": "random", "seed": seed, "config": facts.config.to_diff_dict()}
    layers = _module_ending(network, facts.family.blocks)
    assert isinstance(layers, nn.ModuleList)
    del layers[blocks:]
    norm = _module_ending(network, facts.family.norm)
    module = network.get_submodule(facts.family.part)
    module.eval().requires_grad_(False).to(device)
    return Network(module, list(layers), norm, weights | _provenance(facts, network))


def _module_ending(network: nn.Module, end: str) -> nn.Module:
    """Return the first module whose name ends in ``end``; versions of transformers nest them differently."""
    for name, module in network.named_modules():
        if name == end or name.endswith(f".{end}"):
            found: nn.Module = module
            return found
    raise WeightsError(f"{type(network).__name__} of transformers {transformers.__version__} has no part {end}.")


def _drawn(network_class: Any, config: Any, seed: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        network: nn.Module = network_class(config)
    return network


def _built(facts: Facts) -> Any:
    """Return a configuration that a network may change, without what does not run."""
    config = type(facts.config).from_dict(facts.config.to_dict())
    for name, value in facts.family.unbuilt.items():
        setattr(config, name, value)
    return config


def _read(network_class: Any, facts: Facts, checkpoint: Checkpoint, blocks: int) -> nn.Module:
    files = checkpoint.weight_files()
    config = _built(facts)
    config.num_hidden_layers = blocks
    try:
        with _quiet():
            network, report = network_class.from_pretrained(
                checkpoint.folder,
                config=config,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,
                local_files_only=True,
                use_safetensors=files[0].suffix == ".safetensors",
                weights_only=True,
            )
    except (OSError, ValueError, RuntimeError, SafetensorError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0]
        raise WeightsError(f"{facts.source.name}: {files[0]} cannot be read ({reason}).") from error
    _check_report(report, facts, blocks)
    assert isinstance(network, nn.Module)
    return network


def _check_report(report: Mapping[str, Any], facts: Facts, blocks: int) -> None:
    """Refuse what transformers would only print: tensors it made up, and tensors it threw away."""
    missing = sorted(report["missing_keys"])
    if missing:
        raise WeightsError(f"{facts.source.place} lacks {_some(missing)}: {facts.source.name} cannot be built from it.")
    mismatched = [f"{key} {tuple(found)} instead of {tuple(right)}" for key, found, right in report["mismatched_keys"]]
    if mismatched:
        raise WeightsError(f"{facts.source.place} holds tensors of other shapes: {_some(sorted(mismatched))}.")
    surplus = re.compile(facts.family.surplus)
    inner = re.compile(rf"(?:.+\.)?{re.escape(facts.family.blocks)}\.(\d+)\..+")
    strange = [
        key
        for key in sorted(report["unexpected_keys"])
        if not surplus.fullmatch(key) and not ((block := inner.fullmatch(key)) and int(block[1]) >= blocks)
    ]
    if strange:
        raise WeightsError(
            f"{facts.source.place} holds {_some(strange)}, which {facts.family.model} has no place for: "
            "it is another network, or was written by a version of transformers that names its parts differently."
        )


def _some(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - _NAMED_KEYS} more" if len(keys) > _NAMED_KEYS else ""
    return ", ".join(keys[:_NAMED_KEYS]) + more


def _provenance(facts: Facts, network: nn.Module) -> dict[str, Any]:
    """Return what is needed to make the numbers again; the same on every device."""
    return {
        "source": facts.card.source,
        "architecture": facts.family.model,
        "dtype": "float32",
        "attention": getattr(network.config, "_attn_implementation", ""),
        "input": {key: list(value) if isinstance(value, tuple) else value for key, value in facts.input.items()},
        "settings": dict(facts.settings),
        "versions": {name: version(name).split("+")[0] for name in ("torch", "transformers", "numpy", "pillow")},
    }


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep transformers from printing: what it would warn of is raised instead."""
    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()

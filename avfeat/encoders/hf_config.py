"""What a checkpoint says of itself, checked: its architecture, its sizes, and how it wants its input."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any, cast

from avfeat.encoders import hf
from avfeat.encoders.base import Card, Output, WeightFile
from avfeat.encoders.hf_files import CONFIG, INPUT, Checkpoint, find_folder
from avfeat.encoders.hf_named import Record
from avfeat.encoders.hf_records import FAMILIES, Family, Kind
from avfeat.encoders.settings import chosen
from avfeat.errors import EncoderError, SetupError, WeightsError
from avfeat.timeline import SOUND_RATE_HZ

OLDEST = (5, 18)
"""Older versions of transformers drop tensors of some published files, or return other layers under the same name."""


@dataclass(frozen=True)
class Facts:
    """All that is known of an encoder before its tensors are read.

    config: transformers' configuration object of the part that runs.
    input: how it wants its input: ``do_normalize`` for sound; ``size``, ``resample``, ``image_mean``, ``image_std``
    for pictures.
    settings: the user's choices and the defaults of the others.
    """

    source: hf.Source
    family: Family
    config: Any
    input: Mapping[str, Any]
    settings: Mapping[str, Any]
    card: Card


def inspect(source: hf.Source, settings: Mapping[str, Any] | None = None) -> Facts:
    """Read and check everything but the tensors; a named checkpoint without a folder is known from its record.

    Raises:
        EncoderError: the architecture, the view or a setting is not one that can be had.
        WeightsError: files are missing, or do not say what is needed, or disagree with the record.
        SetupError: transformers is too old.
    """
    check_version()
    if source.record is not None and source.folder is None:
        family = FAMILIES[source.record.family]
        config = _config_class(family)(**source.record.config)
        given: Mapping[str, Any] = source.record.input
    else:
        checkpoint = find_folder(source, weights=False)
        family = _family(source, checkpoint)
        config = _config_class(family).from_pretrained(checkpoint.folder)
        given = _given_input(source, family, checkpoint)
        if source.record is not None:
            _check_record(source, source.record, family, config, given)
    view = _view_kind(source, family)
    own = chosen(source.name, settings or {}, hf.settings_of(family, view))
    want = _READERS[family.kind](source, family, config, given)
    return Facts(source, family, config, want, own, _card(source, family, config, want, view, own))


def check_version() -> None:
    """See that transformers is not too old.

    Raises:
        SetupError: it is.
    """
    found = version("transformers")
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        raise SetupError(
            f"transformers {found} is older than {OLDEST[0]}.{OLDEST[1]} and would misread "
            "published weights without a word: pip install --upgrade transformers."
        )


def _config_class(family: Family) -> Any:
    import transformers

    return getattr(transformers, family.config)


def _family(source: hf.Source, checkpoint: Checkpoint) -> Family:
    content = checkpoint.read_json(CONFIG) or {}
    kind = content.get("model_type")
    if kind not in FAMILIES:
        raise EncoderError(
            f"{source.place} is of the architecture {kind!r}, which cannot be read here; "
            f"these can: {', '.join(FAMILIES)}."
        )
    return FAMILIES[kind]


def _view_kind(source: hf.Source, family: Family) -> str:
    if family.hears and source.view:
        raise EncoderError(f"{source.place} reads sound: leave out :{source.view}.")
    return "" if family.hears else source.view or "frame"


def _given_input(source: hf.Source, family: Family, checkpoint: Checkpoint) -> Mapping[str, Any]:
    given = checkpoint.read_input()
    if given is not None:
        return given
    usual = source.record.input if source.record else family.input
    if usual is None:
        raise WeightsError(
            f"{source.place} holds no {INPUT}, which says whether the network wants its sound normalised; "
            "put the checkpoint's own there."
        )
    return usual


def _check_record(source: hf.Source, record: Record, family: Family, config: Any, given: Mapping[str, Any]) -> None:
    """Refuse a folder that holds another network than its name says."""
    known = FAMILIES[record.family]
    differ: dict[str, tuple[Any, Any]]
    differ = {} if family.model == known.model else {"architecture": (family.model, known.model)}
    differ |= {
        name: (getattr(config, name, None), value)
        for name, value in record.config.items()
        if getattr(config, name, None) != value
    }
    if not differ:
        reader = _READERS[family.kind]
        want, usual = (reader(source, family, config, values) for values in (given, record.input))
        differ |= {name: (want[name], usual[name]) for name in usual if want[name] != usual[name]}
    if differ:
        sentences = ", ".join(f"{name} {found} instead of {right}" for name, (found, right) in differ.items())
        raise WeightsError(f"{source.place} is not {source.name}: it has {sentences}; name it hf:{source.place}.")


def _speech_input(source: hf.Source, family: Family, config: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a sound network wants, after making sure that it makes 50 steps of 400 samples a second."""
    hop = window = 1
    for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
        window += (kernel - 1) * hop
        hop *= stride
    if (hop, window) != (hf.HOP, hf.WINDOW) or getattr(config, "add_adapter", False):
        raise EncoderError(
            f"{source.place} makes a step of {window} samples every {hop} (adapter: "
            f"{getattr(config, 'add_adapter', False)}); only {hf.WINDOW} every {hf.HOP} without adapter can be read."
        )
    rate = given.get("sampling_rate", SOUND_RATE_HZ)
    if rate != SOUND_RATE_HZ:
        raise EncoderError(f"{source.place} wants sound at {rate} Hz; only {SOUND_RATE_HZ} Hz can be read.")
    if "do_normalize" not in given:
        raise WeightsError(f"{source.place}: {INPUT} does not say do_normalize, whether sound is normalised.")
    return {"do_normalize": bool(given["do_normalize"])}


def _mel_input(source: hf.Source, family: Family, config: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a network for mel spectra wants, after making sure that it is prepared as Whisper's are."""
    usual = {"sampling_rate": SOUND_RATE_HZ, "hop_length": hf.HOP // 2, "n_fft": hf.WINDOW, "dither": 0.0}
    usual |= {"do_normalize": False, "feature_size": config.num_mel_bins}
    usual |= {"chunk_length": config.max_source_positions * hf.HOP // SOUND_RATE_HZ}
    differ = [
        f"{name} {given[name]} instead of {right}" for name, right in usual.items() if given.get(name, right) != right
    ]
    if differ or config.max_source_positions * hf.HOP % SOUND_RATE_HZ:
        raise EncoderError(f"{source.place} wants spectra that are not Whisper's: {', '.join(differ) or 'windows'}.")
    return {"do_normalize": False, "mel_bands": config.num_mel_bins, "window_seconds": usual["chunk_length"]}


def _picture_input(source: hf.Source, family: Family, config: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a picture network wants: size, resampling and normalisation."""
    usual = cast(Mapping[str, Any], family.input)
    size = getattr(config, family.size) if family.size else _side(given, usual["size"])
    if not isinstance(size, int) or size % config.patch_size:
        raise EncoderError(f"{source.place} wants pictures of {size} px, no multiple of its {config.patch_size} px.")
    resample = given.get("resample", usual["resample"])
    if resample not in hf.RESAMPLE:
        raise EncoderError(f"{source.place} wants pictures resampled by filter {resample!r}; 2 and 3 can be had.")
    if abs(given.get("rescale_factor", 1 / 255) - 1 / 255) > 1e-9:
        raise EncoderError(f"{source.place} wants pixels times {given['rescale_factor']}; only 1/255 can be had.")
    if given.get("do_normalize", True):
        mean = tuple(given.get("image_mean") or usual["image_mean"])
        std = tuple(given.get("image_std") or usual["image_std"])
    else:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    return {"size": size, "resample": resample, "image_mean": mean, "image_std": std}


def _video_input(source: hf.Source, family: Family, config: Any, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a video network wants of each picture, after making sure that it has a last norm of its own."""
    if getattr(config, "use_mean_pooling", False):
        raise EncoderError(
            f"{source.place} has use_mean_pooling: it is fine-tuned with labels, and what it gives is not normed; take "
            "the self-supervised checkpoint."
        )
    return _picture_input(source, family, config, given)


_READERS: Mapping[Kind, Callable[[hf.Source, Family, Any, Mapping[str, Any]], dict[str, Any]]] = {
    "speech": _speech_input,
    "mel": _mel_input,
    "picture": _picture_input,
    "video": _video_input,
}
"""For each kind of network what it wants of its input, from what its checkpoint says."""


def _side(given: Mapping[str, Any], usual: int) -> Any:
    """Return the side of the square that the checkpoint's own preparation ends in."""
    size = given.get("crop_size") if given.get("do_center_crop") else None
    size = size if size is not None else given.get("size", usual)
    if isinstance(size, Mapping):
        return size.get("height", size.get("shortest_edge"))
    return size


def _card(
    source: hf.Source, family: Family, config: Any, want: Mapping[str, Any], kind: str, settings: Mapping[str, Any]
) -> Card:
    facts: dict[str, Any] = {
        "summary": f"{family.model} of {source.folder.name if source.folder else source.repository}",
        "licence": "unknown: see where the checkpoint comes from",
        "source": source.folder.name if source.folder else f"https://huggingface.co/{source.repository}",
        "weights": (WeightFile("model.safetensors", ""),),
        "self_supervised": family.self_supervised,
    }
    if source.record and family.hears:
        return hf.CARDS[source.name]
    view = hf.view_of(
        family, kind, want.get("size", 0), hf.RESAMPLE[want.get("resample", 3)], settings.get("fit", hf.FIT.default)
    )
    if source.record:
        return replace(hf.CARDS[source.name], outputs={"": Output((view,), config.hidden_size)})
    sizes = {"hidden_size": config.hidden_size, "num_hidden_layers": config.num_hidden_layers}
    return hf.card(source.name, family.kind, sizes, view, **facts)

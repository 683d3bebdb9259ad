"""Load the components of a pipeline folder that diffusers would not find, and check the ones that were loaded."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers import AutoencoderKL, ModelMixin
from torch import nn
from transformers import PreTrainedModel

from videocrafter.checkpoints.dtype_names import parse_dtype
from videocrafter.checkpoints.finite_values import describe_nonfinite
from videocrafter.diffusion.objective import PredictionType
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.knowledge import Knowledge
from videocrafter.pipelines.model_folder import (
    ModelFolderError,
    check_model_folder,
    check_weights_fit,
    component_folder,
    components_of,
    network_weights,
    read_json,
    shared_components,
)
from videocrafter.pipelines.settings import GenerationDefaults

DtypeChoice = str | torch.dtype | Mapping[str, str | torch.dtype]
"""One dtype for all networks, or a dtype by component; "default" stands for the others. Names are allowed."""

_CHECKED = ("unet", "image_projector", "text_encoder", "image_encoder")
_OWN_CONFIGS = {"unet": VideoUNet, "image_projector": ImageProjector, "vae": AutoencoderKL}
_UNUSED = ("sample_size",)
_TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
_LARGEST_NUMBER = 2**31
_LIBRARIES = ("diffusers", "transformers")
_PLAIN_DEVICE_MAPS = ("cuda", "cpu")


def resolve_dtypes(dtype: DtypeChoice | None, components: Mapping[str, Any]) -> dict[str, torch.dtype]:
    """Return dtypes by component in diffusers' form, with an entry "default"; float32 unless something else is given.

    Raises ValueError for unknown dtypes and components.
    """
    given = dict(dtype) if isinstance(dtype, Mapping) else {} if dtype is None else {"default": dtype}
    unknown = sorted(str(name) for name in given.keys() - components.keys() - {"default"})
    if unknown:
        raise ValueError(
            f"dtype names {', '.join(unknown)}, which the model does not have; expected 'default' or some of"
            f" {', '.join(components)}"
        )
    return {"default": torch.float32, **{name: parse_dtype(value) for name, value in given.items()}}


def loading_arguments(folder: Path, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments for diffusers' `from_pretrained`, for a folder that is checked here.

    Components in the folder of another model (`shared.json`), and weights in another variant than diffusers would
    choose, are loaded here with the same dtype and quantization.

    Args:
        folder: the pipeline folder.
        arguments: of `VideoPipeline.from_pretrained`.

    Raises:
        ModelFolderError: the folder is incomplete or damaged, or lacks the wanted variant.
        ValueError: an unknown dtype, or an argument that cannot be honoured.
    """
    given = dict(arguments)
    if given.pop("use_safetensors", True) is False:
        raise ValueError("use_safetensors=False loads pickles, which can run code; omit it")
    wanted = given.pop("variant", None)
    index = check_model_folder(folder, wanted)
    components = components_of(index)
    _check_configs(folder, components)
    given_dtype, named_dtype = given.pop("torch_dtype", None), given.pop("dtype", None)
    dtypes = resolve_dtypes(given_dtype if named_dtype is None else named_dtype, components)
    shared = shared_components(folder)
    variants = {name: network_weights(folder, name, wanted)[1] for name in components if _is_network(folder, name)}
    here = {variants[name] for name in variants if name not in shared and name not in given} - {None}
    usual = wanted if wanted in here else next(iter(sorted(str(name) for name in here)), None)
    for name in components:
        if name in given:
            continue
        if name in shared or (name in variants and variants[name] != _variant_of_diffusers(folder, name, usual)):
            dtype = dtypes.get(name, dtypes["default"])
            given[name] = _load_component(name, index[name], component_folder(folder, name), variants, dtype, given)
    return {**given, "dtype": dtypes, "variant": usual, "use_safetensors": True}


def check_config(folder: Path, name: str, network: type, config: Mapping[str, Any]) -> None:
    """Check the types of a network's config against the defaults of the network's arguments.

    Raises ModelFolderError that names the first wrong entry; `folder` and `name` are for the message.
    """
    for parameter in inspect.signature(network).parameters.values():
        if (
            parameter.name in config
            and parameter.name not in _UNUSED
            and not _fits(config[parameter.name], parameter.default)
        ):
            shown = str(config[parameter.name])[:80]
            raise ModelFolderError(
                f"{folder / name / 'config.json'} is damaged: {parameter.name} is {shown!r}, but it should be like"
                f" {parameter.default!r}; copy, convert or train the model again"
            )


def _fits(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int | float):
        kinds = int if isinstance(default, int) else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and abs(value) < _LARGEST_NUMBER
    if isinstance(default, str):
        return isinstance(value, str)
    if isinstance(default, list | tuple):
        return isinstance(value, list | tuple) and all(_fits(one, default[0]) for one in value if default)
    return True


def _check_configs(folder: Path, components: Mapping[str, Any]) -> None:
    for name, network in _OWN_CONFIGS.items():
        if name in components:
            check_config(folder, name, network, read_json(component_folder(folder, name) / "config.json"))
    tokens = read_json(component_folder(folder, "text_encoder") / "config.json")
    for name in _TOKENS:
        if not _fits(tokens.get(name, 0), 0):
            raise ModelFolderError(
                f"{folder / 'text_encoder' / 'config.json'} is damaged: {name} is {str(tokens[name])[:80]!r}, but it"
                " should be an integer; copy, convert or train the model again"
            )


def check_configured(defaults: Mapping[str, Any] | None, knowledge: Mapping[str, Any] | None) -> None:
    """Raise ModelFolderError when a pipeline is built, not when it is first used, if its config is wrong."""
    try:
        GenerationDefaults.from_config(defaults)
        Knowledge.from_config(knowledge)
    except (TypeError, ValueError) as error:
        raise ModelFolderError(f"the model's configuration is wrong: {error}") from error


def check_loaded(pipeline: Any, folder: Path, given: Mapping[str, Any], variant: str | None) -> None:
    """Check that the networks match their files exactly; warn about weights that are NaN or infinite.

    Args:
        pipeline: the loaded pipeline.
        folder: its folder.
        given: components that were passed instead of being loaded.
        variant: the wanted variant.

    Raises:
        ModelFolderError: the weights do not match the network.
    """
    predicts, known = pipeline.scheduler.config.get("prediction_type", "epsilon"), get_args(PredictionType)
    if predicts not in known:
        raise ModelFolderError(
            f"the scheduler in {folder} has prediction_type {predicts!r}; expected {' or '.join(known)}"
        )
    networks = {name: part for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
    for name, network in networks.items():
        if name in given:
            continue
        # Quantized networks store their weights under other names.
        if name in _CHECKED and getattr(network, "hf_quantizer", None) is None:
            files, _ = network_weights(folder, name, variant)
            check_weights_fit(component_folder(folder, name), files, list(network.state_dict()))
        found = describe_nonfinite(network.named_parameters())
        if found is not None:
            warnings.warn(
                f"the {name} of the model in {folder} is damaged or overflows in {network.dtype}: {found}; its videos"
                " will be empty or noise. Convert or train it again, or load it in float32",
                stacklevel=3,
            )


def _is_network(folder: Path, name: str) -> bool:
    return network_weights(folder, name, required=False)[0] != []


def _variant_of_diffusers(folder: Path, name: str, variant: str | None) -> str | None:
    """Return the variant of a component that diffusers loads if it is asked for one: that one, or the plain files."""
    return variant if network_weights(folder, name, variant, required=False)[1] == variant else None


def _load_component(
    name: str,
    named: tuple[str, str],
    folder: Path,
    variants: Mapping[str, str | None],
    dtype: torch.dtype,
    arguments: Mapping[str, Any],
) -> Any:
    """Load one component from its own folder; `named` is its library and class, as in a `model_index.json`."""
    library, class_name = named
    if library not in _LIBRARIES and not library.startswith("videocrafter.models."):
        raise ModelFolderError(f"{folder} is a {library} {class_name}; expected a class of {' or '.join(_LIBRARIES)}")
    loader = getattr(importlib.import_module(library), class_name)
    options: dict[str, Any] = {"local_files_only": True}
    if issubclass(loader, ModelMixin | PreTrainedModel):
        is_diffusers = issubclass(loader, ModelMixin)
        options |= {"torch_dtype" if is_diffusers else "dtype": dtype, "use_safetensors": True}
        options |= {"variant": variants[name]} if variants.get(name) is not None else {}
        options |= _placement(name, arguments)
        quantization = arguments.get("quantization_config")
        if quantization is not None:
            resolved = quantization._resolve_quant_config(is_diffusers=is_diffusers, module_name=name)
            options |= {} if resolved is None else {"quantization_config": resolved}
    return loader.from_pretrained(folder, **options)


def _placement(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments about memory and devices for a component that is loaded here."""
    device_map = arguments.get("device_map")
    if device_map is not None and device_map not in _PLAIN_DEVICE_MAPS:
        raise ValueError(
            f"device_map={device_map!r} cannot place the {name}, whose files are in another model or variant; use"
            f" {' or '.join(map(repr, _PLAIN_DEVICE_MAPS))}, or omit it"
        )
    names = ("device_map", "low_cpu_mem_usage")
    return {option: arguments[option] for option in names if arguments.get(option) is not None}

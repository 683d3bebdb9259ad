"""Read the configs of a pipeline folder as an official model; reject what the official format cannot express."""

from __future__ import annotations

import inspect
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from videocrafter.checkpoints.official.meta_networks import OFFICIAL_BLOCKS
from videocrafter.checkpoints.official.official_model import NUM_TRAIN_TIMESTEPS, OfficialModel
from videocrafter.checkpoints.official.unet_config import HEADS_AFTER_INPUT
from videocrafter.checkpoints.official.vae_keys import LATENT_SCALE
from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.diffusion.schedule import linear_betas
from videocrafter.media.json_file import read_json_object
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet
from videocrafter.presets import MODEL_INDEX

_NORM_GROUPS = 32
# Config values that are fixed in the official format, by part.
_CONSTANTS: Mapping[str, Mapping[str, Any]] = {
    "unet": {"norm_groups": _NORM_GROUPS, "frame_text_condition": False, "place_condition": False},
    "vae": {
        "norm_num_groups": _NORM_GROUPS,
        "in_channels": 3,
        "out_channels": 3,
        "shift_factor": None,
        "act_fn": "silu",
        "mid_block_add_attention": True,
        "use_quant_conv": True,
        "use_post_quant_conv": True,
    },
    "text_encoder": {"hidden_act": "gelu", "pad_token_id": 0, "zero_padding": False, "layer_norm_eps": 1e-5},
    "image_encoder": {"hidden_act": "gelu", "num_channels": 3, "layer_norm_eps": 1e-5},
    "image_projector": {"image_tokens": "patches"},
}
# Defaults of entries that configs of transformers omit.
_ABSENT: Mapping[str, Any] = {
    "zero_padding": False,
    "num_channels": 3,
    "layer_norm_eps": 1e-5,
    "image_tokens": "patches",
}
_PIPELINES = ("TextToVideoPipeline", "ImageToVideoPipeline")
_BETA_TOLERANCE = 1e-5


def read_folder_configs(folder: Path, scale_length: int | None) -> tuple[OfficialModel, list[str]]:
    """Read the configs of a pipeline folder.

    Args:
        folder: holds model_index.json.
        scale_length: number of entries of the signal-scale buffer in the checkpoint that the folder was converted
            from; None takes the length of the schedule.

    Returns:
        The model, and notes about settings or behaviour that differ in the official code.

    Raises:
        ValueError: a config is missing or damaged, or has a value that the official format cannot express.
    """
    index = read_json_object(folder / MODEL_INDEX)
    if index.get("_class_name") not in _PIPELINES:
        raise ValueError(f"its pipeline is {index.get('_class_name')!r}; expected {' or '.join(_PIPELINES)}")
    has_image_branch = index["_class_name"] == "ImageToVideoPipeline"
    parts = ["unet", "vae", "text_encoder", *(["image_encoder", "image_projector"] if has_image_branch else [])]
    configs = {part: read_json_object(folder / part / "config.json") for part in parts}
    configs["unet"] = _arguments(VideoUNet, configs["unet"])
    # Autoencoders from other sources may have older configs with fewer entries.
    configs["vae"] = _arguments(AutoencoderKL, configs["vae"])
    for part, constants in _CONSTANTS.items():
        if part in configs:
            _check_constants(part, configs[part], constants)
    unet = configs["unet"]
    if unet["initial_temporal_heads"] not in (0, HEADS_AFTER_INPUT):
        raise ValueError(
            f"unet: initial_temporal_heads is {unet['initial_temporal_heads']}; the official format supports only"
            f" {HEADS_AFTER_INPUT} and 0"
        )
    scale = index.get("signal_scale")
    _check_sampling(read_json_object(folder / "scheduler" / "scheduler_config.json"), scale)
    text = configs["text_encoder"]
    model = OfficialModel(
        unet=unet,
        vae=configs["vae"],
        text_encoder=_without_private(text),
        image_encoder=_without_private(configs["image_encoder"]) if has_image_branch else None,
        image_projector=(
            _arguments(ImageProjector, configs["image_projector"], _CONSTANTS["image_projector"])
            if has_image_branch
            else None
        ),
        text_blocks=text.get(OFFICIAL_BLOCKS, text["num_hidden_layers"] + 1),
        signal_scale=scale,
        signal_scale_length=None if scale is None else scale_length or NUM_TRAIN_TIMESTEPS,
    )
    return model, _notes(model)


def _notes(model: OfficialModel) -> list[str]:
    notes = []
    if model.vae["scaling_factor"] != LATENT_SCALE:
        notes.append(f"set scale_factor: {model.vae['scaling_factor']:g} in its official config")
    if not model.unet["temporal_layers_on_images"]:
        notes.append("the official code also runs the temporal layers on single frames; this model does not")
    return notes


def _check_constants(part: str, config: Mapping[str, Any], constants: Mapping[str, Any]) -> None:
    for name, needed in constants.items():
        value = config.get(name, _ABSENT.get(name))
        if value != needed:
            raise ValueError(
                f"{part}: {name} is {value!r}, but the official format supports only {needed!r}; this model cannot be"
                " converted to it"
            )


def _check_sampling(config: Mapping[str, Any], scale: float | None) -> None:
    """Check that the model predicts noise on the paper's schedule, the only sampling in the official code."""
    prediction = config.get("prediction_type", "epsilon")
    if prediction != "epsilon":
        raise ValueError(
            f"scheduler: the model predicts {prediction!r}, but the official format supports only 'epsilon'"
        )
    wanted = torch.tensor(OfficialDDIMScheduler(signal_scale=1.0 if scale is None else scale).config.trained_betas)
    betas = _betas(config)
    if (
        betas is None
        or betas.shape != wanted.shape
        or not torch.allclose(betas, wanted, rtol=0, atol=_BETA_TOLERANCE)
    ):
        raise ValueError(
            "scheduler: the model's noise schedule is not the paper's, which is the only one that the official format"
            " supports"
        )


def _betas(config: Mapping[str, Any]) -> torch.Tensor | None:
    """Return the betas of a scheduler's config; None for a schedule that cannot be the paper's."""
    if config.get("trained_betas") is not None:
        return torch.tensor(config["trained_betas"])
    if config.get("_class_name") == OfficialDDIMScheduler.__name__:
        return torch.tensor(OfficialDDIMScheduler(signal_scale=config.get("signal_scale", 1.0)).config.trained_betas)
    if config.get("beta_schedule") != "scaled_linear":
        return None
    steps = config.get("num_train_timesteps", NUM_TRAIN_TIMESTEPS)
    return linear_betas(steps, config.get("beta_start", 1e-4), config.get("beta_end", 2e-2)).float()


def _arguments(network: type, config: Mapping[str, Any], fixed: Container[str] = ()) -> dict[str, Any]:
    """Return all arguments of a network from its config, with the network's defaults for missing entries.

    Args:
        fixed: arguments to leave out.
    """
    parameters = inspect.signature(network).parameters.values()
    given = {one.name: config.get(one.name, one.default) for one in parameters if one.name not in fixed}
    return {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}


def _without_private(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the entries that transformers adds for itself."""
    foreign = ("architectures", "dtype", "torch_dtype", "model_type", "transformers_version", OFFICIAL_BLOCKS)
    return {name: value for name, value in config.items() if not name.startswith("_") and name not in foreign}

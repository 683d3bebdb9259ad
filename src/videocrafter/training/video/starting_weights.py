"""Where a stage's networks come from: the pipeline it starts from, other runs, or the models in the package."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from transformers import CLIPTextModel

from videocrafter.checkpoints.hub.obtain import obtain_model
from videocrafter.models.autoencoder import spatial_factor
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.model_folder import ModelFolderError, component_folder, tensor_names
from videocrafter.presets import PRESETS, ModelPreset
from videocrafter.training.config import RecipeConfig, SettingsError

_log = logging.getLogger(__name__)


def start_folder(recipe: RecipeConfig) -> Path | None:
    """What the first stage starts from: a folder, or a model that is known by name, fetched if need be.

    Raises:
        SettingsError: there is no such start, it is damaged, or it cannot be fetched.
    """
    if recipe.init is None:
        return None
    preset = PRESETS.get(recipe.init)
    if preset is not None and not preset.is_installed:
        folder = _obtained(preset)
    else:
        folder = preset.folder if preset is not None and preset.folder is not None else Path(recipe.init)
    if not folder.is_dir():
        raise SettingsError(
            f"init is {recipe.init!r}, which is neither a folder nor a model's name; give a pipeline folder, such as "
            "RUN/final, or a name that `videocrafter models` lists"
        )
    try:
        check_whole(folder)
    except ModelFolderError as error:
        raise SettingsError(f"init is {recipe.init!r}, but {error}; give a whole copy of that folder") from error
    return folder


def _obtained(preset: ModelPreset) -> Path:
    """The folder of a model that does not ship, fetched and converted if that was never done."""
    try:
        return obtain_model(preset.name, preset.task, notify=_log.info)
    except ValueError as error:
        raise SettingsError(f"init is {preset.name!r}: {error}") from error


def part_folder(start: Path | None, folder: str, name: str) -> Path:
    """The folder of one frozen part: in the pipeline that the stage starts from, or else in `folder`.

    Args:
        start: pipeline folder of the stage before, if any.
        folder: `final` folder of another run, or the name of a model that the package brings.
        name: "vae", "tokenizer", "text_encoder" or "image_encoder".

    Raises:
        ValueError: neither holds the part, or its weights are damaged.
    """
    if start is not None and (start / name).is_dir():
        return component_folder(start, name)
    preset = PRESETS.get(folder)
    source = preset.folder if preset is not None and preset.folder is not None else Path(folder)
    option = "autoencoder" if name == "vae" else "towers"
    if not (source / name).is_dir():
        raise ValueError(
            f"this stage needs a trained {name}, and {str(source)!r} holds none; name the `final` folder of a "
            f"finished run that does with --set stages.*.task.{option}=FOLDER"
        )
    try:
        found = component_folder(source, name)
        check_whole(found)
    except ModelFolderError as error:
        raise ValueError(f"{error}; name a whole folder with --set stages.*.task.{option}=FOLDER") from error
    return found


def check_whole(folder: Path) -> None:
    """Look at the header and the size of every weights file below a folder.

    Raises:
        ModelFolderError: one of them is damaged.
    """
    for path in sorted(folder.rglob("*.safetensors")):
        tensor_names(path)


def starting_network(start: Path | None, config: Mapping[str, Any], *, image_branch: bool) -> VideoUNet:
    """The video network that a stage begins with: `start`'s, given an image branch where it has none, or a new one.

    Args:
        config: of a new network; with a new image branch, also of `start`'s.

    Raises:
        ValueError: the network in `start` is another than `config` describes.
    """
    if start is None or not (start / "unet").is_dir():
        return VideoUNet(**config, image_cross_attention=image_branch)
    trained = VideoUNet.from_pretrained(start / "unet", torch_dtype=torch.float32)
    if not image_branch or trained.config["image_cross_attention"]:
        return trained
    try:
        return with_image_branch(trained, config)
    except RuntimeError as error:
        raise ValueError(f"the network in {start} is not the one of this stage's task.network: {error}") from error
    except KeyError as error:
        raise ValueError(f"the network in {start} lacks {error}; give both stages the same task.network") from error


def with_image_branch(trained: VideoUNet, config: Mapping[str, Any] | None = None) -> VideoUNet:
    """A copy of a network with an image branch that knows what the text's branch knows.

    W'k and W'v start as the text's mappings: what the network understands already. Then only the projector has to
    learn to speak, and every layer tells it how.

    Args:
        config: of the new network but for the branch; None takes that of `trained`.

    Raises:
        KeyError: `trained` lacks a mapping that the new network needs.
        RuntimeError: the configs do not fit.
    """
    if config is None:
        names = inspect.signature(VideoUNet.__init__).parameters
        config = {name: value for name, value in trained.config.items() if name in names}
    network = VideoUNet(**{**config, "image_cross_attention": True})
    weights = trained.state_dict()
    for name in network.state_dict().keys() - weights.keys():
        of_text = name.replace("to_k_image", "to_k").replace("to_v_image", "to_v")
        weights[name] = weights[of_text].clone()
    network.load_state_dict(weights)
    return network


def check_fit(network: VideoUNet, vae: AutoencoderKL, text_encoder: CLIPTextModel, height: int, width: int) -> None:
    """Find out before the first step whether a stage's networks and its frames (in pixels) go together.

    Raises:
        ValueError: they do not; the message names the setting.
    """
    channels, text_width = vae.config.latent_channels, text_encoder.config.hidden_size
    if network.config["in_channels"] != channels:
        raise ValueError(
            f"the autoencoder's latents have {channels} channels, task.network.in_channels is "
            f"{network.config['in_channels']}; set in_channels and out_channels to {channels}, or give another "
            "task.autoencoder"
        )
    if network.config["context_dim"] != text_width:
        raise ValueError(
            f"the text tower is {text_width} wide, task.network.context_dim is {network.config['context_dim']}; "
            f"set it to {text_width}, or give another task.towers"
        )
    multiple = spatial_factor(vae) * network.size_multiple
    if height % multiple or width % multiple:
        raise ValueError(
            f"task.world is {height} pixels high and {width} wide; this autoencoder and network take multiples "
            f"of {multiple}"
        )

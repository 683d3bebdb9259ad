"""Find or create the networks that a stage starts from: its start, another run, a shipped model, or new ones."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel, CLIPVisionModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from videocrafter.checkpoints.hub.obtain import obtain_model
from videocrafter.checkpoints.stable_diffusion.initialisation import video_unet_from_sd
from videocrafter.checkpoints.weight_files import choose_weights
from videocrafter.diffusion.schedulers import build_scheduler
from videocrafter.media.home_folder import expand_home
from videocrafter.models.autoencoder import spatial_factor
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.loading import LOADING_ERRORS
from videocrafter.pipelines.model_folder import ModelFolderError, component_folder, read_json, tensor_names
from videocrafter.presets import (
    FAMILIES,
    LORA_FILE,
    MODEL_INDEX,
    PRESETS,
    SHIPPED_JUDGE,
    ModelPreset,
    folder_hint,
    is_run_folder,
    result_of_run,
)
from videocrafter.training.config import RecipeConfig, SettingsError

_log = logging.getLogger(__name__)
_TOWERS: Mapping[str, Any] = {"text_encoder": CLIPTextModel, "image_encoder": CLIPVisionModel}
_CLASSES: Mapping[str, Any] = {
    "vae": AutoencoderKL,
    "unet": VideoUNet,
    "image_projector": ImageProjector,
    **_TOWERS,
}
_PARTS = ("tokenizer", *_CLASSES)


def start_folder(recipe: RecipeConfig) -> Path | None:
    """Return the folder that the first stage starts from; a model given by name is downloaded if necessary.

    Raises:
        SettingsError: there is no such start, it is damaged, or it cannot be downloaded.
    """
    if recipe.init is None:
        return None
    preset = PRESETS.get(recipe.init)
    if preset is not None and not preset.is_installed:
        folder = _obtained(preset)
    else:
        try:
            folder = named_folder(recipe.init)
        except ValueError as error:
            raise SettingsError(f"init is {recipe.init!r}, but {error}") from error
    if recipe.init in FAMILIES:
        names = [name for name, one in PRESETS.items() if one.is_installed] or FAMILIES[recipe.init].values()
        raise SettingsError(
            f"init is {recipe.init!r}, which stands for several models; name one of {', '.join(names)}"
        )
    if not folder.is_dir():
        raise SettingsError(
            f"init is {recipe.init!r}, which is neither a folder nor a model's name; give a pipeline folder, a "
            "training run, or a name that `videocrafter models` lists"
        )
    if preset is None and folder not in (Path(recipe.init), SHIPPED_JUDGE):
        _log.info("%s is a training run; starting from its result, %s", recipe.init, folder)
    if not _may_be_start(folder) and (hint := folder_hint(folder)):
        raise SettingsError(f"init is {recipe.init!r}, which is not a pipeline folder: {hint}")
    try:
        check_whole(folder)
    except ModelFolderError as error:
        raise SettingsError(f"init is {recipe.init!r}, but {error}; use a complete copy of that folder") from error
    return folder


def named_folder(name: str) -> Path:
    """Return the folder that a setting names: that of a shipped model or of the judge, or a path.

    A training run's is its result.

    Raises:
        ValueError: the training run has no result yet.
    """
    preset = PRESETS.get(name)
    if preset is not None and preset.folder is not None:
        return preset.folder
    if name == SHIPPED_JUDGE.name:
        return SHIPPED_JUDGE
    path = expand_home(name)
    return result_of_run(path) if is_run_folder(path) else path


def model_folder(name: str) -> Path:
    """Return the pipeline folder that a setting names; a model given by name is downloaded if necessary.

    Raises:
        ValueError: the pipeline does not exist or cannot be downloaded.
    """
    preset = PRESETS.get(name)
    folder = _obtained(preset) if preset is not None and not preset.is_installed else named_folder(name)
    if not (folder / MODEL_INDEX).is_file():
        hint = folder_hint(folder) or "give a pipeline folder, a training run, or a model's name"
        raise ValueError(f"{name!r} is not a pipeline: {hint}")
    return folder


def _may_be_start(folder: Path) -> bool:
    """Whether a folder is a pipeline, holds some of its parts, or was written by a training run of any kind."""
    if (folder / MODEL_INDEX).is_file() or any((folder / part).is_dir() for part in _PARTS):
        return True
    is_lora = (folder / LORA_FILE).is_file()
    return not is_lora and any(is_run_folder(parent) for parent in (folder.parent, folder.parent.parent))


def _obtained(preset: ModelPreset) -> Path:
    """Return the folder of a model that does not ship; download and convert it on first use."""
    try:
        return obtain_model(preset.name, preset.task, notify=_log.info)
    except ValueError as error:
        raise SettingsError(f"init is {preset.name!r}: {error}") from error


class NetworkSource(Protocol):
    """The start of a stage, and other folders for the parts that it lacks; with weights, or on the meta device.

    Attributes:
        device: device on which new networks are created.
    """

    device: torch.device

    def has(self, part: str) -> bool:
        """Whether the start holds a part."""

    def network(self, part: str, elsewhere: str | None = None) -> Any:
        """Return a network of the start.

        Args:
            part: name in a pipeline folder.
            elsewhere: where the network comes from if the start has none; see `part_folder`.

        Raises:
            ValueError: neither holds the part, or its files are damaged.
        """

    def tokenizer(self, elsewhere: str) -> PreTrainedTokenizerBase:
        """Return the tokenizer; arguments and errors as for `network`."""


class FolderNetworks:
    """A `NetworkSource` of networks with weights, in float32 on the CPU.

    Args:
        start: pipeline folder of the stage before, if any.
    """

    device = torch.device("cpu")

    def __init__(self, start: Path | None) -> None:
        self._start = start

    def noise_schedule(self) -> Tensor:
        """Return ``alpha_bar`` of the start's scheduler, [training timesteps]."""
        assert self._start is not None
        config = read_json(component_folder(self._start, "scheduler") / "scheduler_config.json")
        return build_scheduler("ddim", config).alphas_cumprod

    def has(self, part: str) -> bool:
        """Whether the start's folder holds a part."""
        return self._start is not None and (self._start / part).is_dir()

    def network(self, part: str, elsewhere: str | None = None) -> Any:
        """Load a network."""
        folder = self._folder(part, elsewhere)
        _, variant = choose_weights(folder, part)
        # transformers and diffusers call it differently. The shipped models are stored in half precision.
        keyword = "dtype" if part in _TOWERS else "torch_dtype"
        try:
            kind = UNet2DConditionModel if part == "unet" and _is_image_network(folder) else _CLASSES[part]
            return kind.from_pretrained(folder, variant=variant, **{keyword: torch.float32})
        except LOADING_ERRORS as error:
            reason = " ".join(str(error).split())[:200]
            raise ValueError(f"the {part} in {folder} cannot be loaded: {reason}") from error

    def tokenizer(self, elsewhere: str | None = None) -> PreTrainedTokenizerBase:
        """Load the tokenizer."""
        tokenizer: PreTrainedTokenizerBase = PreTrainedTokenizerFast.from_pretrained(
            self._folder("tokenizer", elsewhere)
        )
        return tokenizer

    def _folder(self, part: str, elsewhere: str | None) -> Path:
        if elsewhere is not None:
            return part_folder(self._start, elsewhere, part)
        assert self._start is not None
        return component_folder(self._start, part)


def _is_image_network(folder: Path) -> bool:
    return UNet2DConditionModel.load_config(folder).get("_class_name") == UNet2DConditionModel.__name__


def part_folder(start: Path | None, folder: str, name: str) -> Path:
    """Return the folder of one frozen part: in the stage's start, or else in `folder`.

    Args:
        start: pipeline folder of the stage before, if any.
        folder: another run, or its `final` folder, or the name of a shipped model.
        name: "vae", "tokenizer", "text_encoder" or "image_encoder".

    Raises:
        ValueError: neither holds the part, or its weights are damaged.
    """
    if start is not None and (start / name).is_dir():
        return component_folder(start, name)
    source = named_folder(folder)
    option = "autoencoder" if name == "vae" else "towers"
    if not (source / name).is_dir():
        raise ValueError(
            f"this stage needs a trained {name}, and {str(source)!r} holds none; pass "
            f"--set stages.*.task.{option}=FOLDER, a finished run that has one"
        )
    try:
        found = component_folder(source, name)
        check_whole(found)
    except ModelFolderError as error:
        raise ValueError(f"{error}; pass a complete folder with --set stages.*.task.{option}=FOLDER") from error
    return found


def check_whole(folder: Path) -> None:
    """Check the header and the size of every weights file below a folder.

    Raises:
        ModelFolderError: one of them is damaged.
    """
    for path in sorted(folder.rglob("*.safetensors")):
        tensor_names(path)


def starting_network(source: NetworkSource, config: Mapping[str, Any], *, image_branch: bool) -> VideoUNet:
    """Return the video network that a stage begins with: the start's, or a new one.

    Args:
        config: of a new network. If the start's network is Stable Diffusion's, or lacks an image branch that is asked
            for, it gets the missing parts and must have this config.
        image_branch: whether the stage uses images.

    Raises:
        ValueError: the start's network does not have the given config.
    """
    if not source.has("unet"):
        with source.device:
            return VideoUNet(**config, image_cross_attention=image_branch)
    trained: VideoUNet | UNet2DConditionModel = source.network("unet")
    if isinstance(trained, UNet2DConditionModel):
        trained = _inflated(trained, config)
    if not image_branch or trained.config["image_cross_attention"]:
        return trained
    try:
        return with_image_branch(trained, config)
    except RuntimeError as error:
        raise ValueError(f"the start's network does not have the config of task.network: {error}") from error
    except KeyError as error:
        raise ValueError(f"the start's network lacks {error}; give both stages the same task.network") from error


def _inflated(trained: UNet2DConditionModel, config: Mapping[str, Any]) -> VideoUNet:
    """Return a network with this config that computes for each frame what the image network computes."""
    try:
        return video_unet_from_sd(trained.state_dict(), config)
    except ValueError as error:
        raise ValueError(f"the start's image network does not fit task.network: {error}") from error


def with_image_branch(trained: VideoUNet, config: Mapping[str, Any] | None = None) -> VideoUNet:
    """Return a copy of a network with an image branch, on the same device.

    W'k and W'v start as copies of the text's mappings, which the network already understands, so that only the
    projector is trained from scratch.

    Args:
        config: of the new network, without the branch; None takes that of `trained`.

    Raises:
        KeyError: `trained` lacks a mapping that the new network needs.
        RuntimeError: the configs do not fit.
    """
    if config is None:
        names = inspect.signature(VideoUNet.__init__).parameters
        config = {name: value for name, value in trained.config.items() if name in names}
    with trained.device:
        network = VideoUNet(**{**config, "image_cross_attention": True})
    weights = trained.state_dict()
    for name in network.state_dict().keys() - weights.keys():
        of_text = name.replace("to_k_image", "to_k").replace("to_v_image", "to_v")
        weights[name] = weights[of_text].clone()
    network.load_state_dict(weights)
    return network


def check_fit(network: VideoUNet, vae: AutoencoderKL, text_encoder: CLIPTextModel, height: int, width: int) -> None:
    """Check before the first step that a stage's networks and the size of its frames (in pixels) fit together.

    Raises:
        ValueError: they do not; the message names the setting.
    """
    channels, text_width = vae.config.latent_channels, text_encoder.config.hidden_size
    if network.config["in_channels"] != channels:
        raise ValueError(
            f"the autoencoder's latents have {channels} channels, but task.network.in_channels is "
            f"{network.config['in_channels']}; set in_channels and out_channels to {channels}, or give another "
            "task.autoencoder"
        )
    if network.config["context_dim"] != text_width:
        raise ValueError(
            f"the text tower is {text_width} wide, but task.network.context_dim is {network.config['context_dim']}; "
            f"set it to {text_width}, or give another task.towers"
        )
    multiple = spatial_factor(vae) * network.size_multiple
    if height % multiple or width % multiple:
        raise ValueError(f"task.world is {height} pixels high and {width} wide; both must be multiples of {multiple}")

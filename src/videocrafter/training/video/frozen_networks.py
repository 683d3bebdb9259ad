"""The frozen networks in front of the video network, loaded when they are first needed.

Until then, networks of the same configuration on the meta device take their place, so that a pipeline can be built,
asked for its sizes and saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import nn
from transformers import CLIPTextModel, CLIPVisionModel, PreTrainedTokenizerBase

from videocrafter.checkpoints.weight_files import choose_weights
from videocrafter.pipelines.loading import LOADING_ERRORS
from videocrafter.pipelines.model_folder import (
    PIPELINE_TASKS,
    ModelFolderError,
    check_weights_fit,
    component_folder,
    read_model_index,
    tensor_names,
)
from videocrafter.training.parallel.precision import emulates_bf16
from videocrafter.training.video.meta_networks import network_in
from videocrafter.training.video.phases import IMAGE_PHASES, Phase
from videocrafter.training.video.starting_pipeline import (
    FROZEN_PARTS,
    AnyPipeline,
    image_tower_folder,
    is_whole_clip,
)
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig, WeightPrecision

WEIGHT_DTYPES: dict[WeightPrecision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}

_CLASSES = {"vae": AutoencoderKL, "text_encoder": CLIPTextModel, "image_encoder": CLIPVisionModel}


class FrozenNetworks:
    """The autoencoder, the text encoder, and the image encoder where there is one.

    Args:
        folders: folders of the frozen parts, by their names in a pipeline folder; may include the tokenizer's.
        device, precision: device and precision in which they run; "auto" must have been resolved.
        stay: keep the networks on the device once they are there. Otherwise `park` moves them off it.

    Attributes:
        folders: as given.
    """

    def __init__(
        self, folders: Mapping[str, Path], device: torch.device, precision: WeightPrecision, *, stay: bool = True
    ) -> None:
        self.folders = dict(folders)
        self._device, self._dtype, self._stay = device, WEIGHT_DTYPES[precision], stay
        self._networks = {
            name: network_in(name, folders[name]).requires_grad_(False).eval() for name in _CLASSES if name in folders
        }
        self._pipeline: AnyPipeline | None = None
        self._loaded = self._on_device = False

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """The networks by name; on the meta device until `bring` is called."""
        return self._networks

    def belong_to(self, pipeline: AnyPipeline) -> None:
        """Register the networks with a pipeline, now and again when they are loaded."""
        self._pipeline = pipeline
        pipeline.register_modules(**self._networks)

    def bring(self) -> Mapping[str, nn.Module]:
        """Return the networks on the device, and load them if this is the first call.

        Raises:
            ValueError: the files of a network are damaged or belong to another network; one line.
        """
        if not self._loaded:
            self._networks = {
                name: _read(name, self.folders[name], self._dtype).requires_grad_(False).eval()
                for name in self._networks
            }
            self._loaded = True
            if self._pipeline is not None:
                self._pipeline.register_modules(**self._networks)
        if not self._on_device:
            for network in self._networks.values():
                network.to(self._device)
            self._on_device = True
        return self._networks

    def park(self) -> None:
        """Move the networks off the device, unless they are to stay."""
        if self._stay or not self._on_device or self._device.type == "cpu":
            return
        for network in self._networks.values():
            network.to("cpu")
        self._on_device = False
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def on_device(self) -> Iterator[None]:
        """Hold the networks on the device within the context; park them afterwards if they were parked before."""
        was_on_device = self._on_device
        self.bring()
        try:
            yield
        finally:
            if not was_on_device:
                self.park()


def settle_weights(config: ClipDiffusionTaskConfig, device: torch.device) -> ClipDiffusionTaskConfig:
    """Return the config with "auto" weight precisions resolved for a device."""
    best: WeightPrecision = "fp32" if device.type == "cpu" and emulates_bf16() else "bf16"
    return replace(
        config,
        frozen_weights=best if config.frozen_weights == "auto" else config.frozen_weights,
        base_weights=best if config.base_weights == "auto" else config.base_weights,
    )


def frozen_folders(start: Path, phase: Phase, tower: Path | None) -> dict[str, Path]:
    """Return the folders of a stage's frozen parts, by the parts' names; load nothing.

    Args:
        start: the pipeline folder that the stage starts from.
        tower: CLIP's image encoder, for an image phase whose start has no image branch.

    Raises:
        ValueError: there is no such start, or no such image encoder.
    """
    takes_image = PIPELINE_TASKS[read_model_index(start)["_class_name"]] == "i2v"
    found = {name: component_folder(start, name) for name in FROZEN_PARTS if (start / name).is_dir()}
    if tower is not None and phase in IMAGE_PHASES and not takes_image:
        found["image_encoder"] = image_tower_folder(tower)
    return found


def read_tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    """Load a tokenizer.

    Args:
        name: its class in transformers, as a pipeline folder's index names it.
    """
    tokenizer: PreTrainedTokenizerBase = getattr(transformers, name).from_pretrained(folder, local_files_only=True)
    return tokenizer


def _read(name: str, folder: Path, dtype: torch.dtype) -> nn.Module:
    keyword = "torch_dtype" if name == "vae" else "dtype"
    try:
        # A cache decides when this happens; it must not change the random numbers that training draws afterwards.
        with torch.random.fork_rng(devices=[]):
            files, variant = choose_weights(folder, name)
            network: nn.Module = _CLASSES[name].from_pretrained(
                folder, local_files_only=True, use_safetensors=True, variant=variant, **{keyword: dtype}
            )
    except LOADING_ERRORS as error:
        raise ValueError(f"the {name} in {folder} cannot be loaded: {' '.join(str(error).split())[:200]}") from error
    names = list(network.state_dict())
    if name == "image_encoder" and is_whole_clip(folder):
        _check_vision_weights(folder, names)
    elif name != "vae":
        check_weights_fit(folder, files, names)
    return network


def _check_vision_weights(folder: Path, expected: list[str]) -> None:
    """Check that a whole CLIP holds the weights of its image encoder; those that are missing would be random."""
    stored = {
        name.removeprefix("vision_model.")
        for path in folder.glob("*.safetensors")
        for name in tensor_names(path)
        if name.startswith("vision_model.")
    }
    missing = sorted({name.removeprefix("vision_model.") for name in expected} - stored)
    if missing:
        raise ModelFolderError(
            f"the CLIP in {folder} lacks {len(missing)} tensors, vision_model.{missing[0]} among them"
        )

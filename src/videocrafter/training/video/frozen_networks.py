"""The frozen networks in front of the video network: read when first needed, out of the way when they are not.

Until then networks of the same configuration without weights stand in their place, so that a pipeline can be made,
asked for its sizes and saved.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
import transformers
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextModel, CLIPVisionModel, PreTrainedTokenizerBase

from videocrafter.pipelines.model_folder import (
    PIPELINE_TASKS,
    check_weights_fit,
    component_folder,
    read_model_index,
)
from videocrafter.training.parallel.precision import emulates_bf16
from videocrafter.training.video.phases import Phase
from videocrafter.training.video.starting_pipeline import FROZEN_PARTS, AnyPipeline, image_tower_folder
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig, WeightPrecision

WEIGHT_DTYPES: dict[WeightPrecision, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}

IMAGE_PHASES = ("image_mapping", "image_to_video")

_CLASSES = {"vae": AutoencoderKL, "text_encoder": CLIPTextModel, "image_encoder": CLIPVisionModel}


class FrozenNetworks:
    """The autoencoder, the text tower, and the image tower where there is one.

    Args:
        folders: where their files are, by their names in a pipeline folder.
        device, precision: where and in which precision they run; "auto" must have been settled.
        stay: whether they stay on the device once they are there; else `park` takes them away.
    """

    def __init__(
        self, folders: Mapping[str, Path], device: torch.device, precision: WeightPrecision, *, stay: bool = True
    ) -> None:
        self._folders = {name: folders[name] for name in _CLASSES if name in folders}
        self._device, self._dtype, self._stay = device, WEIGHT_DTYPES[precision], stay
        self._networks = {name: _without_weights(name, folder) for name, folder in self._folders.items()}
        self._pipeline: AnyPipeline | None = None
        self._read = self._here = False

    @property
    def networks(self) -> Mapping[str, nn.Module]:
        """By name; without weights until `bring` was called."""
        return self._networks

    def belong_to(self, pipeline: AnyPipeline) -> None:
        """Put the networks into a pipeline, now or when they are read."""
        self._pipeline = pipeline
        pipeline.register_modules(**self._networks)

    def bring(self) -> Mapping[str, nn.Module]:
        """The networks on the device, read if that was never done.

        Raises:
            ValueError: the files of one are damaged, or are not its; one line.
        """
        if not self._read:
            self._networks = {
                name: _read(name, folder, self._dtype).requires_grad_(False).eval()
                for name, folder in self._folders.items()
            }
            self._read = True
            if self._pipeline is not None:
                self._pipeline.register_modules(**self._networks)
        if not self._here:
            for network in self._networks.values():
                network.to(self._device)
            self._here = True
        return self._networks

    def park(self) -> None:
        """Take the networks off the device, unless they shall stay."""
        if self._stay or not self._here or self._device.type == "cpu":
            return
        for network in self._networks.values():
            network.to("cpu")
        self._here = False
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    @contextmanager
    def at_hand(self) -> Iterator[None]:
        """The networks are on the device, and where they were afterwards."""
        was_here = self._here
        self.bring()
        try:
            yield
        finally:
            if not was_here:
                self.park()


def settle_weights(config: ClipDiffusionTaskConfig, device: torch.device) -> ClipDiffusionTaskConfig:
    """The configuration with what "auto" weights are on a device."""
    best: WeightPrecision = "fp32" if device.type == "cpu" and emulates_bf16() else "bf16"
    return replace(
        config,
        frozen_weights=best if config.frozen_weights == "auto" else config.frozen_weights,
        base_weights=best if config.base_weights == "auto" else config.base_weights,
    )


def frozen_folders(start: Path, phase: Phase, tower: Path | None) -> dict[str, Path]:
    """Where the files of a stage's frozen parts are, by the parts' names; nothing is loaded.

    Args:
        start: the pipeline folder that it starts from.
        tower: CLIP's image tower, for a phase with images and a start that takes none.

    Raises:
        ValueError: there is no such start, or no such tower.
    """
    takes_image = PIPELINE_TASKS[read_model_index(start)["_class_name"]] == "i2v"
    found = {name: component_folder(start, name) for name in FROZEN_PARTS if (start / name).is_dir()}
    if tower is not None and phase in IMAGE_PHASES and not takes_image:
        found["image_encoder"] = image_tower_folder(tower)
    return found


def read_tokenizer(folder: Path, name: str) -> PreTrainedTokenizerBase:
    """A tokenizer of transformers.

    Args:
        name: of its class, as a pipeline folder's index has it.
    """
    tokenizer: PreTrainedTokenizerBase = getattr(transformers, name).from_pretrained(folder, local_files_only=True)
    return tokenizer


def _without_weights(name: str, folder: Path) -> nn.Module:
    network = _CLASSES[name]
    try:
        with torch.device("meta"):
            if name == "vae":
                made: nn.Module = network.from_config(network.load_config(folder, local_files_only=True))
            else:
                made = network(network.config_class.from_pretrained(folder, local_files_only=True))
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"the {name} in {folder} cannot be read: {_one_line(error)}") from error
    return made.requires_grad_(False).eval()


def _read(name: str, folder: Path, dtype: torch.dtype) -> nn.Module:
    keyword = "torch_dtype" if name == "vae" else "dtype"
    try:
        # When that happens depends on what a cache holds, and must not change what is drawn afterwards.
        with torch.random.fork_rng(devices=[]):
            network: nn.Module = _CLASSES[name].from_pretrained(folder, local_files_only=True, **{keyword: dtype})
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        raise ValueError(f"the {name} in {folder} cannot be loaded: {_one_line(error)}") from error
    if name != "vae":
        check_weights_fit(folder, list(network.state_dict()))
    return network


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

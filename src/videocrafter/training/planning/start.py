"""What a run starts from, without weights: the configs of its networks, and the networks on the meta device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel

from videocrafter.checkpoints.official.image_keys import VIT_H_14_IMAGE, image_config
from videocrafter.checkpoints.official.official_model import OfficialModel
from videocrafter.checkpoints.official.variants import official_variant
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.model_folder import component_folder, read_json, read_model_index
from videocrafter.pipelines.settings import GenerationDefaults
from videocrafter.presets import MODEL_INDEX, PRESETS
from videocrafter.training.video.starting_pipeline import image_tower_folder, new_projector, tower_folder

USUAL_START = "t2v-256"
"""What the recipes for clips from files are planned with, if nothing is named."""
_PARTS = ("unet", "vae", "text_encoder", "image_encoder", "image_projector")


@dataclass(frozen=True, kw_only=True)
class Start:
    """A pipeline's networks as their configs.

    Attributes:
        configs: by the part's name in a pipeline folder.
        described: what it is, in words.
        defaults: sizes and guidance that it recommends.
    """

    configs: Mapping[str, Mapping[str, Any]]
    described: str
    defaults: GenerationDefaults

    @property
    def takes_image(self) -> bool:
        """Whether it has an image branch."""
        return "image_projector" in self.configs

    def network(self, part: str) -> nn.Module:
        """One of its networks, on the meta device."""
        return build_network(part, self.configs[part])


def named_start(name: str) -> Start:
    """The start that a recipe's `init` names: a pipeline folder, or a model of `PRESETS`. Reads configs alone.

    Raises:
        ValueError: it is neither, or a config is damaged; one line.
    """
    preset = PRESETS.get(name)
    model = official_variant(name)
    if preset is not None and model is not None:
        what = "the network that is started from Stable Diffusion 2.1" if name == USUAL_START else preset.description
        defaults = GenerationDefaults.from_config(preset.defaults)
        return Start(configs=_official_configs(model), described=f"{name}: {what}", defaults=defaults)
    folder = preset.folder if preset is not None and preset.folder is not None else Path(name)
    if not (folder / MODEL_INDEX).is_file():
        raise ValueError(
            f"init is {name!r}, which is neither a pipeline folder nor a model's name; give a folder such as "
            f"RUN/final, or one of {', '.join(PRESETS)}"
        )
    index = read_model_index(folder)
    return Start(
        configs={part: _config_in(folder, part) for part in _PARTS if index.get(part, (None,))[0] is not None},
        described=name,
        defaults=GenerationDefaults.from_config(index.get("defaults")),
    )


def with_image_branch(start: Start, tower: str | None, num_queries: int) -> Start:
    """A text-to-video start with what its first image phase adds.

    Args:
        tower: `task.image_tower`; None takes the paper's ViT-H/14.

    Raises:
        ValueError: there is no such tower.
    """
    image_encoder = image_config(VIT_H_14_IMAGE) if tower is None else read_json(_config_file(tower))
    with torch.device("meta"):
        projector = new_projector(start.configs["unet"]["context_dim"], _image_width(image_encoder), num_queries)
    configs = {
        **start.configs,
        "unet": {**start.configs["unet"], "image_cross_attention": True},
        "image_encoder": image_encoder,
        "image_projector": dict(projector.config),
    }
    return replace(start, configs=configs)


def build_network(part: str, config: Mapping[str, Any]) -> nn.Module:
    """A network without weights, on the meta device.

    Raises:
        ValueError: the config cannot be one of such a network.
    """
    given = dict(config)
    try:
        with torch.device("meta"):
            if part == "text_encoder":
                return CLIPTextModel(CLIPTextConfig.from_dict(given))
            if part == "image_encoder":
                return CLIPVisionModel(_vision_config(given))
            classes = {"unet": VideoUNet, "vae": AutoencoderKL, "image_projector": ImageProjector}
            network: nn.Module = classes[part].from_config(given)
            return network
    except (TypeError, KeyError) as error:
        raise ValueError(f"the config of its {part} is damaged: {' '.join(str(error).split())[:200]}") from error


def size_of(module: nn.Module) -> int:
    """Numbers in a network, each counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def _official_configs(model: OfficialModel) -> dict[str, Mapping[str, Any]]:
    found = {part: getattr(model, part) for part in _PARTS}
    return {part: config for part, config in found.items() if config is not None}


def _config_in(folder: Path, part: str) -> dict[str, Any]:
    return read_json(component_folder(folder, part) / "config.json")


def _config_file(tower: str) -> Path:
    return image_tower_folder(tower_folder(tower)) / "config.json"


def _vision_config(config: dict[str, Any]) -> CLIPVisionConfig:
    # The config of a whole CLIP holds that of its image tower.
    return CLIPVisionConfig.from_dict(config.get("vision_config", config))


def _image_width(config: Mapping[str, Any]) -> int:
    return int(_vision_config(dict(config)).hidden_size)

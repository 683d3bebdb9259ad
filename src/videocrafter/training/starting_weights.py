"""Where a stage's networks come from: the pipeline it starts from, other runs, or the models in the package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from videocrafter.models.unet import VideoUNet
from videocrafter.presets import PRESETS


def part_folder(start: Path | None, folder: str, name: str) -> Path:
    """The folder of one frozen part: in the pipeline that the stage starts from, or else in `folder`.

    Args:
        start: pipeline folder of the stage before, if any.
        folder: `final` folder of another run, or the name of a model that the package brings.
        name: "vae", "tokenizer", "text_encoder" or "image_encoder".

    Raises:
        ValueError: neither holds the part.
    """
    if start is not None and (start / name).is_dir():
        return start / name
    preset = PRESETS.get(folder)
    source = preset.folder if preset is not None and preset.folder is not None else Path(folder)
    if not (source / name).is_dir():
        option = "autoencoder" if name == "vae" else "towers"
        raise ValueError(
            f"this stage needs a trained {name}, and {str(source)!r} holds none; name the `final` folder of a "
            f"finished run that does with --set stages.*.task.{option}=FOLDER"
        )
    return source / name


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
    network = VideoUNet(**config, image_cross_attention=True)
    weights = trained.state_dict()
    for name, parameter in network.named_parameters():
        if name in weights:
            continue
        if "to_k_image" not in name and "to_v_image" not in name:
            raise ValueError(f"the network in {start} lacks {name}; give both stages the same task.network")
        # The image branch starts silent, so that the first step is the text-to-video model.
        weights[name] = nn.init.zeros_(parameter.detach()) if "to_v_image" in name else parameter.detach()
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the network in {start} is not the one of this stage's task.network: {error}") from error
    return network

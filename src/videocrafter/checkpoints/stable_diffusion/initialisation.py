"""A video model that has learned nothing about time yet: Stable Diffusion 2.1, frame by frame (paper §3.1, §4.1).

All weights of the image model land in their place. Every new part ends in a layer of zeros, so that the first
step of a training sees exactly what Stable Diffusion makes of each frame.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.checkpoints.official.to_folder import write_index
from videocrafter.checkpoints.stable_diffusion.folder import blaming, read_sd_folder
from videocrafter.checkpoints.stable_diffusion.keys import new_parts, sd_keys
from videocrafter.checkpoints.whole_output import check_space, check_target, whole_folder
from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.models.unet import VideoUNet
from videocrafter.presets import PRESETS

STARTING_POINTS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        # The layout of the released models with temporal convolutions, except that images train image layers only.
        "t2v-256": MappingProxyType(
            {
                "temporal_length": 16,
                "relative_position": False,
                "temporal_convolution": True,
                "initial_temporal_heads": 8,
                "fps_condition": True,
                "image_cross_attention": False,
                "dropout": 0.0,
                "temporal_dropout": 0.1,
                "scale_shift": False,
                "frame_text_condition": False,
                "place_condition": False,
                "temporal_layers_on_images": False,
            }
        )
    }
)
"""By preset: the arguments of `VideoUNet` for all that the image model does not have."""


@dataclass(frozen=True, kw_only=True)
class SdInit:
    """What `init_from_sd` wrote.

    Attributes:
        folder: the pipeline folder.
        num_filled: numbers of the video network that come from Stable Diffusion.
        num_new: numbers in its new parts.
        notes: what the user should know, one line each.
    """

    folder: Path
    num_filled: int
    num_new: int
    notes: tuple[str, ...]


def init_from_sd(
    source: Path,
    folder: Path,
    *,
    preset: str = "t2v-256",
    overwrite: bool = False,
    on_step: Callable[[str], None] | None = None,
) -> SdInit:
    """Write a text-to-video pipeline folder that computes, frame by frame, what Stable Diffusion 2.1 does.

    Args:
        source: Stable Diffusion 2.1 as diffusers stores it: `unet/`, `vae/`, `text_encoder/`, `tokenizer/`.
        folder: what is written, in float32; appears whole or not at all.
        preset: key of `STARTING_POINTS`.
        overwrite: whether a model in `folder` may be replaced.
        on_step: told, in words, what is done next.

    Raises:
        ValueError: an unknown preset, a source that is something else, or a target that is taken.
        OSError: the target cannot be written.
    """
    if preset not in STARTING_POINTS:
        raise ValueError(f"no model is started as {preset!r}; allowed are {', '.join(STARTING_POINTS)}")
    tell = on_step or (lambda _: None)
    sd = read_sd_folder(source)
    if source.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder} holds Stable Diffusion itself; choose another name for the video model")
    check_target(folder, folder=True, overwrite=overwrite)
    tell("reading the text encoder and the autoencoder")
    parts: dict[str, Any] = {
        "vae": sd.load_vae(),
        "text_encoder": sd.load_text_encoder(),
        "tokenizer": sd.load_tokenizer(),
        "scheduler": OfficialDDIMScheduler(prediction_type=sd.prediction_type),
    }
    tell("filling the video network")
    with blaming(source):
        parts["unet"] = video_unet_from_sd(sd.unet_weights(), {**sd.spatial, **STARTING_POINTS[preset]})
    networks = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    check_space(folder, sum(4 * _size(network) for network in networks.values()))
    tell("writing")
    with whole_folder(folder) as hidden:
        for name, part in parts.items():
            part.save_pretrained(hidden / name)
        defaults = {**PRESETS[preset].defaults, "scheduler": "ddim-official"}
        write_index(hidden, networks, parts["tokenizer"], defaults, signal_scale=None)
    num_new = sum(_size(parts["unet"].get_submodule(part.prefix[:-1])) for part in new_parts(parts["unet"].config))
    return SdInit(folder=folder, num_filled=_size(parts["unet"]) - num_new, num_new=num_new, notes=sd.notes)


def video_unet_from_sd(weights: Mapping[str, Tensor], config: Mapping[str, Any], *, seed: int = 0) -> VideoUNet:
    """A float32 VideoUNet that computes of every frame what Stable Diffusion's network with `weights` computes.

    Args:
        weights: state dict of diffusers' `UNet2DConditionModel`; every entry is used once.
        config: arguments of `VideoUNet`.
        seed: of the new parts, whose inner layers start at random.

    Raises:
        ValueError: keys or shapes that do not fit, or a new part in `config` that cannot start silently.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VideoUNet(**config)
    pairs, parts, own = sd_keys(network.config), new_parts(network.config), network.state_dict()
    loud = [part.prefix.rstrip(".") for part in parts if not part.silent]
    if loud:
        raise ValueError(f"{loud[0]} has no layer whose zeros would silence it, so the model would not start as SD's")
    _check_every_key_once({pair.sd for pair in pairs}, set(weights))
    new = tuple(part.prefix for part in parts)
    unfilled = [name for name in own.keys() - {pair.own for pair in pairs} if not name.startswith(new)]
    if unfilled:
        raise ValueError(f"nothing fills {len(unfilled)} parameters of the video network, such as {min(unfilled)}")
    with torch.no_grad():
        for pair in pairs:
            given, wanted = weights[pair.sd], own[pair.own]
            if given.shape != wanted.shape:
                raise ValueError(f"{pair.sd} has shape {tuple(given.shape)}; its config says {tuple(wanted.shape)}")
            wanted.copy_(given)
        for part in parts:
            for parameter in network.get_submodule(part.prefix + part.silent).parameters():
                parameter.zero_()
    return network.eval()


def _check_every_key_once(expected: set[str], present: set[str]) -> None:
    for problem, keys in (("lacks", expected - present), ("has unknown", present - expected)):
        if keys:
            first = ", ".join(sorted(keys)[:3])
            raise ValueError(f"its unet {problem} {len(keys)} weights ({first}{', ...' if len(keys) > 3 else ''})")


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

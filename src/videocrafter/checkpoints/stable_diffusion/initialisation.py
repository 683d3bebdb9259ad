"""Initialise a video model from Stable Diffusion 2.1, or from its miniature (paper §3.1, §4.1).

All weights of the image model are copied. Every new part ends in a zero-initialised layer, so before training the
video model computes for each frame exactly what Stable Diffusion computes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.checkpoints.finite_values import describe_nonfinite
from videocrafter.checkpoints.model_target import check_target
from videocrafter.checkpoints.official.variants import official_variant
from videocrafter.checkpoints.pipeline_index import write_index
from videocrafter.checkpoints.stable_diffusion.folder import naming_errors, read_sd_folder
from videocrafter.checkpoints.stable_diffusion.keys import new_parts, sd_keys
from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.media.atomic_write import whole_folder
from videocrafter.media.output_checks import check_space
from videocrafter.models.autoencoder import spatial_factor
from videocrafter.models.unet import VideoUNet
from videocrafter.presets import PRESETS

STARTING_POINTS = ("t2v-256", "tiny-t2v")
"""Presets that can be initialised: from Stable Diffusion 2.1, and from the result of the recipe `tiny-sd`."""


@dataclass(frozen=True, kw_only=True)
class SdInit:
    """The result of `init_from_sd`.

    Attributes:
        folder: the pipeline folder that was written.
        num_filled: number of the video network's parameters copied from Stable Diffusion.
        num_new: number of parameters in its new parts.
        notes: messages for the user, one line each.
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
    """Write a text-to-video pipeline folder that computes for each frame what Stable Diffusion 2.1 computes.

    Args:
        source: Stable Diffusion 2.1 in diffusers' format (`unet/`, `vae/`, `text_encoder/`, `tokenizer/`,
            `scheduler/`), or the miniature in the same format.
        folder: the folder to write, in float32; written atomically.
        preset: one of `STARTING_POINTS`.
        overwrite: whether a model in `folder` may be replaced.
        on_step: called with a short description of the next step.

    Raises:
        ValueError: an unknown preset, a source of another kind, or a target that exists.
        OSError: the target cannot be written.
    """
    if preset not in STARTING_POINTS:
        raise ValueError(f"preset {preset!r} cannot be initialised; expected {' or '.join(STARTING_POINTS)}")
    video_parts = _video_parts(preset)
    is_miniature = PRESETS[preset].video_parts is not None
    report = on_step or (lambda _: None)
    sd = read_sd_folder(source)
    if source.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder} holds Stable Diffusion itself; choose another output folder")
    check_target(folder, folder=True, overwrite=overwrite)
    report("reading the text encoder and the autoencoder")
    parts: dict[str, Any] = {
        "vae": sd.load_vae(),
        "text_encoder": sd.load_text_encoder(),
        "tokenizer": sd.load_tokenizer(),
        "scheduler": (
            sd.load_scheduler() if is_miniature else OfficialDDIMScheduler(prediction_type=sd.prediction_type)
        ),
    }
    report("initialising the video network")
    with naming_errors(source):
        parts["unet"] = video_unet_from_sd(sd.unet_weights(), {**video_parts, **sd.spatial})
    networks = {name: part for name, part in parts.items() if isinstance(part, nn.Module)}
    for name, network in networks.items():
        found = describe_nonfinite(network.named_parameters())
        if found is not None:
            raise ValueError(f"the {name} from {source} is damaged: {found}; download Stable Diffusion again")
    check_space(folder, sum(4 * _size(network) for network in networks.values()))
    report("writing")
    with whole_folder(folder, overwrite=overwrite) as hidden:
        for name, part in parts.items():
            part.save_pretrained(hidden / name)
        defaults = {**PRESETS[preset].defaults, "scheduler": "ddim-official"}
        if is_miniature:
            defaults = {"num_frames": video_parts["temporal_length"], "scheduler": "ddim"}
            if sd.sample_size is not None:
                defaults |= dict.fromkeys(("height", "width"), sd.sample_size * spatial_factor(parts["vae"]))
        write_index(hidden, networks, parts["tokenizer"], parts["scheduler"], defaults, signal_scale=None)
    notes = sd.notes if is_miniature else sd.schedule_notes + sd.notes
    num_new = sum(_size(parts["unet"].get_submodule(part.prefix[:-1])) for part in new_parts(parts["unet"].config))
    return SdInit(folder=folder, num_filled=_size(parts["unet"]) - num_new, num_new=num_new, notes=notes)


def _video_parts(preset: str) -> Mapping[str, Any]:
    """Arguments of `VideoUNet` for the parts that only the video model has."""
    own = PRESETS[preset].video_parts
    if own is not None:
        return own
    variant = official_variant(preset)
    assert variant is not None
    return variant.unet


def video_unet_from_sd(weights: Mapping[str, Tensor], config: Mapping[str, Any], *, seed: int = 0) -> VideoUNet:
    """Return a float32 VideoUNet that computes for each frame what Stable Diffusion's network computes.

    Args:
        weights: state dict of diffusers' `UNet2DConditionModel`; every entry is used once.
        config: arguments of `VideoUNet`.
        seed: seed for the new parts, whose inner layers are initialised randomly.

    Raises:
        ValueError: keys or shapes do not match, or `config` enables a new part that cannot start as a no-op.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = VideoUNet(**config)
    pairs, parts, own = sd_keys(network.config), new_parts(network.config), network.state_dict()
    always_active = [part.prefix.rstrip(".") for part in parts if not part.zero_layers]
    if always_active:
        raise ValueError(
            f"{always_active[0]} has no zero-initialised layer, so the model would not start as Stable Diffusion"
        )
    _check_every_key_once({pair.sd for pair in pairs}, set(weights))
    new = tuple(part.prefix for part in parts)
    unfilled = [name for name in own.keys() - {pair.own for pair in pairs} if not name.startswith(new)]
    if unfilled:
        raise ValueError(f"{len(unfilled)} parameters of the video network have no weights, such as {min(unfilled)}")
    with torch.no_grad():
        for pair in pairs:
            given, wanted = weights[pair.sd], own[pair.own]
            if given.shape != wanted.shape:
                raise ValueError(f"{pair.sd} has shape {tuple(given.shape)}; expected {tuple(wanted.shape)}")
            wanted.copy_(given)
        for part in parts:
            for layer in part.zero_layers:
                for parameter in network.get_submodule(part.prefix + layer).parameters():
                    parameter.zero_()
    return network.eval()


def _check_every_key_once(expected: set[str], present: set[str]) -> None:
    for problem, keys in (("lacks", expected - present), ("has unexpected", present - expected)):
        if keys:
            first = ", ".join(sorted(keys)[:3])
            raise ValueError(f"its unet {problem} {len(keys)} weights ({first}{', ...' if len(keys) > 3 else ''})")


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

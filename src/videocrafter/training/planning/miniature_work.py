"""What the training of the miniature's video network computes, on the sprite world."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

import torch

from videocrafter.pipelines.model_folder import read_json
from videocrafter.pipelines.settings import GenerationDefaults
from videocrafter.presets import PRESETS
from videocrafter.training.config import StageConfig
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.planning.start import Start, named_start
from videocrafter.training.planning.video_networks import VideoNetworks
from videocrafter.training.planning.work import META, Call, Pass, StageWork
from videocrafter.training.video.phases import choose_trained
from videocrafter.training.video.starting_weights import part_folder

_MOST_GAUGED = 48
_HALF_BYTES = 2
_ENCODED_FRAMES = 64


def miniature_work(stage: StageConfig, config: VideoDiffusionTaskConfig, start: Start | None) -> StageWork:
    """The work of a stage of the miniature's video network.

    Raises:
        ValueError: there is no autoencoder or tower where the settings say.
    """
    start = _whole_start(config, start)
    networks = VideoNetworks.of(start, base=torch.float32, frozen=torch.float32)
    choose_trained(networks.unet, networks.projector, config.phase)
    world = config.world
    kinds = {
        "clips": (1 - config.image_share, config.batch_size, world.num_frames, config.num_clips),
        "images": (config.image_share, config.image_batch_size, 1, config.num_images),
    }
    passes: list[Pass] = []
    data_bytes = 0.0
    for name, (share, count, length, available) in kinds.items():
        if share <= 0:
            continue
        shape = (count, length, world.height, world.width)
        shown = count * share * stage.num_steps * stage.optimizer.accumulate
        kept = min(available, shown)
        data_bytes += kept * _HALF_BYTES * networks.numbers_kept(shape)
        encoders = networks.encoders(shape, chunk=_ENCODED_FRAMES)
        # Each is encoded once; the text every time.
        once = {part: replace(call, times=call.times * kept / shown) for part, call in encoders.items()}
        once["text_encoder"] = encoders["text_encoder"]
        if config.phase == "image_alignment":
            passes.append(networks.alignment_pass(name, share, count, once))
        else:
            passes.append(networks.denoising_pass(name, share, shape, once))
    return StageWork(
        trained=networks.trained,
        frozen=networks.frozen,
        shardable=("unet",),
        passes=tuple(passes),
        samples=_samples(stage, config, networks),
        data_bytes=int(data_bytes),
        leaves=start,
    )


def _samples(stage: StageConfig, config: VideoDiffusionTaskConfig, networks: VideoNetworks) -> dict[str, Call]:
    """A sheet of samples with and without guidance, or the gauges, whichever is more at once."""
    looked_at = max(
        2 * config.num_samples if stage.sample_every else 0,
        min(_MOST_GAUGED, config.num_gauged) if stage.validate_every else 0,
    )
    world = config.world
    if not looked_at:
        return {}
    return networks.samples((looked_at, world.num_frames, world.height, world.width), branches=1)


def _whole_start(config: VideoDiffusionTaskConfig, start: Start | None) -> Start:
    """The stage's networks: the start's, and what it lacks from the folders that the task names."""
    uses_image = config.phase != "text_to_video"
    # A new network's config says all; one that is trained on has its own.
    configs: dict[str, Mapping[str, Any]] = {} if start is None else dict(start.configs)
    configs.setdefault("unet", {**asdict(config.network), "image_cross_attention": uses_image})
    parts = {"vae": config.autoencoder, "text_encoder": config.towers}
    if uses_image:
        parts["image_encoder"] = config.towers
        configs["unet"] = {**configs["unet"], "image_cross_attention": True}
    for part, folder in parts.items():
        if part not in configs:
            configs[part] = _part_config(part, folder)
    if uses_image and "image_projector" not in configs:
        with META:
            projector = config.network.image_projector(int(configs["image_encoder"]["hidden_size"]))
        configs["image_projector"] = dict(projector.config)
    defaults = GenerationDefaults(
        num_frames=config.world.num_frames,
        height=config.world.height,
        width=config.world.width,
        fps=config.fps,
        guidance_scale=config.guidance_scale,
    )
    return Start(configs=configs, described="the miniature", defaults=defaults)


def _part_config(part: str, folder: str) -> Mapping[str, Any]:
    preset = PRESETS.get(folder)
    if preset is not None and preset.folder is not None:
        return named_start(folder).configs[part]
    return read_json(part_folder(None, folder, part) / "config.json")

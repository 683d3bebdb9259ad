"""What training on clips from files computes."""

from __future__ import annotations

import math

import torch

from videocrafter.training.config import StageConfig
from videocrafter.training.planning.start import Start, with_image_branch
from videocrafter.training.planning.video_networks import VideoNetworks
from videocrafter.training.planning.work import Call, Pass, StageWork
from videocrafter.training.video.frozen_networks import IMAGE_PHASES, WEIGHT_DTYPES
from videocrafter.training.video.lora import add_lora
from videocrafter.training.video.phases import choose_trained
from videocrafter.training.video.starting_pipeline import with_frames_of
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

_FLOAT_BYTES = 4


def clip_work(stage: StageConfig, task: ClipDiffusionTaskConfig, start: Start) -> StageWork:
    """The work of a stage on clips from files.

    Raises:
        ValueError: sizes that the start's networks do not take, or no such image tower.
    """
    config = with_frames_of(start.defaults, task)
    if config.phase in IMAGE_PHASES and not start.takes_image:
        start = with_image_branch(start, config.image_tower, config.image_queries)
    networks = _networks(config, start)
    share = config.data.image_share or 0.0
    clip_batch, image_batch = config.data.batch_size, config.data.image_batch_size or config.data.batch_size
    frames = max(config.data.cutting.sampling.lengths)
    kinds = {"clips": (1 - share, clip_batch, frames), "images": (share, image_batch, 1)}
    return StageWork(
        trained=networks.trained,
        frozen=networks.frozen,
        shardable=("unet",),
        frozen_stay=not _only_reads(config),
        passes=tuple(
            _pass(config, networks, name, of_all, (count, length))
            for name, (of_all, count, length) in kinds.items()
            if of_all > 0
        ),
        samples=_samples(config, networks, start) if stage.sample_every else {},
        checkpointed=config.gradient_checkpointing,
        leaves=start,
    )


def _networks(config: ClipDiffusionTaskConfig, start: Start) -> VideoNetworks:
    base = torch.float32 if config.lora is None else WEIGHT_DTYPES[config.base_weights]
    networks = VideoNetworks.of(start, base=base, frozen=WEIGHT_DTYPES[config.frozen_weights])
    multiple = networks.pixels_per_latent * networks.unet.size_multiple
    wrong = [size for size in config.data.cutting.sizes if size[0] % multiple or size[1] % multiple]
    if wrong:
        raise ValueError(
            f"task.data.cutting gives samples of {wrong[0][1]}x{wrong[0][0]} pixels; this model takes multiples of "
            f"{multiple}: set height and width, or size_step, to them"
        )
    if config.lora is None:
        choose_trained(networks.unet, networks.projector, config.phase)
        return networks
    for module in networks.trained.values():
        module.requires_grad_(False)
    add_lora(networks.unet, config.lora)
    return networks


def _pass(
    config: ClipDiffusionTaskConfig, networks: VideoNetworks, name: str, share: float, batch: tuple[int, int]
) -> Pass:
    shape = (*batch, *max(config.data.cutting.sizes, key=math.prod))
    return networks.denoising_pass(
        name,
        share,
        shape,
        {} if _only_reads(config) else networks.encoders(shape, chunk=config.encoded_frames),
        held=0 if _only_reads(config) else _FLOAT_BYTES * 3 * math.prod(shape),
        from_input=config.phase == "temporal_only",
    )


def _samples(config: ClipDiffusionTaskConfig, networks: VideoNetworks, start: Start) -> dict[str, Call]:
    """Videos are made one at a time."""
    cutting, scale = config.data.cutting, config.samples.guidance_scale
    guided = (start.defaults.guidance_scale if scale is None else scale) > 1
    shape = (1, max(cutting.sampling.lengths), cutting.height, cutting.width)
    return networks.samples(shape, branches=2 if guided else 1)


def _only_reads(config: ClipDiffusionTaskConfig) -> bool:
    """Whether all is in a cache, so that the frozen networks are only needed for samples."""
    return config.cache.folder is not None and config.cache.fill == "never"

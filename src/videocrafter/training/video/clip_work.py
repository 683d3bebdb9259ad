"""The work of training on clips from files, for a plan."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from videocrafter.checkpoints.official.image_keys import VIT_H_14_IMAGE, image_config
from videocrafter.data.sample import VideoBatch
from videocrafter.training.config import StageConfig
from videocrafter.training.video.empty_videos import EmptyVideos, Shape
from videocrafter.training.video.frozen_networks import WEIGHT_DTYPES, settle_weights
from videocrafter.training.video.meta_networks import META, build_network, network_in
from videocrafter.training.video.phases import IMAGE_PHASES
from videocrafter.training.video.planned_start import PlannedStart
from videocrafter.training.video.starting_pipeline import image_tower_folder, prepared
from videocrafter.training.video.starting_weights import named_folder
from videocrafter.training.video.task import ClipDiffusionTask
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig
from videocrafter.training.video.work import Call, Pass, StageWork

_FLOAT_BYTES = 4


def clip_work(
    stage: StageConfig,
    config: ClipDiffusionTaskConfig,
    start: PlannedStart,
    device: torch.device,
    *,
    task_type: type[ClipDiffusionTask] = ClipDiffusionTask,
) -> StageWork:
    """Return the work of a stage on clips from files.

    Args:
        device: device on which it is to train.
        task_type: the task that trains it.

    Raises:
        ValueError: sizes that the start's networks do not take, or no such image encoder.
    """
    if not start.networks:
        raise ValueError("it starts from a pipeline, and none was named; give --init")
    config = settle_weights(config, device)
    pipeline, config = prepared(start.pipeline(), config, _new_image_encoder(config, start))
    leaves = PlannedStart.of(pipeline, start.described)
    videos = EmptyVideos(
        vae=_frozen(pipeline.vae, config),
        text_encoder=_frozen(pipeline.text_encoder, config),
        image_encoder=_frozen(getattr(pipeline, "image_encoder", None), config),
    )
    task = task_type(config, pipeline, videos, META)
    share = config.data.image_share or 0.0
    clip_batch, image_batch = config.data.batch_size, config.data.image_batch_size or config.data.batch_size
    num_frames = max(config.data.cutting.sampling.lengths)
    kinds = {"clips": (1 - share, clip_batch, num_frames), "images": (share, image_batch, 1)}
    return StageWork(
        task=task,
        frozen=videos.networks,
        frozen_stay=not _only_reads(config),
        passes=tuple(
            _pass(task, videos, name, of_all, (count, length))
            for name, (of_all, count, length) in kinds.items()
            if of_all > 0
        ),
        samples=_samples(task, videos) if stage.sample_every else {},
        leaves=leaves,
        checkpointed=task.checkpointed,
    )


def _new_image_encoder(config: ClipDiffusionTaskConfig, start: PlannedStart) -> Any:
    """The image encoder that the stage adds to its start; the paper's if none is named."""
    if config.phase not in IMAGE_PHASES or start.has("image_encoder"):
        return None
    if config.image_tower is None:
        return build_network("image_encoder", image_config(VIT_H_14_IMAGE))
    return network_in("image_encoder", image_tower_folder(named_folder(config.image_tower)))


def _frozen(network: nn.Module | None, config: ClipDiffusionTaskConfig) -> Any:
    if network is None:
        return None
    # Not the network's own `to`, with which diffusers warns about the precision.
    return nn.Module.to(network, WEIGHT_DTYPES[config.frozen_weights]).requires_grad_(False).eval()


def _pass(task: ClipDiffusionTask, videos: EmptyVideos, name: str, share: float, batch: tuple[int, int]) -> Pass:
    shape: Shape = (*batch, *max(task.config.data.cutting.sizes, key=math.prod))
    count, num_frames, height, width = shape
    reads = _only_reads(task.config)
    empty = VideoBatch(
        pixels=torch.empty(count, num_frames, 3, height, width, device=META),
        captions=("",) * count,
        fps=torch.empty(count, device=META),
        keys=("",) * count,
    )
    return Pass(
        name=name,
        share=share,
        num_samples=count,
        loss=lambda: task.loss(empty, torch.Generator())[0],
        encoders={} if reads else videos.encoding(shape, chunk=task.config.encoded_frames),
        held=0 if reads else _FLOAT_BYTES * 3 * math.prod(shape),
    )


def _samples(task: ClipDiffusionTask, videos: EmptyVideos) -> dict[str, Call]:
    """The calls that make samples, one video at a time."""
    cutting, scale = task.config.data.cutting, task.config.samples.guidance_scale
    guided = (task.pipeline.generation_defaults.guidance_scale if scale is None else scale) > 1
    shape = (1, max(cutting.sampling.lengths), cutting.height, cutting.width)
    return videos.sampling(task, shape, branches=2 if guided else 1)


def _only_reads(config: ClipDiffusionTaskConfig) -> bool:
    """Whether a cache holds all encoded clips, so that only samples need the frozen networks."""
    return config.cache.folder is not None and config.cache.fill == "never"

"""The work of training the miniature's video network on the sprite world, for a plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from videocrafter.training.config import StageConfig
from videocrafter.training.miniature.diffusion import GAUGED_AT_ONCE, VideoDiffusionTask
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.latent_clips import ENCODED_FRAMES, LatentClips
from videocrafter.training.video.empty_videos import EmptyVideos, Shape
from videocrafter.training.video.meta_networks import META
from videocrafter.training.video.planned_start import PlannedStart
from videocrafter.training.video.work import Call, Pass, StageWork

_HALF_BYTES = 2


def diffusion_work(
    stage: StageConfig,
    config: VideoDiffusionTaskConfig,
    start: PlannedStart,
    device: torch.device,
    *,
    task_type: type[VideoDiffusionTask] = VideoDiffusionTask,
) -> StageWork:
    """Return the work of a stage of the miniature's video network.

    Args:
        device: device on which it is to train.
        task_type: the task that trains it.

    Raises:
        ValueError: a part is missing where the settings say, or the networks do not fit together.
    """
    task = task_type(config, start, seed=0, stage_index=0, device=META)
    frozen: dict[str, Any] = task.frozen_networks
    videos = EmptyVideos(**frozen)
    clips, images = config.world, config.image_world
    kinds = {
        "clips": (1 - config.image_share, config.batch_size, clips.num_frames, config.num_clips, clips),
        "images": (config.image_share, config.image_batch_size, 1, config.num_images, images),
    }
    passes: list[Pass] = []
    data_bytes = 0.0
    for name, (share, count, num_frames, available, world) in kinds.items():
        if share <= 0:
            continue
        shown = count * share * stage.num_steps * stage.optimizer.accumulate
        kept = min(available, shown)
        shape = (count, num_frames, world.height, world.width)
        batch = _EmptyBatch(task, videos, shape)
        data_bytes += kept * _HALF_BYTES * batch.numbers_per_sample
        # Each clip is encoded once. The text encoder runs in every pass, as part of the loss.
        encoding = videos.encoding(shape, chunk=ENCODED_FRAMES)
        del encoding["text_encoder"]
        once = {part: replace(call, times=call.times * kept / shown) for part, call in encoding.items()}
        passes.append(Pass(name=name, share=share, num_samples=count, loss=batch.loss, encoders=once))
    return StageWork(
        task=task,
        frozen=frozen,
        passes=tuple(passes),
        samples=_samples(stage, task, videos),
        data_bytes=int(data_bytes),
        leaves=PlannedStart.of(task.pipeline(), "the miniature"),
    )


class _EmptyBatch:
    def __init__(self, task: VideoDiffusionTask, videos: EmptyVideos, shape: Shape) -> None:
        self._task, self._videos, self._shape = task, videos, shape
        world = (task.images if shape[1] == 1 else task.clips).world
        script = world.image_script if shape[1] == 1 else world.script
        self._scripts = tuple(script(index) for index in range(shape[0]))

    @property
    def numbers_per_sample(self) -> int:
        """Numbers in a sample's latents and image tokens."""
        tokens = self._videos.image_tokens(1)
        return self._videos.latents((1, *self._shape[1:])).numel() + (0 if tokens is None else tokens.numel())

    def loss(self) -> torch.Tensor:
        """The task's loss of a new empty batch."""
        tokens = self._videos.image_tokens(self._shape[0])
        batch = LatentClips(scripts=self._scripts, latents=self._videos.latents(self._shape), image_tokens=tokens)
        return self._task.loss(batch, torch.Generator())[0]


def _samples(stage: StageConfig, task: VideoDiffusionTask, videos: EmptyVideos) -> dict[str, Call]:
    """A sheet of samples with and without guidance, or the gauges, whichever has more in the network at once."""
    config, world = task.config, task.config.world
    at_once = max(
        2 * config.num_samples if stage.sample_every else 0,
        min(GAUGED_AT_ONCE, config.num_gauged) if stage.validate_every else 0,
    )
    if not at_once:
        return {}
    return videos.sampling(task, (at_once, world.num_frames, world.height, world.width), branches=1)

"""The work of training the miniature's small networks, for a plan. Each stage begins with new networks."""

from __future__ import annotations

import torch
from torch import Tensor

from videocrafter.training.config import StageConfig
from videocrafter.training.miniature.autoencoder import AutoencoderTask, AutoencoderTaskConfig
from videocrafter.training.miniature.judge import JudgeTask, JudgeTaskConfig
from videocrafter.training.miniature.towers import CaptionedClips, ContrastiveTask, ContrastiveTaskConfig
from videocrafter.training.video.meta_networks import META
from videocrafter.training.video.planned_start import PlannedStart
from videocrafter.training.video.work import Pass, StageWork


def autoencoder_work(
    stage: StageConfig, config: AutoencoderTaskConfig, start: PlannedStart, device: torch.device
) -> StageWork:
    """Return the work of a stage of the autoencoder, for a plan."""
    task, size = AutoencoderTask(config, None, 0, 0, META), max(config.sizes)

    def loss() -> Tensor:
        return task.loss(torch.empty(config.batch_size, 3, size, size, device=META), torch.Generator())[0]

    only = Pass(name="images", share=1.0, num_samples=config.batch_size, loss=loss)
    return StageWork(task=task, passes=(only,))


def contrastive_work(
    stage: StageConfig, config: ContrastiveTaskConfig, start: PlannedStart, device: torch.device
) -> StageWork:
    """Return the work of a stage of the towers, for a plan."""
    task, count = ContrastiveTask(config, None, 0, 0, META), config.num_groups * config.group_size

    def loss() -> Tensor:
        pixels = torch.empty(count, config.num_frames, 3, config.size, config.size, device=META)
        clips = CaptionedClips(pixels=pixels, fps=torch.empty(count, device=META), captions=["a rocket"] * count)
        return task.loss(clips, torch.Generator())[0]

    return StageWork(task=task, passes=(Pass(name="clips", share=1.0, num_samples=count, loss=loss),))


def judge_work(stage: StageConfig, config: JudgeTaskConfig, start: PlannedStart, device: torch.device) -> StageWork:
    """Return the work of a stage of the judge, for a plan."""
    task = JudgeTask(config, None, 0, 0, META)

    def loss() -> Tensor:
        # The task's loss computes metrics from values, which the meta device has none of. It needs no memory to speak
        # of, so the sum of the outputs replaces it.
        pixels = torch.empty(config.batch_size, config.world.num_frames, 3, config.size, config.size, device=META)
        read = task.judge(pixels)
        outputs = (read.subject_logits, read.motion_logits, read.scene_logits, read.heat_logits, read.log_size)
        return torch.stack([output.float().square().mean() for output in outputs]).sum()

    only = Pass(name="clips", share=1.0, num_samples=config.batch_size, loss=loss)
    return StageWork(task=task, passes=(only,))

"""What the miniature's other networks compute in training; they are small enough to be built as they are."""

from __future__ import annotations

import torch
from torch import Tensor

from videocrafter.training.miniature.autoencoder import AutoencoderTask, AutoencoderTaskConfig
from videocrafter.training.miniature.judge import JudgeTask, JudgeTaskConfig
from videocrafter.training.miniature.towers import CaptionedClips, ContrastiveTask, ContrastiveTaskConfig
from videocrafter.training.planning.work import META, Pass, StageWork


def autoencoder_work(config: AutoencoderTaskConfig) -> StageWork:
    """The work of the miniature's autoencoder."""
    task: AutoencoderTask = config.build(None, 0, 0, META)
    size, generator = max(config.sizes), torch.Generator()

    def loss() -> Tensor:
        return task.loss(torch.empty(config.batch_size, 3, size, size, device=META), generator)[0]

    return _small_work(task, Pass(name="images", share=1.0, num_samples=config.batch_size, loss=loss))


def contrastive_work(config: ContrastiveTaskConfig) -> StageWork:
    """The work of the miniature's towers."""
    task: ContrastiveTask = config.build(None, 0, 0, META)
    count, generator = config.num_groups * config.group_size, torch.Generator()

    def loss() -> Tensor:
        pixels = torch.empty(count, config.num_frames, 3, config.size, config.size, device=META)
        clips = CaptionedClips(pixels=pixels, fps=torch.empty(count, device=META), captions=["a rocket"] * count)
        return task.loss(clips, generator)[0]

    return _small_work(task, Pass(name="clips", share=1.0, num_samples=count, loss=loss))


def judge_work(config: JudgeTaskConfig) -> StageWork:
    """The work of the exam's judge."""
    task: JudgeTask = config.build(None, 0, 0, META)

    def loss() -> Tensor:
        # The losses themselves ask for numbers, which there are none of, and take nothing beside the network.
        pixels = torch.empty(config.batch_size, config.num_frames, 3, config.size, config.size, device=META)
        read = task.judge(pixels)
        logits = (read.subject_logits, read.motion_logits, read.scene_logits, read.heat_logits, read.log_size)
        return torch.stack([part.float().square().mean() for part in logits]).sum()

    return _small_work(task, Pass(name="clips", share=1.0, num_samples=config.batch_size, loss=loss))


def _small_work(task: AutoencoderTask | ContrastiveTask | JudgeTask, only: Pass) -> StageWork:
    task.parameter_groups()  # settles what learns
    return StageWork(trained=task.modules(), passes=(only,))

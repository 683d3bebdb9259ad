"""What each kind of stage computes."""

from __future__ import annotations

from videocrafter.training.config import StageConfig
from videocrafter.training.miniature.autoencoder import AutoencoderTaskConfig
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.judge import JudgeTaskConfig
from videocrafter.training.miniature.towers import ContrastiveTaskConfig
from videocrafter.training.planning.clip_work import clip_work
from videocrafter.training.planning.miniature_work import miniature_work
from videocrafter.training.planning.small_work import autoencoder_work, contrastive_work, judge_work
from videocrafter.training.planning.start import Start
from videocrafter.training.planning.work import StageWork
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig


def stage_work(stage: StageConfig, start: Start | None) -> StageWork:
    """What a stage computes, starting from `start`.

    Raises:
        ValueError: settings that do not go together, or a task that is not known here.
    """
    task = stage.task
    if isinstance(task, ClipDiffusionTaskConfig):
        if start is None:
            raise ValueError("it starts from a pipeline, and none was named; give --init")
        return clip_work(stage, task, start)
    if isinstance(task, VideoDiffusionTaskConfig):
        return miniature_work(stage, task, start)
    if isinstance(task, AutoencoderTaskConfig):
        return autoencoder_work(task)
    if isinstance(task, ContrastiveTaskConfig):
        return contrastive_work(task)
    if isinstance(task, JudgeTaskConfig):
        return judge_work(task)
    raise ValueError(f"stage {stage.name!r} trains by {type(task).__name__}, which cannot be planned")

"""Small clips and images in files, and a task that trains the pipelines of `tiny_models` on them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from videocrafter.data.clip_sampling import ClipSampling
from videocrafter.data.cutting import CuttingConfig
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import write_video
from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.recipes.paper import ClipDiffusionTaskConfig, SampleConfig
from videocrafter.training.video.fixed_clips import ValidationConfig
from videocrafter.training.video.task import ClipDiffusionTask

CPU = torch.device("cpu")
FRAMES, SIZE = 4, 16
CAPTIONS = ("a rocket moving left", "a cat at night", "a red car moving right", "a soccer ball over the blue sky")
SPRITES = f"sprites:?num_clips=9&num_frames=6&height={SIZE}&width={SIZE}"
SPRITE_IMAGES = f"sprites:?kind=image&num_clips=9&height={SIZE}&width={SIZE}"


def write_clips(folder: Path, count: int = 4, *, num_frames: int = 8, size: int = SIZE, fps: float = 8.0) -> Path:
    """Write `0.mp4`, `0.txt` and so on. In each clip, another bright square moves right over a dark background."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        frames = np.full((num_frames, size, size, 3), 32 * index, np.uint8)
        for number, frame in enumerate(frames):
            left = number * (size // 2) // num_frames
            frame[size // 4 : size // 2, left : left + size // 2, index % 3] = 255
        write_video(folder / f"{index}.mp4", frames, playback_fps=fps)
        (folder / f"{index}.txt").write_text(CAPTIONS[index % len(CAPTIONS)])
    return folder


def write_pictures(folder: Path, count: int = 4, *, size: int = SIZE) -> Path:
    """Write `0.png`, `0.txt` and so on."""
    folder.mkdir(parents=True, exist_ok=True)
    for index in range(count):
        picture = np.full((size, size, 3), 40 * index, np.uint8)
        picture[size // 4 :, size // 2 :, index % 3] = 255
        write_image(folder / f"{index}.png", picture)
        (folder / f"{index}.txt").write_text(CAPTIONS[index % len(CAPTIONS)])
    return folder


def clip_data(*sources: str, **changes: Any) -> LoaderConfig:
    """Return data with batches of two clips of 4 frames of 16x16 pixels, decoded in this process."""
    sampling = ClipSampling(lengths=(FRAMES,))
    small: dict[str, Any] = {
        "sources": sources or (SPRITES,),
        "batch_size": 2,
        "num_workers": 0,
        "cutting": CuttingConfig(height=SIZE, width=SIZE, sampling=sampling),
    }
    return LoaderConfig(**{**small, **changes})


def clip_config(*sources: str, data: Mapping[str, Any] | None = None, **changes: Any) -> ClipDiffusionTaskConfig:
    """Return a task in full precision without conditioning dropout."""
    small: dict[str, Any] = {
        "data": clip_data(*sources, **(data or {})),
        "text_dropout": 0.0,
        "frozen_weights": "fp32",
        "base_weights": "fp32",
        "gradient_checkpointing": False,
        "validation": ValidationConfig(num_clips=2, timesteps=(100, 600)),
        "samples": SampleConfig(num_inference_steps=2),
    }
    return ClipDiffusionTaskConfig(**{**small, **changes})


def clip_task(
    start: Path, *sources: str, seed: int = 0, stage_index: int = 0, report: Path | None = None, **changes: Any
) -> ClipDiffusionTask:
    """Build the task of `clip_config`, independently of the global random state.

    Given a folder for its report, the task opens its data, too.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        task = ClipDiffusionTask.build(clip_config(*sources, **changes), start, seed, stage_index, CPU)
    if report is not None:
        task.open_data(0, 1, report)
    return task


def clip_recipe(
    start: Path, *sources: str, num_steps: int = 4, accumulate: int = 1, seed: int = 0, **changes: Any
) -> RecipeConfig:
    """Return a recipe with one stage of `clip_config`: high learning rate, EMA, and outputs only at the end.

    `changes` apply to the stage, and those under "task" to its task.
    """
    task = clip_config(*sources, **changes.pop("task", {}))
    stage = StageConfig(
        name="clips",
        task=task,
        num_steps=num_steps,
        optimizer=OptimizerConfig(lr=1e-3, warmup_steps=0, accumulate=accumulate),
        ema_decay=0.5,
        precision="fp32",
        log_every=1,
        validate_every=0,
        sample_every=0,
        checkpoint_every=0,
        checkpoint_seconds=0,
    )
    return RecipeConfig(name="clips", stages=(replace(stage, **changes),), seed=seed, init=str(start))

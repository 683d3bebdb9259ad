"""Toy stages on the CPU: clips of four frames of 16 x 16 pixels from the sprite world, some with images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from videocrafter.data.bad_samples import BadSampleRules
from videocrafter.data.clip_sampling import ClipSampling
from videocrafter.data.cutting import CuttingConfig
from videocrafter.data.loader_config import LoaderConfig
from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.video.clip_cache.config import CacheConfig
from videocrafter.training.video.fixed_clips import ValidationConfig
from videocrafter.training.video.frozen_networks import frozen_folders
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig, SampleConfig

CPU = torch.device("cpu")
CUTTING = CuttingConfig(height=16, width=16, crop="random", sampling=ClipSampling(lengths=(4,)))
CLIPS = "sprites:?num_clips=5&num_frames=6&height=16&width=20"
PICTURES = "sprites:?kind=image&num_clips=4&height=16&width=20"


def task_config(cache: CacheConfig, *sources: str, **changes: Any) -> ClipDiffusionTaskConfig:
    """Return a task in full precision, on clips and images unless other sources are given."""
    data = LoaderConfig(
        sources=sources or (CLIPS, PICTURES),
        batch_size=2,
        image_batch_size=3,
        image_share=None if sources else 0.3,
        num_workers=0,
        cutting=CUTTING,
        bad_samples=BadSampleRules(max_bad_share=1.0, max_left_out_share=1.0),
    )
    small: dict[str, Any] = {
        "data": data,
        "cache": cache,
        "frozen_weights": "fp32",
        "base_weights": "fp32",
        "text_dropout": 0.2,
        "gradient_checkpointing": False,
        "validation": ValidationConfig(num_clips=2, timesteps=(500,)),
        "samples": SampleConfig(count=1, num_inference_steps=1),
    }
    return ClipDiffusionTaskConfig(**{**small, **changes})


def recipe(start: Path, task: ClipDiffusionTaskConfig, *, num_steps: int = 6, **changes: Any) -> RecipeConfig:
    """Return a recipe of one stage that logs every step and shows nothing."""
    stage = StageConfig(
        name="clips",
        task=task,
        num_steps=num_steps,
        optimizer=OptimizerConfig(lr=1e-3, warmup_steps=0),
        precision="fp32",
        log_every=1,
        validate_every=3,
        sample_every=0,
        checkpoint_every=0,
        checkpoint_seconds=0,
    )
    return RecipeConfig(name="toy", stages=(replace(stage, **changes),), init=str(start))


def sources_of(start: Path) -> dict[str, Path]:
    """Return the folders of the frozen networks."""
    return frozen_folders(start, "text_to_video", None)

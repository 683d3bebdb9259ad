"""A toy recipe, and a script that trains it: toy_run.py FOLDER [seconds per step]."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

from toy_task import ToyTaskConfig

from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.run import train

TASK = ToyTaskConfig()


def toy_recipe(task: ToyTaskConfig = TASK, **changes: object) -> RecipeConfig:
    """Two stages that use accumulation, averaging, decay, clipping, validation and samples."""
    first = StageConfig(
        name="low",
        task=task,
        num_steps=24,
        optimizer=OptimizerConfig(lr=1e-2, warmup_steps=4, accumulate=2, decay="cosine"),
        ema_decay=0.9,
        precision="fp32",
        # The intervals differ, so that checkpoints fall between log lines.
        log_every=5,
        validate_every=6,
        sample_every=8,
        checkpoint_every=4,
    )
    first = dataclasses.replace(first, **changes)
    second = dataclasses.replace(
        first, name="high", num_steps=17, optimizer=OptimizerConfig(lr=1e-2, warmup_steps=2, grad_clip=None)
    )
    return RecipeConfig(name="toy", seed=3, stages=(first, second))


def main() -> None:
    seconds_per_step = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    outcome = train(toy_recipe(ToyTaskConfig(seconds_per_step=seconds_per_step)), Path(sys.argv[1]))
    sys.exit(0 if outcome.finished else 128 + (outcome.signal or 0))

"""The recipes: a run's whole configuration as a Python value, by name.

Run one with `videocrafter train NAME --output DIR`, and change single values with `--set`. `runs/tiny.sh` is the
whole story of the shipped model.
"""

from __future__ import annotations

from collections.abc import Callable

from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.tasks.autoencoder import AutoencoderTaskConfig
from videocrafter.training.tasks.contrastive import ContrastiveTaskConfig


def tiny_vae() -> RecipeConfig:
    """The miniature's frame-wise autoencoder: 8 times smaller with 16 channels."""
    return RecipeConfig(
        name="tiny-vae",
        stages=(
            StageConfig(
                name="reconstruct",
                task=AutoencoderTaskConfig(),
                num_steps=3000,
                optimizer=OptimizerConfig(lr=2e-3, decay="cosine", final_lr_fraction=0.02, warmup_steps=100),
                ema_decay=0.999,
                checkpoint_seconds=180,
                sample_every=1500,
            ),
        ),
    )


def tiny_clip() -> RecipeConfig:
    """The miniature's text and image towers, trained on clips and images with captions."""
    return RecipeConfig(
        name="tiny-clip",
        stages=(
            StageConfig(
                name="contrast",
                task=ContrastiveTaskConfig(),
                num_steps=800,
                optimizer=OptimizerConfig(lr=1e-3, decay="cosine", final_lr_fraction=0.02, warmup_steps=50),
                ema_decay=0.99,
                checkpoint_seconds=180,
                validate_every=200,
                sample_every=0,
            ),
        ),
    )


RECIPES: dict[str, Callable[[], RecipeConfig]] = {"tiny-vae": tiny_vae, "tiny-clip": tiny_clip}
"""Every recipe by its command-line name."""

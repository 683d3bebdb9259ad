"""Every recipe by name. Run one with `videocrafter train NAME --output DIR`; change single values with `--set`."""

from __future__ import annotations

from collections.abc import Callable

from videocrafter.training.config import RecipeConfig
from videocrafter.training.recipes import distillation, judges, miniature, paper

RECIPES: dict[str, Callable[[], RecipeConfig]] = {
    "tiny-vae": miniature.tiny_vae,
    "tiny-clip": miniature.tiny_clip,
    "tiny-sd": miniature.tiny_sd,
    "tiny-t2v": miniature.tiny_t2v,
    "tiny-i2v": miniature.tiny_i2v,
    "tiny-distill": distillation.tiny_distill,
    "tiny-judge": judges.tiny_judge,
    "tiny-second-judge": judges.tiny_second_judge,
    "smoke": miniature.smoke,
    "t2v-256": paper.t2v_256,
    "t2v-512": paper.t2v_512,
    "t2v-1024": paper.t2v_1024,
    "i2v-512": paper.i2v_512,
    "finetune": paper.finetune,
    "lora": paper.lora,
    "temporal-only": paper.temporal_only,
    "overfit-one-clip": paper.overfit_one_clip,
    "distill": distillation.distill,
    "distill-lora": distillation.distill_lora,
}
"""The function that returns each recipe, by its command-line name."""

"""The pipeline that training on clips starts from, made ready for it, and the finished one that it leaves."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import CLIPVisionModel

from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.models.image_projector import ImageProjector
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.model_folder import component_folder
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.training.starting_weights import with_image_branch

AnyPipeline = TextToVideoPipeline | ImageToVideoPipeline

FROZEN_PARTS = ("vae", "text_encoder", "tokenizer", "image_encoder")
_SCHEDULE_TOLERANCE = 1e-4
_OFFICIAL_HEAD_DIM = 64
_OFFICIAL_PROJECTOR = {"dim": 1024, "depth": 4, "heads": 12}


def load_start(folder: Path, dtype: torch.dtype) -> AnyPipeline:
    """Load the pipeline to start from.

    Raises:
        ValueError: it is none, or is damaged; one line.
    """
    pipeline = load_pipeline(folder, dtype=dtype)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def with_defaults(pipeline: AnyPipeline, **changes: Any) -> None:
    """Change what a pipeline recommends: fields of `GenerationDefaults`."""
    defaults = replace(pipeline.generation_defaults, **changes)
    pipeline.register_to_config(defaults=defaults.to_config())


def with_signal_scale(pipeline: AnyPipeline, b: float) -> None:
    """Let a pipeline of the paper's schedule scale its clean latents from now on: s_t falls from 1 to b.

    Raises:
        ValueError: its schedule is another one.
    """
    scheduler = pipeline.scheduler
    steps = scheduler.config.num_train_timesteps
    paper = alphas_cumprod(linear_betas(steps))
    now = pipeline.config["signal_scale"]
    expected = paper
    if now is not None:
        expected = alphas_cumprod(
            torch.tensor(vp_change_of_variables(paper, signal_scale(now, steps)).trained_betas, dtype=torch.float64)
        )
    if not torch.allclose(scheduler.alphas_cumprod.double().cpu(), expected, atol=_SCHEDULE_TOLERANCE):
        raise ValueError(
            f"signal_scale is {b}, but the start's schedule is not the paper's; leave signal_scale at none"
        )
    betas = vp_change_of_variables(paper, signal_scale(b, steps)).trained_betas
    pipeline.scheduler = type(scheduler).from_config(scheduler.config, trained_betas=betas)
    pipeline.register_to_config(signal_scale=b)


def with_image_input(pipeline: TextToVideoPipeline, tower: Path, num_queries: int) -> ImageToVideoPipeline:
    """An image-to-video pipeline that still is the text-to-video one: its projector is silent.

    W'k and W'v start as the text's (see `starting_weights.with_image_branch`).

    Args:
        tower: a folder with CLIP's image tower as transformers stores it, or one that holds `image_encoder/`.
        num_queries: tokens that an image becomes.

    Raises:
        ValueError: there is no such tower.
    """
    inner = image_tower_folder(tower)
    try:
        image_encoder = CLIPVisionModel.from_pretrained(inner, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the image tower in {inner} cannot be loaded: {' '.join(str(error).split())[:200]}"
        ) from error
    projector = new_projector(pipeline.unet.config["context_dim"], image_encoder.config.hidden_size, num_queries)
    made = ImageToVideoPipeline(
        vae=pipeline.vae,
        text_encoder=pipeline.text_encoder,
        tokenizer=pipeline.tokenizer,
        image_encoder=image_encoder,
        image_projector=projector,
        unet=with_image_branch(pipeline.unet),
        scheduler=pipeline.scheduler,
        defaults=pipeline.config["defaults"],
        knowledge=pipeline.config["knowledge"],
        signal_scale=pipeline.config["signal_scale"],
    )
    made.set_progress_bar_config(disable=True)
    return made


def image_tower_folder(tower: Path) -> Path:
    """The folder of CLIP's image tower that `task.image_tower` means.

    Raises:
        ValueError: there is no such tower.
    """
    inner = component_folder(tower, "image_encoder") if (tower / "image_encoder").is_dir() else tower
    if not (inner / "config.json").is_file():
        raise ValueError(
            f"task.image_tower is {str(tower)!r}, which holds no image tower; give a folder of CLIP as transformers "
            "stores it (for the paper's OpenCLIP ViT-H/14), or a pipeline folder with image_encoder/"
        )
    return inner


def new_projector(context_dim: int, image_width: int, num_queries: int) -> ImageProjector:
    """A silent projector between an image tower and a video network of these widths."""
    head = min(_OFFICIAL_HEAD_DIM, context_dim)
    small = {"dim": context_dim, "depth": 2, "heads": context_dim // head}
    sizes = _OFFICIAL_PROJECTOR if context_dim == _OFFICIAL_PROJECTOR["dim"] else small
    projector = ImageProjector(
        **sizes, dim_head=head, num_queries=num_queries, embedding_dim=image_width, output_dim=context_dim
    )
    nn.init.zeros_(projector.norm_out.weight)
    nn.init.zeros_(projector.norm_out.bias)
    return projector


def save_trained(pipeline: AnyPipeline, folder: Path, sources: dict[str, Path]) -> None:
    """Write the pipeline: the trained networks as they are, the frozen parts as files of where they came from.

    So the frozen ones are not rounded to the precision in which they were used.

    Args:
        folder: exists, empty.
        sources: folders of frozen parts.
    """
    pipeline.save_config(folder)
    for name in ("unet", "image_projector", "scheduler"):
        part = getattr(pipeline, name, None)
        if part is not None:
            part.save_pretrained(folder / name)
    for name, source in sources.items():
        shutil.copytree(source, folder / name)


def frozen_sources(start: Path, pipeline: AnyPipeline, tower: Path | None) -> dict[str, Path]:
    """Where the files of a pipeline's frozen parts are."""
    found = {name: component_folder(start, name) for name in FROZEN_PARTS if (start / name).is_dir()}
    if "image_encoder" not in found and isinstance(pipeline, ImageToVideoPipeline):
        assert tower is not None
        inner = tower / "image_encoder"
        found["image_encoder"] = component_folder(tower, "image_encoder") if inner.is_dir() else tower
    return found

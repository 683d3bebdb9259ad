"""The pipeline that training on clips starts from, made ready for it, and the finished one that it leaves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn
from transformers import CLIPVisionModel

from videocrafter.diffusion.objective import PredictionType
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.models.image_projector import ImageProjector
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.model_folder import component_folder, read_model_index
from videocrafter.pipelines.settings import GenerationDefaults
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.presets import PRESETS
from videocrafter.training.video.phases import Phase
from videocrafter.training.video.starting_weights import with_image_branch
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

AnyPipeline = TextToVideoPipeline | ImageToVideoPipeline

FROZEN_PARTS = ("vae", "text_encoder", "tokenizer", "image_encoder")
_SCHEDULE_TOLERANCE = 1e-4
_OFFICIAL_HEAD_DIM = 64
_OFFICIAL_PROJECTOR = {"dim": 1024, "depth": 4, "heads": 12}


def load_start(folder: Path, frozen: Mapping[str, nn.Module] | None = None) -> AnyPipeline:
    """Load the pipeline to start from, in float32: lower precisions of its parts are rounded from that.

    Args:
        frozen: networks by name that stand in for its own, which are then not read.

    Raises:
        ValueError: it is none, is damaged, or predicts something that cannot be trained; one line.
    """
    own = read_model_index(folder)
    given = {name: network for name, network in (frozen or {}).items() if name in own}
    pipeline = load_pipeline(folder, dtype=torch.float32, given=given)
    pipeline.set_progress_bar_config(disable=True)
    predicts, known = pipeline.scheduler.config.prediction_type, get_args(PredictionType)
    if predicts not in known:
        raise ValueError(f"the start's scheduler has prediction_type {predicts!r}; training takes {', '.join(known)}")
    return pipeline


def with_defaults(pipeline: AnyPipeline, **changes: Any) -> None:
    """Change what a pipeline recommends: fields of `GenerationDefaults`.

    The recommended fps stays within what is seen in training, and as many frames as in training may be asked for.
    """
    defaults = replace(pipeline.generation_defaults, **changes)
    if defaults.fps_range is not None:
        low, high = defaults.fps_range
        defaults = replace(defaults, fps=min(max(defaults.fps, low), high))
    if defaults.max_num_frames is not None:
        defaults = replace(defaults, max_num_frames=max(defaults.max_num_frames, defaults.num_frames))
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
            f"signal_scale is {b}, but the start's schedule is not the paper's; keep its own with "
            "--set 'stages.*.task.signal_scale=none'"
        )
    betas = vp_change_of_variables(paper, signal_scale(b, steps)).trained_betas
    pipeline.scheduler = type(scheduler).from_config(scheduler.config, trained_betas=betas)
    pipeline.register_to_config(signal_scale=b)


def fit_for(
    pipeline: AnyPipeline,
    phase: Phase,
    tower: str | None,
    num_queries: int,
    image_encoder: CLIPVisionModel | None = None,
) -> AnyPipeline:
    """The start of a phase: with an image branch where the phase begins one.

    Args:
        tower, num_queries, image_encoder: as for `with_image_input`.

    Raises:
        ValueError: the phase cannot begin with this start.
    """
    if phase not in ("image_mapping", "image_to_video") or isinstance(pipeline, ImageToVideoPipeline):
        return pipeline
    if phase == "image_to_video":
        # The mapping of a new branch is silent and would stay so: the image would never be seen.
        raise ValueError(
            "phase is 'image_to_video', which leaves the mapping of images as it is, but the start takes no image; "
            "train phase 'image_mapping' first (recipe i2v-512 has both), or start from an image-to-video model"
        )
    if tower is None:
        raise ValueError(
            f"phase is {phase!r}, but the start takes no image; give task.image_tower, a folder with CLIP's image "
            "tower, or start from an image-to-video model"
        )
    return with_image_input(pipeline, tower_folder(tower), num_queries, image_encoder)


def tower_folder(name: str) -> Path:
    """The folder that `task.image_tower` means: itself, or that of a model that the package brings."""
    preset = PRESETS.get(name)
    return Path(name) if preset is None or preset.folder is None else preset.folder


def with_image_input(
    pipeline: TextToVideoPipeline, tower: Path, num_queries: int, image_encoder: CLIPVisionModel | None = None
) -> ImageToVideoPipeline:
    """An image-to-video pipeline that still is the text-to-video one: its projector is silent.

    W'k and W'v start as the text's (see `starting_weights.with_image_branch`).

    Args:
        tower: a folder with CLIP's image tower as transformers stores it, or one that holds `image_encoder/`.
        num_queries: tokens that an image becomes.
        image_encoder: stands in for the tower, which is then not read.

    Raises:
        ValueError: there is no such tower.
    """
    if image_encoder is None:
        image_encoder = _read_tower(image_tower_folder(tower))
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
    """Where the files of an image tower are; `tower` as for `with_image_input`.

    Raises:
        ValueError: there is none.
    """
    inner = component_folder(tower, "image_encoder") if (tower / "image_encoder").is_dir() else tower
    if not (inner / "config.json").is_file():
        raise ValueError(
            f"task.image_tower is {str(tower)!r}, which holds no image tower; give a folder of CLIP as transformers "
            "stores it (for the paper's OpenCLIP ViT-H/14), or an image-to-video model's folder"
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
    projector.silence()
    return projector


def _read_tower(folder: Path) -> CLIPVisionModel:
    try:
        return CLIPVisionModel.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"the image tower in {folder} cannot be loaded: {' '.join(str(error).split())[:200]}"
        ) from error


def save_trained(pipeline: AnyPipeline, folder: Path, sources: dict[str, Path]) -> None:
    """Write the pipeline: the trained networks as they are, the frozen parts as files of where they came from.

    So the frozen ones are not rounded to the precision in which they were used. Of a folder with all of CLIP only the
    image tower is taken.

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
        if name == "image_encoder" and _is_more_than_a_tower(source):
            tower = CLIPVisionModel.from_pretrained(source, dtype="auto", local_files_only=True)
            tower.save_pretrained(folder / name)
        else:
            shutil.copytree(source, folder / name)


def _is_more_than_a_tower(folder: Path) -> bool:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return bool(config.get("model_type") != "clip_vision_model")


def frozen_sources(start: Path, pipeline: AnyPipeline, tower: Path | None) -> dict[str, Path]:
    """Where the files of a pipeline's frozen parts are."""
    found = {name: component_folder(start, name) for name in FROZEN_PARTS if (start / name).is_dir()}
    if "image_encoder" not in found and isinstance(pipeline, ImageToVideoPipeline):
        assert tower is not None
        inner = tower / "image_encoder"
        found["image_encoder"] = component_folder(tower, "image_encoder") if inner.is_dir() else tower
    return found


def with_frames_of(defaults: GenerationDefaults, config: ClipDiffusionTaskConfig) -> ClipDiffusionTaskConfig:
    """The config with the size and the number of frames that its start recommends, if it asks for them."""
    if not config.frames_like_start:
        return config
    cutting = config.data.cutting
    sampling = replace(cutting.sampling, lengths=(defaults.num_frames,))
    cutting = replace(cutting, height=defaults.height, width=defaults.width, sampling=sampling)
    return replace(config, frames_like_start=False, data=replace(config.data, cutting=cutting))


def prepared(
    pipeline: AnyPipeline, config: ClipDiffusionTaskConfig, image_encoder: CLIPVisionModel | None = None
) -> AnyPipeline:
    """The start with an image branch, a signal scale and the recommendations that the config asks for."""
    pipeline = fit_for(pipeline, config.phase, config.image_tower, config.image_queries, image_encoder)
    if config.signal_scale is not None and config.signal_scale != pipeline.config["signal_scale"]:
        with_signal_scale(pipeline, config.signal_scale)
    sampling, cutting = config.data.cutting.sampling, config.data.cutting
    with_defaults(
        pipeline,
        num_frames=max(sampling.lengths),
        height=cutting.height,
        width=cutting.width,
        **({} if sampling.fps_range is None else {"fps_range": sampling.fps_range}),
    )
    return pipeline

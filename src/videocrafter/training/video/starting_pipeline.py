"""The pipeline that training on clips starts from, prepared for a stage, and the trained one as a folder."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import torch
from torch import nn
from transformers import CLIPVisionModel

from videocrafter.checkpoints.pipeline_code import CODE_FILE, code_of
from videocrafter.diffusion.objective import PredictionType
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.media.json_file import read_json_object
from videocrafter.models.image_projector import ImageProjector, ImageTokens
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.model_folder import component_folder, read_model_index
from videocrafter.pipelines.settings import GenerationDefaults
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.training.video.phases import Phase
from videocrafter.training.video.starting_weights import with_image_branch
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

AnyPipeline = TextToVideoPipeline | ImageToVideoPipeline

FROZEN_PARTS = ("vae", "text_encoder", "tokenizer", "image_encoder")
_SCHEDULE_TOLERANCE = 1e-4
_OFFICIAL_HEAD_DIM = 64
_OFFICIAL_PROJECTOR = {"dim": 1024, "depth": 4, "heads": 12}


def load_start(folder: Path, frozen: Mapping[str, nn.Module] | None = None) -> AnyPipeline:
    """Load the pipeline to start from, in float32; lower precisions of its parts are rounded from that.

    Args:
        frozen: networks by name that replace its own, which are then not read.

    Raises:
        ValueError: the folder holds no pipeline, is damaged, or has a prediction type without an objective; one line.
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
    """Change the recommended settings of a pipeline, fields of `GenerationDefaults`.

    The recommended fps is moved into the range seen in training, and the limit of frames is raised to the number of
    frames in training. Presets that take another model are dropped: they would make videos without what was learned.
    """
    defaults = replace(pipeline.generation_defaults, **changes)
    if defaults.presets is not None:
        kept = {name: settings for name, settings in defaults.presets.items() if "model" not in settings}
        defaults = replace(defaults, presets=kept or None)
    if defaults.fps_range is not None:
        low, high = defaults.fps_range
        defaults = replace(defaults, fps=min(max(defaults.fps, low), high))
    if defaults.max_num_frames is not None:
        defaults = replace(defaults, max_num_frames=max(defaults.max_num_frames, defaults.num_frames))
    pipeline.register_to_config(defaults=defaults.to_config())


def with_signal_scale(pipeline: AnyPipeline, b: float) -> None:
    """Change a pipeline with the paper's schedule to a signal-scaled one, whose s_t falls from 1 to b.

    Raises:
        ValueError: the pipeline has another schedule.
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
    num_queries: int,
    image_encoder: CLIPVisionModel | None,
    image_tokens: ImageTokens = "patches",
) -> AnyPipeline:
    """Return the pipeline that a phase trains: with a new image branch where the phase begins one.

    Args:
        num_queries, image_encoder, image_tokens: as for `with_image_input`.

    Raises:
        ValueError: the phase cannot begin with this start.
    """
    if phase not in ("image_mapping", "image_to_video") or isinstance(pipeline, ImageToVideoPipeline):
        return pipeline
    if phase == "image_to_video":
        # The phase freezes the image mapping. A new one is silent and would stay so, and the image without effect.
        raise ValueError(
            "phase is 'image_to_video', which freezes the image mapping, but the start has no image branch; train "
            "phase 'image_mapping' first (recipe i2v-512 has both), or start from an image-to-video model"
        )
    if image_encoder is None:
        raise ValueError(
            f"phase is {phase!r}, but the start has no image branch; set task.image_tower to a folder with CLIP's "
            "image encoder, or start from an image-to-video model"
        )
    return with_image_input(pipeline, image_encoder, num_queries, image_tokens)


def with_image_input(
    pipeline: TextToVideoPipeline,
    image_encoder: CLIPVisionModel,
    num_queries: int,
    image_tokens: ImageTokens = "patches",
) -> ImageToVideoPipeline:
    """Return an image-to-video pipeline that still computes what the text-to-video one does.

    Its projector starts silent, and W'k and W'v as the text's (see `starting_weights.with_image_branch`).

    Args:
        num_queries: tokens per image that the projector makes.
        image_tokens: tokens of the image encoder that it sees.
    """
    with pipeline.unet.device:
        projector = new_projector(
            pipeline.unet.config["context_dim"], image_encoder.config.hidden_size, num_queries, image_tokens
        )
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
    """Return the folder with the files of CLIP's image encoder.

    Args:
        tower: a folder with the image encoder as transformers stores it, alone or in a whole CLIP, or a folder that
            holds `image_encoder/`.

    Raises:
        ValueError: it holds none.
    """
    inner = component_folder(tower, "image_encoder") if (tower / "image_encoder").is_dir() else tower
    if not (inner / "config.json").is_file():
        raise ValueError(
            f"task.image_tower is {str(tower)!r}, which holds no image tower; give a folder of CLIP as transformers "
            "stores it (the paper's is OpenCLIP ViT-H/14), or an image-to-video model's folder"
        )
    return inner


def new_projector(
    context_dim: int, image_width: int, num_queries: int, image_tokens: ImageTokens = "patches"
) -> ImageProjector:
    """Return a new projector, silent at first, between an image encoder and a video network of these widths."""
    head = min(_OFFICIAL_HEAD_DIM, context_dim)
    small = {"dim": context_dim, "depth": 2, "heads": context_dim // head}
    sizes = _OFFICIAL_PROJECTOR if context_dim == _OFFICIAL_PROJECTOR["dim"] else small
    projector = ImageProjector(
        **sizes,
        dim_head=head,
        num_queries=num_queries,
        embedding_dim=image_width,
        output_dim=context_dim,
        image_tokens=image_tokens,
    )
    projector.silence()
    return projector


def save_trained(pipeline: AnyPipeline, folder: Path, sources: Mapping[str, Path]) -> None:
    """Write the pipeline: the trained networks from memory, the frozen parts as copies of their files.

    Copying keeps the frozen networks from being rounded to the precision in which they ran. From the folder of a
    whole CLIP only the image encoder is taken.

    Args:
        folder: exists, empty.
        sources: folders of the frozen parts.
    """
    pipeline.save_config(folder)
    (folder / CODE_FILE).write_text(code_of(type(pipeline).__name__), encoding="utf-8")
    for name in ("unet", "image_projector", "scheduler"):
        part = getattr(pipeline, name, None)
        if part is not None:
            part.save_pretrained(folder / name)
    for name, source in sources.items():
        if name == "image_encoder" and is_whole_clip(source):
            tower = CLIPVisionModel.from_pretrained(source, dtype="auto", local_files_only=True)
            tower.save_pretrained(folder / name)
        else:
            shutil.copytree(source, folder / name)


def is_whole_clip(folder: Path) -> bool:
    """Whether the folder of an image encoder holds a whole CLIP, with its text encoder."""
    return bool(read_json_object(folder / "config.json").get("model_type") != "clip_vision_model")


def with_frames_of(defaults: GenerationDefaults, config: ClipDiffusionTaskConfig) -> ClipDiffusionTaskConfig:
    """Return the config with the size and number of frames that its start recommends, if it asks for them."""
    if not config.frames_like_start:
        return config
    cutting = config.data.cutting
    sampling = replace(cutting.sampling, lengths=(defaults.num_frames,))
    cutting = replace(cutting, height=defaults.height, width=defaults.width, sampling=sampling)
    return replace(config, frames_like_start=False, data=replace(config.data, cutting=cutting))


def prepared(
    pipeline: AnyPipeline, config: ClipDiffusionTaskConfig, image_encoder: CLIPVisionModel | None = None
) -> tuple[AnyPipeline, ClipDiffusionTaskConfig]:
    """Return the start with the image branch, signal scale and defaults of the config, and the completed config.

    Raises:
        ValueError: the start does not fit the config.
    """
    config = with_frames_of(pipeline.generation_defaults, config)
    pipeline = fit_for(pipeline, config.phase, config.image_queries, image_encoder, config.image_tokens)
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
    return pipeline, config

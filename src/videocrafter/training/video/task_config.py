"""The settings of training the video network on clips from files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, get_args

from videocrafter.data.loader_config import LoaderConfig
from videocrafter.training.video.clip_cache.config import CacheConfig
from videocrafter.training.video.clip_encoding import ConditionFrame
from videocrafter.training.video.diffusion_step import DiffusionConfig
from videocrafter.training.video.fixed_clips import ValidationConfig
from videocrafter.training.video.lora import LoraTraining

WeightPrecision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Videos that the pipeline makes during training, always from the same prompts and seeds.

    Attributes:
        prompts: empty takes the captions of the first validation clips.
        count: number of videos, if `prompts` is empty.
        num_inference_steps, guidance_scale: None takes the start's recommendation.
    """

    prompts: tuple[str, ...] = ()
    count: int = 2
    num_inference_steps: int | None = 25
    guidance_scale: float | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"samples.count is {self.count}; it must be 1 or more (sample_every=0 makes none)")
        if self.num_inference_steps is not None and not 1 <= self.num_inference_steps <= 1000:
            raise ValueError(
                f"samples.num_inference_steps is {self.num_inference_steps}; expected 1 to 1000, or none"
            )
        if self.guidance_scale is not None and self.guidance_scale < 0:
            raise ValueError(f"samples.guidance_scale is {self.guidance_scale}; it must be 0 or more, or none")


@dataclass(frozen=True, kw_only=True)
class ClipDiffusionTaskConfig(DiffusionConfig):
    """Training settings of the video network on clips. With `lora`, leave `phase` at "text_to_video".

    Attributes:
        data: sources, batches, and how samples are cut out: resolution, frames, fps.
        frames_like_start: take height, width and number of frames from the start's recommendation instead of
            `data.cutting`.
        lora: train a LoRA; the network itself stays frozen.
        condition_frame: which frame of a clip is its image.
        image_tower: for the first image phase: a folder with CLIP's image encoder, a training run, or
            the name of a shipped model that has one. A start with an image branch brings its own.
        image_queries: tokens per image, in a new projector.
        offset_noise: this times a normal number is added to the noise of each channel of each clip, which lets a
            model learn very dark and very bright videos; 0 is the paper's.
        signal_scale: b of a schedule that scales the clean latents down to b; None keeps the start's.
        gradient_checkpointing: recompute each layer in the backward pass: a third more time, a fraction of the
            memory.
        frozen_weights: precision in which the frozen networks are kept and run. "auto" is bf16, except on CPUs
            without bf16 instructions, where it would be many times slower: fp32 there.
        base_weights: precision in which the video network is kept and run under a LoRA; "auto" as above. Without a
            LoRA it is fp32.
        encoded_frames: frames in the autoencoder at once.
        cache: cache of latents and text.
        validation, samples: what is measured and sampled during training.
    """

    data: LoaderConfig = field(default_factory=LoaderConfig)
    frames_like_start: bool = False
    lora: LoraTraining | None = None
    condition_frame: ConditionFrame = "random"
    image_tower: str | None = None
    image_queries: int = 16
    offset_noise: float = 0.0
    signal_scale: float | None = None
    gradient_checkpointing: bool = True
    frozen_weights: WeightPrecision = "auto"
    base_weights: WeightPrecision = "auto"
    encoded_frames: int = 8
    cache: CacheConfig = field(default_factory=CacheConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig, metadata={"harmless": True})
    samples: SampleConfig = field(default_factory=SampleConfig, metadata={"harmless": True})

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.phase == "image_alignment":
            raise ValueError("phase 'image_alignment' is the miniature's; use 'image_mapping' or 'image_to_video'")
        for name, allowed in (
            ("condition_frame", get_args(ConditionFrame)),
            ("frozen_weights", get_args(WeightPrecision)),
            ("base_weights", get_args(WeightPrecision)),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(allowed)}")
        for name in ("image_queries", "encoded_frames"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        if self.data.epochs is not None:
            raise ValueError(f"data.epochs is {self.data.epochs}; num_steps sets the training length: set it to none")
        if self.signal_scale is not None and not 0 < self.signal_scale <= 1:
            raise ValueError(f"signal_scale is {self.signal_scale}; expected a number above 0, 1 at most, or none")
        if self.frames_like_start and _frames(self.data) != _frames(LoaderConfig()):
            raise ValueError(
                "frames_like_start is true, but data.cutting sets height, width or sampling.lengths too; set "
                "task.frames_like_start=false to use those"
            )
        if self.offset_noise < 0:
            raise ValueError(f"offset_noise is {self.offset_noise}; it must be 0 or more")
        if self.lora is not None and self.phase != "text_to_video":
            raise ValueError(
                f"phase is {self.phase!r} with a LoRA, which is trained alone; leave phase at 'text_to_video'"
            )

    def validation_metrics(self) -> list[str]:
        """The mean loss, and the loss at each noise level."""
        return ["loss", *(loss_at(level) for level in self.validation.timesteps)]


def loss_at(timestep: int) -> str:
    """Return the name of the loss at a noise level."""
    return f"loss_t{timestep:03d}"


def _frames(data: LoaderConfig) -> tuple[int, int, tuple[int, ...]]:
    return data.cutting.height, data.cutting.width, data.cutting.sampling.lengths

"""What the training of the video network on clips from files is made from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from videocrafter.data.loader_config import LoaderConfig
from videocrafter.training.video.clip_cache.config import CacheConfig
from videocrafter.training.video.clip_encoding import ConditionFrame
from videocrafter.training.video.fixed_clips import ValidationConfig
from videocrafter.training.video.lora import LoraTraining
from videocrafter.training.video.phases import Phase

if TYPE_CHECKING:
    import torch

    from videocrafter.training.video.task import ClipDiffusionTask

WeightPrecision = Literal["auto", "fp32", "bf16"]


@dataclass(frozen=True, kw_only=True)
class SampleConfig:
    """Videos that the pipeline makes during training, always of the same prompts and seeds.

    Attributes:
        prompts: empty takes the captions of the first validation clips.
        count: videos without prompts of one's own.
        num_inference_steps, guidance_scale: None takes what the start recommends.
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
class ClipDiffusionTaskConfig:
    """How the video network is trained on clips.

    Attributes:
        data: sources, batches, and how samples are cut out: resolution, frames, fps.
        frames_like_start: take height, width and number of frames that the start recommends, not those of
            `data.cutting`.
        phase: what learns; see `phases`. With `lora` only the LoRA learns, and "text_to_video" is right.
        lora: train a LoRA beside the frozen network.
        text_dropout, image_dropout, both_dropout: share of samples without caption, image, or either.
        condition_frame: which frame of a clip is its image.
        image_tower: for the first image phase: a folder with CLIP's image tower, or the name of a model of the
            package that has one. A start with an image branch brings its own.
        image_queries: tokens that an image becomes, in a new projector.
        timestep_power: timesteps are uniform numbers to this power; 1 is the paper's.
        offset_noise: this times a normal number is added to the noise of each channel of each clip, which lets a
            model learn very dark and very bright videos; 0 is the paper's.
        signal_scale: b of a schedule that scales the clean latents down to it; None keeps the start's.
        gradient_checkpointing: recompute each layer in the backward pass: a third more time, a fraction of the
            memory.
        frozen_weights: precision in which the frozen networks are kept and run; "auto" is bf16, but fp32 on CPUs
            without instructions for bf16, which would run them many times slower.
        base_weights: precision in which the video network is kept and run beside a LoRA; "auto" as above. Without a
            LoRA it is fp32.
        encoded_frames: frames in the autoencoder at once.
        cache: latents and text computed once.
        validation, samples: what is measured and shown meanwhile.
    """

    data: LoaderConfig = field(default_factory=LoaderConfig)
    frames_like_start: bool = False
    phase: Phase = "text_to_video"
    lora: LoraTraining | None = None
    text_dropout: float = 0.1
    image_dropout: float = 0.0
    both_dropout: float = 0.0
    condition_frame: ConditionFrame = "random"
    image_tower: str | None = None
    image_queries: int = 16
    timestep_power: float = 1.0
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
        if self.phase == "image_alignment":
            raise ValueError("phase 'image_alignment' is the miniature's; use 'image_mapping' or 'image_to_video'")
        for name, allowed in (
            ("phase", get_args(Phase)),
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
            raise ValueError(f"data.epochs is {self.data.epochs}; num_steps says how long is trained: set it to none")
        if self.signal_scale is not None and not 0 < self.signal_scale <= 1:
            raise ValueError(f"signal_scale is {self.signal_scale}; expected a number above 0, 1 at most, or none")
        if self.frames_like_start and _frames(self.data) != _frames(LoaderConfig()):
            raise ValueError(
                "frames_like_start is true, but data.cutting says height, width or sampling.lengths, too; set "
                "task.frames_like_start=false to use those"
            )
        if self.timestep_power <= 0:
            raise ValueError(f"timestep_power is {self.timestep_power}; it must be above 0")
        shares = (self.text_dropout, self.image_dropout, self.both_dropout)
        if min(shares) < 0 or sum(shares) > 1:
            raise ValueError(
                f"text_dropout, image_dropout and both_dropout are {shares}; expected shares that add up to 1 or less"
            )
        if self.offset_noise < 0:
            raise ValueError(f"offset_noise is {self.offset_noise}; it must be 0 or more")
        if self.lora is not None and self.phase != "text_to_video":
            raise ValueError(
                f"phase is {self.phase!r} beside a LoRA, which learns alone; leave it at 'text_to_video'"
            )

    def build(self, start: Path | None, seed: int, stage_index: int, device: torch.device) -> ClipDiffusionTask:
        """Make the task; `start` is the pipeline folder to begin with."""
        if start is None:
            raise ValueError(
                "it starts from a pipeline, and none was named; give --init FOLDER: from Stable Diffusion 2.1 "
                "(videocrafter init), a checkpoint of your own, or a model's name (videocrafter models)"
            )
        if not self.data.sources:
            raise ValueError(
                "task.data.sources is empty; name your clips with --data, such as --data folder:/path/to/clips "
                "(formats: docs/data.md)"
            )
        from videocrafter.training.video.task import ClipDiffusionTask

        return ClipDiffusionTask(self, start, seed, stage_index, device)

    def validation_metrics(self) -> list[str]:
        """The loss, as a mean and at each noise level."""
        return ["loss", *(loss_at(level) for level in self.validation.timesteps)]


def loss_at(timestep: int) -> str:
    """The name of the loss at a noise level."""
    return f"loss_t{timestep:03d}"


def _frames(data: LoaderConfig) -> tuple[int, int, tuple[int, ...]]:
    return data.cutting.height, data.cutting.width, data.cutting.sampling.lengths

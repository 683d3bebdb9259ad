"""The video network trained on clips and images from files: the paper's stages, and adaptation to one's own clips.

A stage starts from a pipeline folder (Stable Diffusion's weights in a video network, an official checkpoint, the
stage before, the miniature) and leaves one. Text to video (paper §3.1) learns from images and videos jointly; image
to video (§3.2) first learns the mapping, then, with both mappings frozen, the video model.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.data.loader_config import LoaderConfig
from videocrafter.data.sample import VideoBatch
from videocrafter.diffusion.objective import add_noise, diffusion_loss
from videocrafter.diffusion.schedule import scale_model_input
from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import write_video
from videocrafter.models.autoencoder import decode_video
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.training.batch_reader import BatchReader
from videocrafter.training.clip_cache.config import CacheConfig
from videocrafter.training.clip_cache.stage_clips import StageClips
from videocrafter.training.clip_encoding import ConditionFrame, EncodedClips
from videocrafter.training.diffusion_step import draw_dropped, draw_timesteps
from videocrafter.training.fixed_clips import ValidationConfig
from videocrafter.training.frozen_networks import (
    IMAGE_PHASES,
    WEIGHT_DTYPES,
    FrozenNetworks,
    WeightPrecision,
    frozen_folders,
)
from videocrafter.training.lora import LoraTraining, add_lora
from videocrafter.training.phases import Phase, choose_trained
from videocrafter.training.randomness import derive_seed, make_generator
from videocrafter.training.starting_pipeline import (
    AnyPipeline,
    frozen_sources,
    load_start,
    save_trained,
    with_defaults,
    with_image_input,
    with_signal_scale,
)

_LEFT_OUT = "left_out.jsonl"


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


@dataclass(frozen=True, kw_only=True)
class ClipDiffusionTaskConfig:
    """How the video network is trained on clips.

    Attributes:
        data: sources, batches, and how samples are cut out: resolution, frames, fps.
        phase: what learns; see `phases`. With `lora` only the LoRA learns, and "text_to_video" is right.
        lora: train a LoRA beside the frozen network.
        text_dropout, image_dropout, both_dropout: share of samples without caption, image, or either.
        condition_frame: which frame of a clip is its image.
        image_tower: for the first image phase: a folder with CLIP's image tower. A start with an image branch
            brings its own.
        image_queries: tokens that an image becomes, in a new projector.
        timestep_power: timesteps are uniform numbers to this power; 1 is the paper's.
        offset_noise: this times a normal number is added to the noise of each channel of each clip, which lets a
            model learn very dark and very bright videos; 0 is the paper's.
        signal_scale: b of a schedule that scales the clean latents down to it; None keeps the start's.
        gradient_checkpointing: recompute each layer in the backward pass: a third more time, a fraction of the
            memory.
        frozen_weights: precision in which the frozen networks are kept and run.
        base_weights: precision in which the video network is kept beside a LoRA. Without one it is fp32.
        encoded_frames: frames in the autoencoder at once.
        cache: latents and text computed once.
        validation, samples: what is measured and shown meanwhile.
    """

    data: LoaderConfig = field(default_factory=LoaderConfig)
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
    frozen_weights: WeightPrecision = "bf16"
    base_weights: WeightPrecision = "bf16"
    encoded_frames: int = 8
    cache: CacheConfig = field(default_factory=CacheConfig)
    validation: ValidationConfig = field(default_factory=ValidationConfig)
    samples: SampleConfig = field(default_factory=SampleConfig)

    def __post_init__(self) -> None:
        if self.phase == "image_alignment":
            raise ValueError("phase 'image_alignment' is the miniature's; use 'image_mapping' or 'image_to_video'")
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
        return ClipDiffusionTask(self, start, seed, stage_index, device)


class ClipDiffusionTask:
    """Trains the `VideoUNet` of a pipeline on clips (see `training/task.py` for what each method promises)."""

    def __init__(
        self, config: ClipDiffusionTaskConfig, start: Path, seed: int, stage_index: int, device: torch.device
    ) -> None:
        self.config, self.seed, self.stage_index, self.device = config, seed, stage_index, device
        tower = None if config.image_tower is None else Path(config.image_tower)
        parts, stay = frozen_folders(start, config.phase, tower), config.cache.folder is None
        self._frozen = FrozenNetworks(parts, device, config.frozen_weights, stay=stay)
        self.pipeline = pipeline = self._starting_pipeline(start)
        self._frozen.belong_to(pipeline)
        self.unet = pipeline.unet
        self.uses_image = isinstance(pipeline, ImageToVideoPipeline)
        self.projector: nn.Module | None = pipeline.image_projector if self.uses_image else None
        self._frozen_sources = frozen_sources(start, pipeline, tower)
        self._check_sizes()
        self._clips = StageClips(config, parts, self._frozen, pipeline.tokenizer, device)
        self.encoder = self._clips.encoder
        self._prepare_trained()
        scheduler = pipeline.scheduler
        self.alphas_cumprod = scheduler.alphas_cumprod.double().to(device)
        self.prediction_type = scheduler.config.prediction_type
        self.input_scale = pipeline.input_scale()
        self._reader: BatchReader | None = None
        self._validation: list[EncodedClips] | None = None

    def modules(self) -> Mapping[str, nn.Module]:
        """The video network, and the image projector where there is one."""
        modules: dict[str, nn.Module] = {"unet": self.unet}
        if self.projector is not None:
            modules["image_projector"] = self.projector
        return modules

    def parameter_groups(self) -> list[nn.Parameter]:
        """What learns."""
        return [p for module in self.modules().values() for p in module.parameters() if p.requires_grad]

    # Data, read in order

    def open_data(self, rank: int, world_size: int, report_folder: Path) -> None:
        """Open the sources and start the workers."""
        data = self.config.data
        rules = data.bad_samples
        if rules.report is None:
            rules = replace(rules, report=str(report_folder / _LEFT_OUT))
        data = replace(data, seed=derive_seed(self.seed, self.stage_index, data.seed) % 2**32, bad_samples=rules)
        loader = self._clips.loader(data, rank, world_size)
        self._reader = BatchReader(loader, rank=rank, world_size=world_size)

    def data_state(self) -> dict[str, Any]:
        """Where the data go on."""
        return self._open_reader.state()

    def load_data_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Go on with the data where they were left."""
        self._open_reader.load(states)

    def close_data(self) -> None:
        """Stop the workers."""
        if self._reader is not None:
            self._reader.close()
        self._clips.close()

    def batch(self, step: int, micro_step: int = 0) -> VideoBatch:
        """The next batch of clips or of images."""
        return self._open_reader.batch(step, micro_step)

    def names(self, batch: VideoBatch) -> list[str]:
        """The samples' names in their sources."""
        return list(batch.keys)

    def num_samples(self, batch: VideoBatch) -> int:
        """Clips or images in the batch."""
        return len(batch)

    # The objective

    def loss(self, batch: VideoBatch, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """The denoising loss, at one noise level per clip."""
        clips, config = self.encoder.encode(batch), self.config
        count = len(clips)
        latents = clips.latents.draw(generator)
        timestep_B = draw_timesteps(count, len(self.alphas_cumprod), generator, self.device, config.timestep_power)
        noise = torch.randn(latents.shape, generator=generator, device=self.device)
        if config.offset_noise:
            offset = torch.randn(*latents.shape[:2], 1, 1, 1, generator=generator, device=self.device)
            noise = noise + config.offset_noise * offset
        dropped = draw_dropped(
            count,
            generator,
            self.device,
            text=config.text_dropout,
            image=config.image_dropout,
            both=config.both_dropout,
        )
        text_BLD = torch.where(dropped.text[:, None, None], self.encoder.null_text(), clips.text)
        loss_B = self._loss(
            latents, noise, timestep_B, text_BLD, clips.fps, self._image_context(clips, dropped.image)
        )
        loss = loss_B.mean()
        return loss, {"loss_images" if clips.num_frames == 1 else "loss_clips": loss.detach()}

    def _loss(
        self,
        latents: Tensor,
        noise: Tensor,
        timestep_B: Tensor,
        text_BLD: Tensor,
        fps_B: Tensor,
        image_BQD: Tensor | None,
    ) -> Tensor:
        alphas_B = self.alphas_cumprod[timestep_B].to(latents.dtype)
        noisy = add_noise(latents, noise, alphas_B)
        if self.input_scale is not None:
            noisy = scale_model_input(noisy, timestep_B, self.input_scale)
        dtype = self.unet.dtype
        prediction = self.unet(
            noisy.to(dtype),
            timestep_B,
            text_BLD.to(dtype),
            fps_B,
            None if image_BQD is None else image_BQD.to(dtype),
        )
        return diffusion_loss(prediction.float(), latents, noise, alphas_B, self.prediction_type)

    def _image_context(self, clips: EncodedClips, drops_image: Tensor) -> Tensor | None:
        if self.projector is None or clips.image_tokens is None:
            return None
        tokens_BMD = torch.where(drops_image[:, None, None], self.encoder.null_image(), clips.image_tokens)
        context: Tensor = self.projector(tokens_BMD)
        return context

    # What is measured and shown

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """The mean loss on fixed clips, and at each noise level."""
        levels = self.config.validation.timesteps
        losses: dict[int, list[float]] = {level: [] for level in levels}
        for clips in self._validation_clips():
            latents = clips.latents.mean
            generator = make_generator(self.device, "validation", *clips.keys)
            noise = torch.randn(latents.shape, generator=generator, device=self.device)
            image = self._image_context(clips, torch.zeros(len(clips), dtype=torch.bool, device=self.device))
            for level in levels:
                timestep_B = torch.full((len(clips),), level, device=self.device)
                losses[level] += self._loss(latents, noise, timestep_B, clips.text, clips.fps, image).tolist()
        means = {f"loss_t{level:03d}": sum(found) / len(found) for level, found in losses.items()}
        return {"loss": sum(means.values()) / len(means), **means}

    @torch.no_grad()
    def write_samples(self, folder: Path) -> None:
        """Write videos of fixed prompts and a sheet of them."""
        samples, sampling = self.config.samples, self.config.data.cutting
        clips = self._validation_clips()[: max(1, len(samples.prompts) or samples.count)]
        prompts = list(samples.prompts) or [clip.captions[0] for clip in clips]
        settings: dict[str, Any] = {
            "num_frames": max(sampling.sampling.lengths),
            "height": sampling.height,
            "width": sampling.width,
            "num_inference_steps": samples.num_inference_steps,
            "guidance_scale": samples.guidance_scale,
            "seeds": list(range(len(prompts))),
        }
        with self._frozen.at_hand():
            if isinstance(self.pipeline, ImageToVideoPipeline):
                pictures = [self._picture(clips[index % len(clips)]) for index in range(len(prompts))]
                frames = self.pipeline(pictures, prompts, **settings).frames
            else:
                frames = self.pipeline(prompts, **settings).frames
        fps = self.pipeline.generation_defaults.fps
        for index, video in enumerate(frames):
            write_video(folder / f"sample-{index:02d}.mp4", video, playback_fps=fps, overwrite=True)
        write_image(folder / "samples.png", contact_sheet(list(frames), prompts), overwrite=True)

    def save_pipeline(self, folder: Path) -> None:
        """Write the finished pipeline's folder; of a LoRA, the LoRA alone."""
        if self.config.lora is not None:
            self.pipeline.save_lora_weights(folder)
            return
        save_trained(self.pipeline, folder, self._frozen_sources)

    # Making it

    @property
    def _open_reader(self) -> BatchReader:
        if self._reader is None:
            raise RuntimeError("the data are not open; call open_data first")
        return self._reader

    def _starting_pipeline(self, start: Path) -> AnyPipeline:
        config = self.config
        dtype = WEIGHT_DTYPES["fp32" if config.lora is None else config.base_weights]
        frozen = self._frozen.networks
        pipeline = load_start(start, dtype, frozen)
        if config.phase in IMAGE_PHASES and isinstance(pipeline, TextToVideoPipeline):
            if config.image_tower is None:
                raise ValueError(
                    f"phase is {config.phase!r}, but the start takes no image; give task.image_tower, a folder with "
                    "CLIP's image tower, or start from an image-to-video model"
                )
            tower = Path(config.image_tower)
            pipeline = with_image_input(pipeline, tower, config.image_queries, frozen["image_encoder"])
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

    def _prepare_trained(self) -> None:
        config = self.config
        self.unet.to(self.device, memory_format=torch.channels_last)
        if self.projector is not None:
            self.projector.to(self.device)
        if config.lora is not None:
            for module in self.modules().values():
                module.requires_grad_(False)
            add_lora(self.unet, config.lora)
        else:
            choose_trained(self.unet, self.projector, config.phase)
        if config.gradient_checkpointing:
            self.unet.enable_gradient_checkpointing()

    def _check_sizes(self) -> None:
        """Find out before the first step whether frames and networks go together."""
        multiple = self.pipeline.size_multiple
        wrong = [size for size in self.config.data.cutting.sizes if size[0] % multiple or size[1] % multiple]
        if wrong:
            raise ValueError(
                f"task.data.cutting gives samples of {wrong[0][1]}x{wrong[0][0]} pixels; this model takes multiples "
                f"of {multiple}: set height and width, or size_step, to them"
            )

    def _validation_clips(self) -> list[EncodedClips]:
        if self._validation is None:
            self._validation = self._clips.fixed()
        return self._validation

    def _picture(self, clips: EncodedClips) -> Any:
        """The first frame of a clip, as a person would give it."""
        first = clips.latents.mean[:, :, :1].to(self.pipeline.vae.dtype)
        pixels_CHW = decode_video(self.pipeline.vae, first)[0, 0].float().clamp(-1, 1)
        return pixels_CHW.cpu()

"""The video network trained on clips and images from files: the paper's stages, and adaptation to one's own clips.

A stage starts from a pipeline folder (Stable Diffusion's weights in a video network, an official checkpoint, the
stage before, the miniature) and leaves one. Text to video (paper §3.1) learns from images and videos jointly; image
to video (§3.2) first learns the mapping, then, with both mappings frozen, the video model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.data.loader import ImageShareError
from videocrafter.data.sample import VideoBatch
from videocrafter.diffusion.objective import add_noise, diffusion_loss
from videocrafter.diffusion.schedule import scale_model_input
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.training.batch_reader import BatchReader
from videocrafter.training.randomness import derive_seed, make_generator
from videocrafter.training.video.clip_cache.stage_clips import StageClips
from videocrafter.training.video.clip_encoding import EncodedClips
from videocrafter.training.video.clip_samples import write_clip_samples
from videocrafter.training.video.diffusion_step import draw_dropped, draw_timesteps
from videocrafter.training.video.frozen_networks import WEIGHT_DTYPES, FrozenNetworks, frozen_folders, settle_weights
from videocrafter.training.video.lora import add_lora
from videocrafter.training.video.phases import choose_trained, network_input
from videocrafter.training.video.starting_pipeline import (
    frozen_sources,
    load_start,
    prepared,
    save_trained,
    tower_folder,
    with_frames_of,
)
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig, loss_at

_log = logging.getLogger(__name__)


class ClipDiffusionTask:
    """Trains the `VideoUNet` of a pipeline on clips (see `training/task.py` for what each method promises)."""

    shardable_modules = ("unet",)

    def __init__(
        self, config: ClipDiffusionTaskConfig, start: Path, seed: int, stage_index: int, device: torch.device
    ) -> None:
        self.seed, self.stage_index, self.device = seed, stage_index, device
        config = settle_weights(config, device)
        tower = None if config.image_tower is None else tower_folder(config.image_tower)
        parts, stay = frozen_folders(start, config.phase, tower), config.cache.folder is None
        self._frozen = FrozenNetworks(parts, device, config.frozen_weights, stay=stay)
        pipeline = load_start(start, self._frozen.networks)
        self.config = config = with_frames_of(pipeline.generation_defaults, config)
        self.pipeline = pipeline = prepared(pipeline, config, self._frozen.networks.get("image_encoder"))
        self._frozen.belong_to(pipeline)
        self.unet = pipeline.unet
        self.uses_image = isinstance(pipeline, ImageToVideoPipeline)
        self.projector: nn.Module | None = pipeline.image_projector if self.uses_image else None
        self._frozen_sources = frozen_sources(start, pipeline, tower)
        self._check_sizes()
        self._clips = StageClips(config, parts, self._frozen, pipeline.tokenizer, device)
        self.encoder = self._clips.encoder
        self._prepare_trained()
        self.alphas_cumprod = pipeline.scheduler.alphas_cumprod.float().to(device)
        self.prediction_type = pipeline.scheduler.config.prediction_type
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
            rules = replace(rules, report=str(report_folder / "left_out.jsonl"))
        data = replace(data, seed=derive_seed(self.seed, self.stage_index, data.seed) % 2**32, bad_samples=rules)
        try:
            loader = self._clips.loader(data, rank, world_size)
        except ImageShareError as error:
            fitting = "none" if error.fitting is None else error.fitting
            raise ValueError(f"{error} (--set 'stages.*.task.data.image_share={fitting}')") from error
        if self._learns_in_clips_only and any(source.kind == "image" for source in loader.sources):
            raise ValueError("only temporal layers learn, which do not run on images; leave sources of images out")
        if data.one_clip:
            keys = [f"{source.label}/{clip.key}" for source in loader.sources for clip in source.read_shard(0).clips]
            _log.info("One clip is learned, the first: %s", ", ".join(keys))
        self._reader = BatchReader(loader, rank=rank, world_size=world_size)
        if self.config.validation.sources and rank == 0:
            self._validation_clips()  # so that what is wrong with them does not end the run at its first validation

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
        alphas_B = self.alphas_cumprod[timestep_B]
        noisy = add_noise(latents, noise, alphas_B)
        if self.input_scale is not None:
            noisy = scale_model_input(noisy, timestep_B, self.input_scale)
        dtype = self.unet.dtype
        prediction = self.unet(
            network_input(noisy, self.config.phase).to(dtype),
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
        for number, clips in enumerate(self._validation_clips()):
            latents = clips.latents.mean
            # By number, not by name: names begin with the folder's path, and data can be moved.
            generator = make_generator(self.device, "validation", number)
            noise = torch.randn(latents.shape, generator=generator, device=self.device)
            image = self._image_context(clips, torch.zeros(len(clips), dtype=torch.bool, device=self.device))
            for level in levels:
                timestep_B = torch.full((len(clips),), level, device=self.device)
                losses[level] += self._loss(latents, noise, timestep_B, clips.text, clips.fps, image).tolist()
        means = {loss_at(level): sum(found) / len(found) for level, found in losses.items()}
        return {"loss": sum(means.values()) / len(means), **means}

    def write_samples(self, folder: Path) -> None:
        """Write videos of fixed prompts and a sheet of them."""
        clips = self._validation_clips()
        with self._frozen.at_hand():
            write_clip_samples(self.pipeline, clips, folder, self.config.samples, self.config.data.cutting)

    def save_pipeline(self, folder: Path) -> None:
        """Write the finished pipeline's folder; of a LoRA, the LoRA alone."""
        if self.config.lora is not None:
            self.pipeline.save_lora_weights(folder)
            return
        save_trained(self.pipeline, folder, self._frozen_sources)

    # Making it

    @property
    def _learns_in_clips_only(self) -> bool:
        lora = self.config.lora
        is_temporal = self.config.phase == "temporal_only" or (lora is not None and lora.layers == "temporal")
        return is_temporal and not self.unet.config["temporal_layers_on_images"]

    @property
    def _open_reader(self) -> BatchReader:
        if self._reader is None:
            raise RuntimeError("the data are not open; call open_data first")
        return self._reader

    def _prepare_trained(self) -> None:
        config = self.config
        dtype = torch.float32 if config.lora is None else WEIGHT_DTYPES[config.base_weights]
        self.unet.to(device=self.device, dtype=dtype, memory_format=torch.channels_last)
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

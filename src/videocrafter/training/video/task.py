"""The task that trains the video network on clips and images from files: the paper's stages, and adaptation.

A stage starts from a pipeline folder (Stable Diffusion's weights in a video network, an official checkpoint, the
stage before, the miniature) and leaves one. Text to video (paper §3.1) learns from images and videos jointly; image
to video (§3.2) first learns the image mapping, then freezes both mappings and trains the video model.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.data.loader import ImageShareError
from videocrafter.data.sample import VideoBatch
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.training.batch_reader import BatchReader
from videocrafter.training.randomness import derive_seed, make_generator
from videocrafter.training.video.clip_cache.stage_clips import StageClips
from videocrafter.training.video.clip_encoding import EncodedClips, EncodesClips
from videocrafter.training.video.clip_samples import write_clip_samples
from videocrafter.training.video.diffusion_step import draw_dropped
from videocrafter.training.video.diffusion_task import DiffusionTask
from videocrafter.training.video.frozen_networks import WEIGHT_DTYPES, FrozenNetworks, frozen_folders, settle_weights
from videocrafter.training.video.lora import add_lora
from videocrafter.training.video.phases import choose_trained
from videocrafter.training.video.starting_pipeline import (
    AnyPipeline,
    load_start,
    prepared,
    save_trained,
)
from videocrafter.training.video.starting_weights import named_folder
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig, loss_at
from videocrafter.training.video.work import Checkpoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class StageInputs:
    """The inputs of training: the stage's clips, the frozen networks, and the seeds of its data."""

    clips: StageClips
    frozen: FrozenNetworks
    seed: int
    stage_index: int


class ClipDiffusionTask(DiffusionTask):
    """Trains the `VideoUNet` of a pipeline on clips (see `training/task.py` for the contract of each method).

    Args:
        config: completed by `prepared`.
        pipeline: prepared by `prepared`. Its networks may be on the meta device.
        encoder: encodes the batches.
        inputs: None for a task that is planned and not trained, which has only networks and a loss.

    Raises:
        ValueError: the sizes of the samples do not fit the networks.
    """

    def __init__(
        self,
        config: ClipDiffusionTaskConfig,
        pipeline: AnyPipeline,
        encoder: EncodesClips,
        device: torch.device,
        inputs: StageInputs | None = None,
    ) -> None:
        super().__init__(
            config,
            pipeline.unet,
            pipeline.image_projector if isinstance(pipeline, ImageToVideoPipeline) else None,
            alphas_cumprod=pipeline.scheduler.alphas_cumprod.float(),
            prediction_type=pipeline.scheduler.config.prediction_type,
            input_scale=pipeline.input_scale(),
            device=device,
        )
        self.config, self.pipeline, self.encoder, self._given_inputs = config, pipeline, encoder, inputs
        self._check_sizes()
        self._prepare_trained()
        self._reader: BatchReader | None = None
        self._validation: list[EncodedClips] | None = None

    @classmethod
    def build(
        cls, config: ClipDiffusionTaskConfig, start: Path | None, seed: int, stage_index: int, device: torch.device
    ) -> ClipDiffusionTask:
        """Load the start and build the task; arguments and errors as in `training/registry.py`."""
        if start is None:
            raise ValueError(
                "it starts from a pipeline, and none was named; give --init FOLDER: from Stable Diffusion 2.1 "
                "(videocrafter init), a checkpoint of your own, or a model's name (videocrafter models)"
            )
        if not config.data.sources:
            raise ValueError(
                "task.data.sources is empty; name your clips with --data, such as --data folder:/path/to/clips "
                "(formats: docs/data.md)"
            )
        config = settle_weights(config, device)
        tower = None if config.image_tower is None else named_folder(config.image_tower)
        folders = frozen_folders(start, config.phase, tower)
        frozen = FrozenNetworks(folders, device, config.frozen_weights, stay=config.cache.folder is None)
        pipeline, config = prepared(load_start(start, frozen.networks), config, frozen.networks.get("image_encoder"))
        frozen.belong_to(pipeline)
        clips = StageClips(config, folders, frozen, pipeline.tokenizer, device)
        inputs = StageInputs(clips=clips, frozen=frozen, seed=seed, stage_index=stage_index)
        return cls(config, pipeline, clips.encoder, device, inputs)

    # Data, read in order

    def open_data(self, rank: int, world_size: int, report_folder: Path) -> None:
        """Open the sources and start the workers."""
        data = self.config.data
        rules = data.bad_samples
        if rules.report is None:
            rules = replace(rules, report=str(report_folder / "left_out.jsonl"))
        inputs = self._inputs
        seed = derive_seed(inputs.seed, inputs.stage_index, data.seed) % 2**32
        data = replace(data, seed=seed, bad_samples=rules)
        try:
            loader = inputs.clips.loader(data, rank, world_size)
        except ImageShareError as error:
            fitting = "none" if error.fitting is None else error.fitting
            raise ValueError(f"{error} (--set 'stages.*.task.data.image_share={fitting}')") from error
        if self._trains_on_clips_only and any(source.kind == "image" for source in loader.sources):
            raise ValueError(
                "only temporal layers are trained, which do not run on images; leave out the sources of images"
            )
        if data.one_clip:
            keys = [f"{source.label}/{clip.key}" for source in loader.sources for clip in source.read_shard(0).clips]
            _log.info("Training on one clip, the first: %s", ", ".join(keys))
        self._reader = BatchReader(loader, rank=rank, world_size=world_size)
        if self.config.validation.sources and rank == 0:
            self._validation_clips()  # so that an error in them ends the run now, not at its first validation

    def data_state(self) -> dict[str, Any]:
        """The position in the data."""
        return self._open_reader.state()

    def load_data_states(self, states: Sequence[dict[str, Any]]) -> None:
        """Resume the data where they were left."""
        self._open_reader.load(states)

    def close_data(self) -> None:
        """Stop the workers, and report the captions that were too long for the text encoder."""
        if (note := self._inputs.clips.encoder.long_captions.note()) is not None:
            _log.info("Note: %s", note)
        if self._reader is not None:
            self._reader.close()
        self._inputs.clips.close()

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
        clips, count = self.encoder.encode(batch), len(batch)
        latents = clips.latents.draw(generator)
        timestep_B = self._draw_timesteps(count, generator)
        noise = torch.randn(latents.shape, generator=generator, device=self.device)
        if self.config.offset_noise:
            offset = torch.randn(*latents.shape[:2], 1, 1, 1, generator=generator, device=self.device)
            noise = noise + self.config.offset_noise * offset
        dropped = draw_dropped(count, generator, self.config)
        drops_text_B11 = dropped.text.to(self.device)[:, None, None]
        text_BLD = torch.where(drops_text_B11, self.encoder.null_text(), clips.text)
        image_BQD = self._image_context(clips.image_tokens, dropped.image)
        return self._training_loss(latents, noise, timestep_B, text_BLD, clips.fps, image_BQD)

    def null_image_tokens(self) -> Tensor:
        """Tokens [1, M, D] of the unconditional image, unprojected."""
        return self.encoder.null_image()

    def checkpointed(self, function: Checkpoint) -> Checkpoint:
        """Wrap a function for gradient checkpointing; see `StageWork`."""
        return function

    # Validation, samples and the result

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """The mean loss on fixed clips, and at each noise level."""
        levels = self.config.validation.timesteps
        losses: dict[int, list[float]] = {level: [] for level in levels}
        for number, clips in enumerate(self._validation_clips()):
            latents = clips.latents.mean
            # By number, not by name: names begin with the folder's path, and data may be moved.
            generator = make_generator(self.device, "validation", number)
            noise = torch.randn(latents.shape, generator=generator, device=self.device)
            image = self._image_context(clips.image_tokens, torch.zeros(len(clips), dtype=torch.bool))
            for level in levels:
                timestep_B = torch.full((len(clips),), level, device=self.device)
                losses[level] += self._losses(latents, noise, timestep_B, clips.text, clips.fps, image).tolist()
        means = {loss_at(level): sum(found) / len(found) for level, found in losses.items()}
        return {"loss": sum(means.values()) / len(means), **means}

    def write_samples(self, folder: Path) -> None:
        """Write videos of fixed prompts and a contact sheet of them."""
        clips = self._validation_clips()
        with self._inputs.frozen.on_device():
            write_clip_samples(self.pipeline, clips, folder, self.config.samples, self.config.data.cutting)

    def save_pipeline(self, folder: Path) -> None:
        """Write the trained pipeline's folder; for a LoRA, the LoRA alone."""
        if self.config.lora is not None:
            self.pipeline.save_lora_weights(folder)
            return
        save_trained(self.pipeline, folder, self._inputs.frozen.folders)

    @property
    def _inputs(self) -> StageInputs:
        if self._given_inputs is None:
            raise RuntimeError("this task is for a plan; it has no data and no weights")
        return self._given_inputs

    @property
    def _open_reader(self) -> BatchReader:
        if self._reader is None:
            raise RuntimeError("the data are not open; call open_data first")
        return self._reader

    @property
    def _trains_on_clips_only(self) -> bool:
        lora = self.config.lora
        is_temporal = self.config.phase == "temporal_only" or (lora is not None and lora.layers == "temporal")
        return is_temporal and not self.unet.config["temporal_layers_on_images"]

    def _prepare_trained(self) -> None:
        config = self.config
        dtype = torch.float32 if config.lora is None else WEIGHT_DTYPES[config.base_weights]
        # Not the network's own `to`, with which diffusers warns about the precision.
        nn.Module.to(self.unet, self.device, dtype)
        self.unet.to(memory_format=torch.channels_last)
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
        """Check before the first step that the sizes of the samples fit the networks."""
        multiple = self.pipeline.size_multiple
        wrong = [size for size in self.config.data.cutting.sizes if size[0] % multiple or size[1] % multiple]
        if wrong:
            raise ValueError(
                f"task.data.cutting gives samples of {wrong[0][1]}x{wrong[0][0]} pixels; this model takes multiples "
                f"of {multiple}: set height and width, or size_step, to them"
            )

    def _validation_clips(self) -> list[EncodedClips]:
        if self._validation is None:
            self._validation = self._inputs.clips.fixed()
        return self._validation

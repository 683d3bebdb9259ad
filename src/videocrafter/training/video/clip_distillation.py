"""The task that distills a pipeline into one of few steps without guidance, on clips from files.

The start's network is the teacher and the beginning of the student. The student is a whole network, or with `lora` a
LoRA for the teacher.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.data.sample import VideoBatch
from videocrafter.diffusion.guidance import Guidance
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.few_step_settings import with_few_steps
from videocrafter.pipelines.model_folder import read_model_index
from videocrafter.pipelines.settings import GenerationDefaults
from videocrafter.presets import LORA_FILE
from videocrafter.training.randomness import make_generator
from videocrafter.training.video.adapter_networks import AdapterNetworks, load_student
from videocrafter.training.video.clip_encoding import EncodedClips
from videocrafter.training.video.distillation_config import Distillation, check_distilled
from videocrafter.training.video.distiller import Distiller
from videocrafter.training.video.frozen_networks import WEIGHT_DTYPES
from videocrafter.training.video.lora import LORA_NAME
from videocrafter.training.video.starting_weights import FolderNetworks, model_folder
from videocrafter.training.video.student_networks import CopiedNetworks, StudentNetworks
from videocrafter.training.video.task import ClipDiffusionTask
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig
from videocrafter.training.video.work import Checkpoint

_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ClipDistillationTaskConfig(ClipDiffusionTaskConfig):
    """Settings of distillation on clips. Those of `ClipDiffusionTaskConfig` have the same meaning.

    Leave `phase` at "text_to_video", also for an image-to-video model, to train the whole video network.

    Attributes:
        distillation: the method, the teacher and the student's steps.
    """

    text_dropout: float = 0.0
    distillation: Distillation = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distilled(self)
        if self.signal_scale is not None:
            raise ValueError(f"signal_scale is {self.signal_scale}; a student keeps its teacher's schedule: set none")

    def validation_metrics(self) -> list[str]:
        """The consistency loss."""
        return ["loss"]


class ClipDistillationTask(ClipDiffusionTask):
    """Distills a pipeline on clips; see `ClipDiffusionTask`."""

    config: ClipDistillationTaskConfig
    # The student, its teacher and their copies are used outside of the calls that sharding supports.
    shardable_modules: Sequence[str] = ()

    def __init__(self, config: ClipDistillationTaskConfig, *args: Any, **kwargs: Any) -> None:
        self._distiller: Distiller | None = None
        super().__init__(config, *args, **kwargs)
        guidance = self._guidance()
        self._distiller = Distiller(
            config.distillation,
            self._networks(),
            guidance,
            alphas_cumprod=self.pipeline.scheduler.alphas_cumprod,
            prediction_type=self.prediction_type,
            input_scale=self.input_scale,
            device=self.device,
        )
        with_few_steps(self.pipeline, self._distiller.times)

    @classmethod
    def build(
        cls, config: ClipDiffusionTaskConfig, start: Path | None, seed: int, stage_index: int, device: torch.device
    ) -> ClipDiffusionTask:
        """Load the start and build the task; arguments and errors as in `training/registry.py`.

        A start that is a LoRA is that of an earlier stage; its network is then the teacher's.
        """
        assert isinstance(config, ClipDistillationTaskConfig)
        named = config.distillation.teacher
        config.distillation.check_teacher()
        begun = start if start is not None and (start / LORA_FILE).is_file() else None
        if begun is not None:
            if config.lora is None or named is None:
                raise ValueError(
                    f"it starts from the LoRA in {begun}; set task.lora as for that LoRA and "
                    "task.distillation.teacher to its model"
                )
            start = model_folder(named)
        task = super().build(config, start, seed, stage_index, device)
        assert isinstance(task, ClipDistillationTask)
        if begun is not None:
            load_student(task.unet, begun)
            task.distiller.restart()
        return task

    @property
    def distiller(self) -> Distiller:
        """The networks and the loss."""
        assert self._distiller is not None
        return self._distiller

    def modules(self) -> Mapping[str, nn.Module]:
        """The student and its projector, the teacher, and the networks and averages that the method adds."""
        return {**super().modules(), **({} if self._distiller is None else self._distiller.modules())}

    def begin_step(self, step: int) -> None:
        """Update the targets' average."""
        self.distiller.begin_step(step)

    def loss(self, batch: VideoBatch, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """The loss of the method."""
        clips = self.encoder.encode(batch)
        return self.distiller.loss(clips.latents.draw(generator), *self._conditions(clips), generator)

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """The mean consistency loss on fixed clips, at fixed points of the teacher's path."""
        losses: list[float] = []
        for number, clips in enumerate(self._validation_clips()):
            # Several draws for each clip, because each meets one point only.
            for draw in range(len(self.config.validation.timesteps)):
                generator = make_generator(self.device, "validation", number, draw)
                given = self._conditions(clips)
                losses += self.distiller.consistency(clips.latents.mean, *given, generator).tolist()
        return {"loss": sum(losses) / len(losses)}

    def checkpointed(self, function: Checkpoint) -> Checkpoint:
        """Wrap a function for gradient checkpointing; see `StageWork`."""
        networks = self.distiller.networks
        return networks.checkpointed(function) if isinstance(networks, AdapterNetworks) else function

    def save_pipeline(self, folder: Path) -> None:
        """Write the student's folder; for a LoRA, the LoRA and its time steps."""
        if self.config.lora is None:
            super().save_pipeline(folder)
            return
        self.pipeline.save_lora(folder, LORA_NAME, few_steps=True)

    def _conditions(self, clips: EncodedClips) -> tuple[Conditions, Conditions]:
        """The conditions of both branches of the teacher's guidance."""
        count = len(clips)
        kept = torch.zeros(count, dtype=torch.bool)
        full = Conditions(text=clips.text, fps=clips.fps, image=self._image_context(clips.image_tokens, kept))
        empty = replace(
            full,
            text=self.encoder.null_text().expand(count, -1, -1),
            image=self._image_context(clips.image_tokens, ~kept),
        )
        return full, empty

    def _guidance(self) -> Guidance:
        settings = self.config.distillation
        defaults = self.pipeline.generation_defaults
        if settings.teacher is not None and self._given_inputs is not None:
            defaults = GenerationDefaults.from_config(
                read_model_index(model_folder(settings.teacher)).get("defaults")
            )
        scale = defaults.guidance_scale if settings.guidance_scale is None else settings.guidance_scale
        if defaults.guidance_interval != (0.0, 1.0):
            start, end = defaults.guidance_interval
            _log.warning(
                "The teacher recommends guidance for the share %g to %g of its steps, but a student learns noise"
                " levels and has no such share: it learns guidance at all levels. To limit it, set guidance_log_snr"
                " in the teacher's recommended settings.",
                start,
                end,
            )
        return Guidance(
            guidance_scale=scale,
            guidance_rescale=defaults.guidance_rescale,
            guidance_log_snr=defaults.guidance_log_snr,
        )

    def _networks(self) -> StudentNetworks:
        config, with_fake = self.config, self.config.distillation.method == "matching"
        if config.lora is not None:
            return AdapterNetworks(self.unet, with_fake=config.lora if with_fake else None)
        teacher = copy.deepcopy(self.unet)
        if config.distillation.teacher is not None and self._given_inputs is not None:
            teacher = FolderNetworks(model_folder(config.distillation.teacher)).network("unet")
        # Not the network's own `to`, with which diffusers warns about the precision.
        nn.Module.to(teacher, self.device, WEIGHT_DTYPES[config.base_weights])
        networks = CopiedNetworks(self.unet, teacher.to(memory_format=torch.channels_last), with_fake=with_fake)
        if config.gradient_checkpointing:
            for network in networks.modules().values():
                if isinstance(network, VideoUNet):
                    network.enable_gradient_checkpointing()
        return networks

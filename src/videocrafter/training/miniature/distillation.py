"""The task that distills the miniature into a pipeline of few steps without guidance, on the sprite world."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.diffusion.guidance import Guidance
from videocrafter.diffusion.schedule import alphas_cumprod
from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.few_step_settings import with_few_steps
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.training.miniature.diffusion import VideoDiffusionTask
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.latent_clips import LatentClips
from videocrafter.training.video.distillation_config import Distillation, check_distilled
from videocrafter.training.video.distiller import Distiller
from videocrafter.training.video.starting_weights import FolderNetworks, NetworkSource, model_folder
from videocrafter.training.video.student_networks import CopiedNetworks


@dataclass(frozen=True, kw_only=True)
class VideoDistillationTaskConfig(VideoDiffusionTaskConfig):
    """Settings of distilling the miniature, in addition to those of `VideoDiffusionTaskConfig`.

    `network`, `noise`, `world`, `guidance_scale` and `guidance_rescale` are the teacher's, unless
    `distillation` has another scale.

    Attributes:
        distillation: the method, the teacher and the student's steps.
    """

    text_dropout: float = 0.0
    image_share: float = 0.0
    distillation: Distillation = field(default_factory=Distillation)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_distilled(self)


class VideoDistillationTask(VideoDiffusionTask):
    """Distills a `VideoUNet` in latent space; see `VideoDiffusionTask`."""

    config: VideoDistillationTaskConfig
    # The student, its teacher and their copies are used outside of the calls that sharding supports.
    shardable_modules: Sequence[str] = ()

    def __init__(
        self,
        config: VideoDistillationTaskConfig,
        source: NetworkSource,
        seed: int,
        stage_index: int,
        device: torch.device,
    ) -> None:
        if not source.has("unet"):
            raise ValueError("distillation starts from a trained model; name it with --init")
        super().__init__(config, source, seed, stage_index, device)
        settings = config.distillation
        if isinstance(source, FolderNetworks):
            _check_schedule(config, source)
        scale = config.guidance_scale if settings.guidance_scale is None else settings.guidance_scale
        self.distiller = Distiller(
            settings,
            CopiedNetworks(self.unet, self._teacher(), with_fake=settings.method == "matching"),
            Guidance(guidance_scale=scale, guidance_rescale=config.guidance_rescale),
            alphas_cumprod=alphas_cumprod(config.noise.betas()),
            prediction_type=self.prediction_type,
            input_scale=None,
            device=device,
        )

    def modules(self) -> Mapping[str, nn.Module]:
        """The student and its projector, the teacher, and the networks and averages that the method adds."""
        return {**super().modules(), **self.distiller.modules()}

    def begin_step(self, step: int) -> None:
        """Update the targets' average."""
        self.distiller.begin_step(step)

    def loss(self, batch: LatentClips, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """The loss of the method."""
        kept = torch.zeros(len(batch), dtype=torch.bool)
        with torch.no_grad():
            full, empty = (
                Conditions(
                    text=self._encode_text(captions),
                    fps=batch.fps,
                    image=self._image_context(batch.image_tokens, dropped),
                )
                for captions, dropped in ((batch.captions, kept), ([""] * len(batch), ~kept))
            )
        return self.distiller.loss(batch.latents, full, empty, generator)

    def pipeline(self) -> TextToVideoPipeline | ImageToVideoPipeline:
        """Assemble the student's pipeline from the networks as they are."""
        pipeline = super().pipeline()
        with_few_steps(pipeline, self.distiller.times)
        return pipeline

    def _teacher(self) -> Any:
        named = self.config.distillation.teacher
        # A plan needs no weights.
        if self.device.type == "meta":
            return copy.deepcopy(self.unet)
        self.config.distillation.check_teacher()
        if named is None:
            return copy.deepcopy(self.unet)
        teacher = FolderNetworks(model_folder(named)).network("unet")
        return teacher.to(self.device, memory_format=torch.channels_last)


def _check_schedule(config: VideoDistillationTaskConfig, start: FolderNetworks) -> None:
    """Raise ValueError if the student would see other noise levels than the start was trained with."""
    if start.has("scheduler") and not torch.allclose(
        start.noise_schedule().double(), alphas_cumprod(config.noise.betas()).double(), atol=1e-5
    ):
        raise ValueError(
            f"the start was trained with another noise schedule than {config.noise}; a student keeps its teacher's:"
            " set noise.schedule and noise.snr_shift as for the start"
        )

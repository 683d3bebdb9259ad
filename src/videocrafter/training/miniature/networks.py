"""The miniature's networks and noise: what differs from the official models at a size that a laptop trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffusers import DDIMScheduler
from torch import Tensor

from videocrafter.diffusion.objective import PredictionType
from videocrafter.diffusion.schedule import cosine_betas_shifted, linear_betas
from videocrafter.models.image_projector import ImageProjector


@dataclass(frozen=True, kw_only=True)
class MiniatureNetwork:
    """The miniature's VideoUNet: fields of its config, with everything that a small network needs switched on."""

    in_channels: int = 16
    out_channels: int = 16
    model_channels: int = 64
    channel_mult: tuple[int, ...] = (1, 2)
    num_res_blocks: int = 1
    attention_levels: tuple[int, ...] = (0, 1)
    head_dim: int = 32
    context_dim: int = 128
    norm_groups: int = 16
    temporal_length: int = 8
    relative_position: bool = True
    temporal_convolution: bool = False
    initial_temporal_heads: int = 2
    fps_condition: bool = True
    temporal_dropout: float = 0.0
    scale_shift: bool = True
    frame_text_condition: bool = True
    place_condition: bool = True

    def image_projector(self, width: int) -> ImageProjector:
        """A new projector for a tower of this width; silent, so that the first step is the text-to-video model."""
        projector = ImageProjector(
            dim=width,
            depth=2,
            dim_head=self.head_dim,
            heads=width // self.head_dim,
            num_queries=16,
            embedding_dim=width,
            output_dim=self.context_dim,
        )
        projector.silence()
        return projector


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """The noise schedule and what is predicted.

    Attributes:
        schedule: "linear", the paper's; or "shifted_cosine", which ends in pure noise and divides the cosine
            schedule's signal-to-noise ratio by `snr_shift`.
    """

    schedule: Literal["linear", "shifted_cosine"] = "shifted_cosine"
    snr_shift: float = 16.0
    prediction_type: PredictionType = "v_prediction"

    def betas(self) -> Tensor:
        """Betas [1000] in float64."""
        return linear_betas() if self.schedule == "linear" else cosine_betas_shifted(1000, self.snr_shift)

    def scheduler(self) -> DDIMScheduler:
        """What the finished pipeline samples with."""
        betas = self.betas().tolist()
        return DDIMScheduler(
            num_train_timesteps=len(betas),
            trained_betas=betas,
            prediction_type=self.prediction_type,
            timestep_spacing="trailing",
            clip_sample=False,
            set_alpha_to_one=True,
        )

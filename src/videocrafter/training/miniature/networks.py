"""The miniature's networks and noise schedule, which differ from the official ones to train on a laptop."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from diffusers import DDIMScheduler
from torch import Tensor

from videocrafter.diffusion.objective import PredictionType
from videocrafter.diffusion.schedule import cosine_betas_shifted, linear_betas
from videocrafter.models.image_projector import ImageProjector, ImageTokens


@dataclass(frozen=True, kw_only=True)
class MiniatureNetwork:
    """Config of the miniature's VideoUNet, with all options that a small network needs."""

    in_channels: int = 16
    out_channels: int = 16
    model_channels: int = 64
    channel_mult: tuple[int, ...] = (1, 2, 2)
    num_res_blocks: int = 1
    attention_levels: tuple[int, ...] = (1,)
    head_dim: int = 32
    context_dim: int = 128
    norm_groups: int = 16
    temporal_length: int = 16
    relative_position: bool = True
    temporal_convolution: bool = False
    initial_temporal_heads: int = 2
    fps_condition: bool = True
    temporal_dropout: float = 0.0
    scale_shift: bool = True
    frame_text_condition: bool = True
    place_condition: bool = True

    def image_projector(self, width: int, image_tokens: ImageTokens = "patches") -> ImageProjector:
        """Return a new projector for an image encoder of this width, silent at first: then images have no effect."""
        projector = ImageProjector(
            dim=width,
            depth=2,
            dim_head=self.head_dim,
            heads=width // self.head_dim,
            num_queries=16,
            embedding_dim=width,
            output_dim=self.context_dim,
            image_tokens=image_tokens,
        )
        projector.silence()
        return projector


@dataclass(frozen=True, kw_only=True)
class NoiseConfig:
    """The noise schedule and the prediction type.

    Attributes:
        schedule: "linear", the paper's; or "shifted_cosine", which ends in pure noise and divides the signal-to-noise
            ratio of the cosine schedule by `snr_shift`.
    """

    schedule: Literal["linear", "shifted_cosine"] = "shifted_cosine"
    snr_shift: float = 4.0
    prediction_type: PredictionType = "v_prediction"

    def betas(self) -> Tensor:
        """Return the betas, [1000] in float64."""
        return linear_betas() if self.schedule == "linear" else cosine_betas_shifted(1000, self.snr_shift)

    def scheduler(self) -> DDIMScheduler:
        """Return the scheduler of the trained pipeline."""
        betas = self.betas().tolist()
        return DDIMScheduler(
            num_train_timesteps=len(betas),
            trained_betas=betas,
            prediction_type=self.prediction_type,
            timestep_spacing="trailing",
            clip_sample=False,
            set_alpha_to_one=True,
        )

"""The denoising objective that all tasks of the video network share, wherever their clips come from."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from videocrafter.diffusion.objective import PredictionType, add_noise, diffusion_loss, min_snr_weights
from videocrafter.diffusion.schedule import scale_model_input
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet
from videocrafter.training.video.diffusion_step import DiffusionConfig, draw_timesteps
from videocrafter.training.video.phases import network_input


class DiffusionTask(ABC):
    """A `VideoUNet`, an image projector where there is one, and their loss.

    A subclass says which parameters are trainable, supplies the data and encodes them.

    Args:
        projector: None without an image branch.
        alphas_cumprod, prediction_type: the noise schedule, and the target of the prediction.
        input_scale: factor of the network's input at each timestep, for a signal-scaled schedule.
    """

    shardable_modules: Sequence[str] = ("unet",)

    def __init__(
        self,
        config: DiffusionConfig,
        unet: VideoUNet,
        projector: ImageProjector | None,
        *,
        alphas_cumprod: Tensor,
        prediction_type: PredictionType,
        input_scale: Tensor | None = None,
        device: torch.device,
    ) -> None:
        self._diffusion, self.unet, self.projector, self.device = config, unet, projector, device
        self.alphas_cumprod, self.prediction_type = alphas_cumprod.to(device), prediction_type
        self.input_scale = input_scale

    def modules(self) -> Mapping[str, nn.Module]:
        """The video network, and the image projector where there is one."""
        modules: dict[str, nn.Module] = {"unet": self.unet}
        if self.projector is not None:
            modules["image_projector"] = self.projector
        return modules

    def trainable_parameters(self) -> list[nn.Parameter]:
        """The parameters that the phase, or the LoRA, trains."""
        return [p for module in self.modules().values() for p in module.parameters() if p.requires_grad]

    @abstractmethod
    def null_image_tokens(self) -> Tensor:
        """Tokens [1, M, D] of the unconditional image, unprojected."""

    def _draw_timesteps(self, count: int, generator: torch.Generator) -> Tensor:
        power = self._diffusion.timestep_power
        return draw_timesteps(count, len(self.alphas_cumprod), generator, power).to(self.device)

    def _image_context(self, tokens_BMD: Tensor | None, drops_image_B: Tensor) -> Tensor | None:
        """Image context [B, Q, D], with the null image where the mask says so; None without an image branch."""
        if self.projector is None or tokens_BMD is None:
            return None
        dropped_B11 = drops_image_B.to(self.device)[:, None, None]
        context: Tensor = self.projector(torch.where(dropped_B11, self.null_image_tokens(), tokens_BMD))
        return context

    def _training_loss(
        self,
        latents: Tensor,
        noise: Tensor,
        timestep_B: Tensor,
        text_BLD: Tensor,
        fps_B: Tensor,
        image_BQD: Tensor | None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean weighted loss, and the same for the log under the kind of the batch."""
        loss_B = self._losses(latents, noise, timestep_B, text_BLD, fps_B, image_BQD)
        gamma = self._diffusion.min_snr_gamma
        if gamma is not None:
            weights_B = min_snr_weights(self.alphas_cumprod[timestep_B], gamma, self.prediction_type)
            loss_B = loss_B * weights_B.to(loss_B)
        loss = loss_B.mean()
        return loss, {"loss_images" if latents.shape[2] == 1 else "loss_clips": loss.detach()}

    def _losses(
        self,
        latents: Tensor,
        noise: Tensor,
        timestep_B: Tensor,
        text_BLD: Tensor,
        fps_B: Tensor,
        image_BQD: Tensor | None,
    ) -> Tensor:
        """Unweighted loss of each sample, [B]."""
        alphas_B = self.alphas_cumprod[timestep_B]
        noisy = add_noise(latents, noise, alphas_B)
        if self.input_scale is not None:
            noisy = scale_model_input(noisy, timestep_B, self.input_scale)
        dtype = self.unet.dtype
        prediction = self.unet(
            network_input(noisy, self._diffusion.phase).to(dtype),
            timestep_B,
            text_BLD.to(dtype),
            fps_B,
            None if image_BQD is None else image_BQD.to(dtype),
        )
        return diffusion_loss(prediction.float(), latents, noise, alphas_B, self.prediction_type)

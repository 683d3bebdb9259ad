"""The one sampling loop: scheduler × guidance × VideoUNet.

Every pipeline, and everything that samples (validation during training, the exam), runs through `denoise`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from videocrafter.diffusion.guidance import classifier_free_guidance, rescale_guidance
from videocrafter.diffusion.schedule import scale_model_input
from videocrafter.pipelines.randomness import step_arguments

StepCallback = Callable[[int, Tensor, Tensor], Tensor | None]
"""Called after every step with (step index, timestep, latents); may return other latents to go on with."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """What the network is told about B videos.

    Attributes:
        text: [B, L, D] text tokens.
        fps: [B] motion speed, or None for a network without it.
        image: [B, M, D] image tokens, or None for text to video.
    """

    text: Tensor
    fps: Tensor | None = None
    image: Tensor | None = None

    @staticmethod
    def stack(first: Conditions, second: Conditions) -> Conditions:
        """Both as one batch of 2B videos, `first` first. Both must have the same parts."""
        return Conditions(
            text=torch.cat([first.text, second.text]),
            fps=_cat_or_none(first.fps, second.fps),
            image=_cat_or_none(first.image, second.image),
        )


def _cat_or_none(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    if first is None or second is None:
        if first is not second:
            raise ValueError("the conditional and the unconditional branch must have the same parts")
        return None
    return torch.cat([first, second])


def denoise(
    unet: Any,
    scheduler: Any,
    noise: Tensor,
    conditional: Conditions,
    unconditional: Conditions | None = None,
    *,
    num_inference_steps: int,
    guidance_scale: float = 1.0,
    guidance_rescale: float = 0.0,
    eta: float = 0.0,
    image_scale: float = 1.0,
    input_scale: Tensor | None = None,
    generators: Sequence[torch.Generator],
    on_step: StepCallback | None = None,
) -> Tensor:
    """Turn noise into latents.

    Args:
        unet: VideoUNet, or anything called like it.
        scheduler: any diffusers scheduler with `set_timesteps`, `scale_model_input` and `step`.
        noise: [B, C, T, H, W] standard normal, float32.
        conditional: what is asked for.
        unconditional: what guidance moves away from; None switches guidance off.
        num_inference_steps: steps of the scheduler (second-order ones call the network twice in each).
        guidance_scale: w in uncond + w (cond − uncond).
        guidance_rescale: 0 … 1, how far the guided prediction is brought back to the conditional's spread.
        eta: share of fresh noise in DDIM (0 deterministic, 1 as DDPM).
        image_scale: weight of the image branch.
        input_scale: [number of training timesteps], n_t of a signal-scaled model; None for all others.
        generators: one per video, for schedulers that add noise.
        on_step: see `StepCallback`.

    Returns:
        [B, C, T, H, W] float32 latents.

    Raises:
        FloatingPointError: the latents are no longer finite, as happens in half precision with models not
            made for it.
    """
    scheduler.set_timesteps(num_inference_steps, device=noise.device)
    arguments = step_arguments(scheduler, generators, eta)
    both = conditional if unconditional is None else Conditions.stack(unconditional, conditional)
    # Latents stay in float32 whatever the network runs in: solvers subtract nearly equal numbers.
    latents = noise * scheduler.init_noise_sigma
    for index, timestep in enumerate(scheduler.timesteps):
        sample = scheduler.scale_model_input(latents, timestep)
        if input_scale is not None:
            sample = scale_model_input(sample, timestep, input_scale)
        prediction = _predict(unet, sample, timestep, both, image_scale)
        if unconditional is not None:
            away_from, towards = prediction.chunk(2)
            prediction = classifier_free_guidance(towards, away_from, guidance_scale)
            if guidance_rescale > 0:
                prediction = rescale_guidance(prediction, towards, guidance_rescale)
        latents = scheduler.step(prediction, timestep, latents, return_dict=False, **arguments)[0]
        if on_step is not None:
            changed = on_step(index, timestep, latents)
            latents = latents if changed is None else changed
    if not bool(torch.isfinite(latents).all()):
        raise FloatingPointError("sampling gave values that are not finite; try float32, or a lower guidance")
    return latents


def _predict(unet: Any, sample: Tensor, timestep: Tensor, both: Conditions, image_scale: float) -> Tensor:
    """One call of the network for all branches; float32 in and out."""
    repeats = both.text.shape[0] // sample.shape[0]
    batch = torch.cat([sample] * repeats).to(both.text.dtype)
    times = timestep.to(sample.device).expand(batch.shape[0])
    prediction = unet(batch, times, both.text, both.fps, both.image, image_scale)
    return prediction.float()

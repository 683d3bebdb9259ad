"""The one sampling loop: scheduler × guidance × VideoUNet.

Every pipeline, and everything that samples (validation during training, the exam), runs through `denoise`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from videocrafter.diffusion.guidance import Guidance
from videocrafter.diffusion.objective import predicted_x0_and_noise
from videocrafter.diffusion.schedule import scale_model_input
from videocrafter.diffusion.schedulers import SMALLEST_ALPHA_BAR
from videocrafter.pipelines.randomness import step_arguments

StepCallback = Callable[[int, Tensor, Tensor], Tensor | None]
"""Called after every step with (step index, timestep, latents); may return other latents to go on with."""

EstimateCallback = Callable[[int, Tensor], None]
"""Called in every step, before `StepCallback`, with (step index, estimate of the finished latents)."""


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
    def stack(*branches: Conditions) -> Conditions:
        """All as one batch, the first branch first. All must have the same parts."""
        return Conditions(
            text=torch.cat([one.text for one in branches]),
            fps=_cat_or_none([one.fps for one in branches]),
            image=_cat_or_none([one.image for one in branches]),
        )


def _cat_or_none(parts: Sequence[Tensor | None]) -> Tensor | None:
    given = [part for part in parts if part is not None]
    if given and len(given) < len(parts):
        raise ValueError("the conditional and the unconditional branch must have the same parts")
    return torch.cat(given) if given else None


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
    image_guidance_scale: float | None = None,
    temporal_guidance_scale: float = 0.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    eta: float = 0.0,
    image_scale: float = 1.0,
    input_scale: Tensor | None = None,
    generators: Sequence[torch.Generator],
    on_step: StepCallback | None = None,
    on_estimate: EstimateCallback | None = None,
    first_step: int = 0,
) -> Tensor:
    """Turn noise into latents.

    Args:
        unet: VideoUNet, or anything called like it.
        scheduler: any diffusers scheduler with `set_timesteps`, `scale_model_input` and `step`.
        noise: [B, C, T, H, W] standard normal, float32.
        conditional: what is asked for.
        unconditional: what guidance moves away from; None switches guidance by text and image off.
        num_inference_steps: steps of the scheduler (second-order ones call the network twice in each).
        guidance_scale: w in uncond + w (cond − uncond).
        guidance_rescale: 0 … 1, how far the guided prediction is brought back to the conditional's spread.
        image_guidance_scale: the image's own w, if it is to differ; this takes a third branch, which has the
            unconditional text and the image asked for. The formula is in `diffusion.guidance`.
        temporal_guidance_scale: 0 or more, how far to move away from what the network says of each frame
            alone; above 0 this takes one more call of the network, without its temporal layers.
        guidance_interval: the share of the steps, (start, end), in which there is guidance of any kind;
            the other steps call the network for the conditional branch only.
        eta: share of fresh noise in DDIM (0 deterministic, 1 as DDPM).
        image_scale: weight of the image branch.
        input_scale: [number of training timesteps], n_t of a signal-scaled model; None for all others.
        generators: one per video, for schedulers that add noise.
        on_step: see `StepCallback`.
        on_estimate: see `EstimateCallback`.
        first_step: steps of the scheduler to leave out at the start; if any, `noise` is not pure noise but
            latents as noisy as that step expects them (`scheduler.add_noise`).

    Returns:
        [B, C, T, H, W] float32 latents.

    Raises:
        ValueError: a guidance setting that is not allowed, or no step left.
        FloatingPointError: the latents are no longer finite, as happens in half precision with models not
            made for it.
    """
    guidance = Guidance(
        scale=guidance_scale,
        image_scale=image_guidance_scale,
        temporal_scale=temporal_guidance_scale,
        rescale=guidance_rescale,
        interval=guidance_interval,
    )
    network = _GuidedNetwork(unet, guidance, conditional, unconditional, image_scale)
    steps = _set_steps(scheduler, num_inference_steps, first_step, noise.device)
    arguments = step_arguments(scheduler, generators, eta)
    # Latents stay in float32 whatever the network runs in: solvers subtract nearly equal numbers.
    latents = noise * scheduler.init_noise_sigma if first_step == 0 else noise
    if input_scale is not None:
        input_scale = input_scale.to(device=noise.device, dtype=torch.float32)
    for index, (share, timestep) in enumerate(steps):
        sample = scheduler.scale_model_input(latents, timestep)
        network_input = sample if input_scale is None else scale_model_input(sample, timestep, input_scale)
        prediction = network.predict(network_input, timestep, share)
        if on_estimate is not None:
            on_estimate(index, _finished(scheduler, sample, prediction, timestep))
        latents = scheduler.step(prediction, timestep, latents, return_dict=False, **arguments)[0]
        if on_step is not None:
            changed = on_step(index, timestep, latents)
            latents = latents if changed is None else changed
    if not bool(torch.isfinite(latents).all()):
        raise FloatingPointError("sampling gave values that are not finite; try float32, or a lower guidance")
    return latents


def _set_steps(
    scheduler: Any, num_inference_steps: int, first_step: int, device: torch.device
) -> list[tuple[float, Tensor]]:
    """Make the scheduler begin at a step; return the share of the sampling and the timestep of each that is left."""
    scheduler.set_timesteps(num_inference_steps, device=device)
    begin = first_step * getattr(scheduler, "order", 1)
    timesteps = list(scheduler.timesteps)
    if not 0 <= begin < len(timesteps):
        raise ValueError(f"first_step must leave at least one of {num_inference_steps} steps, but is {first_step}")
    if hasattr(scheduler, "set_begin_index"):
        # Else solvers look the first step up by its time, which several steps may share after rounding.
        scheduler.set_begin_index(begin)
    return [(index / len(timesteps), timesteps[index]) for index in range(begin, len(timesteps))]


class _GuidedNetwork:
    """The network under all conditions that a step needs, in as few calls as possible."""

    def __init__(
        self,
        unet: Any,
        guidance: Guidance,
        conditional: Conditions,
        unconditional: Conditions | None,
        image_scale: float,
    ) -> None:
        self.unet = unet
        self.guidance = guidance
        self.image_scale = image_scale
        self.conditional = conditional
        branches = [conditional] if unconditional is None else [unconditional, conditional]
        if unconditional is not None and guidance.separates_image:
            image_only = replace(unconditional, image=conditional.image)
            # At an image scale of 1 the formula comes to guidance away from "no text, but the image".
            branches = (
                [image_only, conditional] if guidance.image_scale == 1 else [unconditional, image_only, conditional]
            )
        self.branches = Conditions.stack(*branches)
        self.num_branches = len(branches)

    def predict(self, sample: Tensor, timestep: Tensor, share: float) -> Tensor:
        """The guided prediction, float32, for a step that begins at this share of the sampling."""
        if not self.guidance.acts_at(share):
            return self._call(sample, timestep, self.conditional)
        *others, full = self._call(sample, timestep, self.branches).chunk(self.num_branches)
        unconditional = others[0] if others else None
        image_only = others[1] if len(others) > 1 else None
        still = None
        if self.guidance.temporal_scale > 0 and sample.shape[2] > 1:
            still = self._call(sample, timestep, self.conditional, temporal=False)
        return self.guidance.combine(full, unconditional, image_only, still)

    def _call(self, sample: Tensor, timestep: Tensor, told: Conditions, **options: bool) -> Tensor:
        repeats = told.text.shape[0] // sample.shape[0]
        batch = torch.cat([sample] * repeats).to(told.text.dtype)
        times = timestep.to(sample.device).expand(batch.shape[0])
        return self.unet(batch, times, told.text, told.fps, told.image, self.image_scale, **options).float()


def _finished(scheduler: Any, sample: Tensor, prediction: Tensor, timestep: Tensor) -> Tensor:
    """The clean latents that a prediction implies; `sample` is variance preserving, as the scheduler scales it."""
    if scheduler.config.prediction_type == "sample":
        return prediction
    level, time = scheduler.alphas_cumprod.float().cpu(), float(timestep)
    above = min(int(time) + 1, len(level) - 1)
    # Some solvers step between training steps. Of pure noise, a noise prediction tells nothing: the floor
    # keeps the number finite.
    abar = torch.lerp(level[int(time)], level[above], time - int(time)).clamp(min=SMALLEST_ALPHA_BAR)
    return predicted_x0_and_noise(prediction, sample, abar.reshape(1), scheduler.config.prediction_type)[0]

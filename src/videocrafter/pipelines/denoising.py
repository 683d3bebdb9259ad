"""The one sampling loop: scheduler × guidance × VideoUNet.

Every pipeline, and everything that samples (validation during training, the exam), runs through `denoise`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from videocrafter.diffusion.sampling_steps import SamplingSteps
from videocrafter.diffusion.schedule import scale_model_input
from videocrafter.pipelines.feature_cache import CachedUNet
from videocrafter.pipelines.randomness import step_arguments
from videocrafter.pipelines.sampling_settings import SamplingSettings


@dataclass(frozen=True, kw_only=True)
class StepChange:
    """Changes after a step.

    Attributes:
        latents: to continue with.
        conditional: conditions of the remaining steps; None keeps conditions and settings as they are.
        unconditional: with `conditional` only; None turns text and image guidance off.
        settings: with `conditional` only; guidance and image scale of the remaining steps.
        stop: whether to skip the remaining steps.
    """

    latents: Tensor
    conditional: Conditions | None = None
    unconditional: Conditions | None = None
    settings: SamplingSettings | None = None
    stop: bool = False


StepCallback = Callable[[int, Tensor, Tensor], "StepChange | Tensor | None"]
"""Called after every step with (step index, timestep, latents); may return changes, or latents to continue with."""

EstimateCallback = Callable[[int, Tensor], None]
"""Called in every step, before `StepCallback`, with (step index, estimate of the clean latents)."""


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """Conditions of the network for B videos.

    Attributes:
        text: [B, L, D] text tokens.
        fps: [B] motion speed, or None for a network without fps embedding.
        image: [B, M, D] image tokens, or None for text to video.
    """

    text: Tensor
    fps: Tensor | None = None
    image: Tensor | None = None

    @staticmethod
    def stack(*branches: Conditions) -> Conditions:
        """Concatenate branches into one batch, in order. All must have the same parts."""
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
    steps: SamplingSteps,
    latents: Tensor,
    conditional: Conditions,
    unconditional: Conditions | None,
    settings: SamplingSettings,
    *,
    generators: Sequence[torch.Generator],
    input_scale: Tensor | None = None,
    branches_apart: bool = False,
    on_step: StepCallback | None = None,
    on_estimate: EstimateCallback | None = None,
) -> Tensor:
    """Turn noise into latents.

    Args:
        unet: VideoUNet, or anything with the same call. Branches of guidance are passed as several conditions per
            clip if it has `takes_branches`, otherwise as a larger batch.
        steps: the steps to take, not begun yet.
        latents: [B, C, T, H, W] at the noise level of the first step, float32; see `SamplingSteps.start`.
        conditional: the conditions to generate from.
        unconditional: the conditions that guidance moves away from; None turns text and image guidance off.
        settings: number of steps, guidance, eta and image scale.
        generators: one per video, for schedulers that add noise.
        input_scale: [number of training timesteps], n_t of a signal-scaled model; None for all others.
        branches_apart: run the branches of guidance one after the other, which saves memory.
        on_step: see `StepCallback`.
        on_estimate: see `EstimateCallback`.

    Returns:
        [B, C, T, H, W] float32 latents.

    Raises:
        FloatingPointError: the latents are NaN or infinite, as happens in half precision with models not made
            for it.
    """
    network = _GuidedNetwork(unet, settings, conditional, unconditional, branches_apart)
    arguments = step_arguments(steps.scheduler, generators, settings.eta)
    total = steps.num_skipped + len(steps.timesteps)
    # Latents stay in float32 whatever the network runs in: solvers subtract nearly equal numbers.
    if input_scale is not None:
        input_scale = input_scale.to(device=latents.device, dtype=torch.float32)
    cached = unet if isinstance(unet, CachedUNet) else None
    for index, timestep in enumerate(steps.timesteps):
        share, log_snr = (steps.num_skipped + index) / total, steps.log_snr(index)
        if cached is not None:
            cached.begin_step(index, guided=network.settings.acts_at(share, log_snr))
        sample = steps.scale_model_input(latents, index)
        network_input = sample if input_scale is None else scale_model_input(sample, timestep, input_scale)
        prediction = network.predict(network_input, timestep, share, log_snr)
        if on_estimate is not None:
            on_estimate(index, steps.clean_estimate(prediction, index, sample))
        latents = steps.step(prediction, index, latents, arguments)
        if on_step is not None:
            change = on_step(index, timestep, latents)
            if isinstance(change, StepChange):
                latents = change.latents
                if change.conditional is not None:
                    if cached is not None:
                        cached.forget()
                    network = _GuidedNetwork(
                        unet,
                        change.settings or settings,
                        change.conditional,
                        change.unconditional,
                        branches_apart,
                    )
                if change.stop:
                    break
            elif change is not None:
                latents = change
    if not bool(torch.isfinite(latents).all()):
        raise FloatingPointError("the latents are NaN or infinite; try float32 or a lower guidance scale")
    return latents


class _GuidedNetwork:
    """Calls the network under all conditions that a step needs: in one call, or with `apart` in one per branch."""

    def __init__(
        self,
        unet: Any,
        settings: SamplingSettings,
        conditional: Conditions,
        unconditional: Conditions | None,
        apart: bool,
    ) -> None:
        self.unet = unet
        self.settings = settings
        self.conditional = conditional
        branches = [conditional] if unconditional is None else [unconditional, conditional]
        if unconditional is not None and settings.separates_image:
            image_only = replace(unconditional, image=conditional.image)
            # With an image guidance scale of 1, e(0,0) drops out of the formula and e(0,I) takes its place.
            branches = (
                [image_only, conditional]
                if settings.image_guidance_scale == 1
                else [unconditional, image_only, conditional]
            )
        self.calls = branches if apart else [Conditions.stack(*branches)]
        self.num_branches = len(branches)
        self.shares_input = bool(getattr(unet, "takes_branches", False)) and _same_fps(branches)

    def predict(self, sample: Tensor, timestep: Tensor, share: float, log_snr: float) -> Tensor:
        """Return the guided prediction, float32, for a step that begins at this share of the sampling."""
        if not self.settings.acts_at(share, log_snr):
            return self._call(sample, timestep, self.conditional)
        predictions = torch.cat([self._call(sample, timestep, conditions) for conditions in self.calls])
        *others, full = predictions.chunk(self.num_branches)
        unconditional = others[0] if others else None
        image_only = others[1] if len(others) > 1 else None
        still = None
        if self.settings.temporal_guidance_scale > 0 and sample.shape[2] > 1:
            still = self._call(sample, timestep, self.conditional, temporal=False)
        return self.settings.combine(full, unconditional, image_only, still)

    def _call(self, sample: Tensor, timestep: Tensor, conditions: Conditions, **options: bool) -> Tensor:
        repeats, fps = conditions.text.shape[0] // sample.shape[0], conditions.fps
        if self.shares_input:
            fps = None if fps is None else fps[: len(sample)]
        else:
            sample = torch.cat([sample] * repeats)
        times = timestep.to(sample.device).expand(len(sample))
        return self.unet(
            sample.to(conditions.text.dtype),
            times,
            conditions.text,
            fps,
            conditions.image,
            self.settings.image_scale,
            **options,
        ).float()


def _same_fps(branches: Sequence[Conditions]) -> bool:
    given = [one.fps for one in branches if one.fps is not None]
    return all(torch.equal(fps, given[0]) for fps in given)

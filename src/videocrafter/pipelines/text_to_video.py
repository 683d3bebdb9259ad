"""From a prompt to a video (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from diffusers import AutoencoderKL
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.output import (
    OutputType,
    PhaseClock,
    VideoPipelineOutput,
    check_output_type,
    frames_as,
)
from videocrafter.pipelines.settings import VideoRequest
from videocrafter.pipelines.video_pipeline import StepEndCallback, VideoPipeline, check_configured


class TextToVideoPipeline(VideoPipeline):
    """Makes videos from prompts.

    Args:
        vae: frame-wise autoencoder.
        text_encoder, tokenizer: CLIP's text tower.
        unet: VideoUNet without image branch.
        scheduler: any diffusers scheduler; exchange it by assignment.
        defaults: recommended settings, fields of `GenerationDefaults`.
        knowledge: words of a closed world, fields of `Knowledge`; None for a model of the open world.
        signal_scale: b of a signal-scaled checkpoint, whose network input is then scaled; else None.
    """

    model_cpu_offload_seq = "text_encoder->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: PreTrainedTokenizerBase,
        unet: VideoUNet,
        scheduler: SchedulerMixin,
        defaults: dict[str, Any] | None = None,
        knowledge: dict[str, Any] | None = None,
        signal_scale: float | None = None,
    ) -> None:
        super().__init__()
        check_configured(defaults, knowledge)
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.register_to_config(defaults=defaults, knowledge=knowledge, signal_scale=signal_scale)

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        *,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | Sequence[float] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        temporal_guidance_scale: float = 0.0,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        eta: float | None = None,
        seeds: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_videos_per_prompt: int = 1,
        output_type: OutputType = "np",
        callback_on_step_end: StepEndCallback | None = None,
    ) -> VideoPipelineOutput:
        """Make `num_videos_per_prompt` videos of every prompt. None means the model's recommended value.

        Args:
            prompt: what to show; an empty one lets the model invent.
            negative_prompt: what guidance moves away from.
            num_frames: frames per video.
            height, width: pixels; multiples of `size_multiple`.
            fps: motion speed, one or one per prompt: the frame rate at which the motion looks natural.
            num_inference_steps: steps of the scheduler.
            guidance_scale: strength of classifier-free guidance; 1 or below switches it off.
            guidance_rescale: 0 … 1 against over-exposure by strong guidance.
            temporal_guidance_scale: 0 is off; more pushes away from what the model thinks of each frame alone,
                towards motion and frames that fit together. Costs one more call of the network per step.
            guidance_interval: (start, end), the share of the steps in which there is guidance of any kind;
                outside of it a step costs one branch instead of two or more.
            eta: share of fresh noise in DDIM, 0 … 1.
            seeds: one for all (the i-th video of each prompt gets seed + i), or one per video.
            generator: instead of seeds: one, or one per video.
            output_type: "np", "pt", "pil" or "latent"; see `VideoPipelineOutput`.
            callback_on_step_end: called after each step as in other diffusers pipelines.

        A video depends on its own prompt, seed and settings only, not on its batch (up to rounding).

        Raises:
            ValueError: a setting that is not allowed; the message says what is.
        """
        check_output_type(output_type)
        request = self.check_inputs(
            prompt,
            negative_prompt,
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            guidance_rescale=guidance_rescale,
            temporal_guidance_scale=temporal_guidance_scale,
            guidance_interval=guidance_interval,
            eta=eta,
            seeds=seeds,
            generator=generator,
            num_videos_per_prompt=num_videos_per_prompt,
        )
        return self.generate(request, output_type, callback_on_step_end)

    @torch.no_grad()
    def generate(
        self,
        request: VideoRequest,
        output_type: OutputType = "np",
        callback_on_step_end: StepEndCallback | None = None,
    ) -> VideoPipelineOutput:
        """Make the videos of a request that `check_inputs` returned."""
        clock = PhaseClock(self._execution_device)
        with clock.phase("encode"):
            conditional, unconditional = self.encode(request)
        with clock.phase("denoise"):
            noise = self.prepare_latents(request)
            latents = self.denoise(request, noise, conditional, unconditional, callback_on_step_end)
        with clock.phase("decode"):
            frames = latents if output_type == "latent" else frames_as(self.decode_latents(latents), output_type)
        self.maybe_free_model_hooks()
        return VideoPipelineOutput(frames=frames, seeds=request.seeds, seconds=clock.seconds)

    def encode(self, request: VideoRequest) -> tuple[Conditions, Conditions | None]:
        """Conditions of both branches; the second is None without guidance. fps is the same in both."""
        fps = torch.tensor(request.fps, device=self._execution_device)
        conditional = Conditions(text=self.encode_prompts(request.prompts), fps=fps)
        if not request.is_guided:
            return conditional, None
        return conditional, Conditions(text=self.encode_prompts(request.negative_prompts), fps=fps)

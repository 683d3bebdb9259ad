"""Text to video: a prompt becomes a video (paper, section 3.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor
from transformers import CLIPTextModel, PreTrainedTokenizerBase

from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.component_loading import check_configured
from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.output import OutputType, VideoPipelineOutput
from videocrafter.pipelines.prompt_inputs import Prompts
from videocrafter.pipelines.prompt_length import warn_about_length
from videocrafter.pipelines.sampling_settings import given_settings
from videocrafter.pipelines.settings import VideoRequest
from videocrafter.pipelines.shared_components import carried_settings
from videocrafter.pipelines.step_end import StepEndCallback
from videocrafter.pipelines.video_pipeline import VideoPipeline


class TextToVideoPipeline(VideoPipeline):
    """Makes videos from prompts.

    Args:
        vae: frame-wise autoencoder.
        text_encoder, tokenizer: CLIP's text tower.
        unet: VideoUNet without image branch.
        scheduler: any diffusers scheduler; assign another to replace it.
        defaults: recommended settings, fields of `GenerationDefaults`.
        knowledge: vocabulary of a model trained on a closed set of words, fields of `Knowledge`; otherwise None.
        signal_scale: b of a signal-scaled checkpoint, whose network input is then scaled; otherwise None. None takes
            `defaults`, `knowledge` and `signal_scale` from the pipeline that the network comes from.
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
        settings = carried_settings(
            unet, self.takes_image, defaults=defaults, knowledge=knowledge, signal_scale=signal_scale
        )
        check_configured(settings["defaults"], settings["knowledge"])
        self.register_modules(vae=vae, text_encoder=text_encoder, tokenizer=tokenizer, unet=unet, scheduler=scheduler)
        self.register_to_config(**settings)

    def __call__(
        self,
        prompt: Prompts | None = None,
        negative_prompt: Prompts | None = None,
        *,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: float | Sequence[float] | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_rescale: float | None = None,
        temporal_guidance_scale: float | None = None,
        guidance_interval: tuple[float, float] | None = None,
        guidance_log_snr: tuple[float, float] | None = None,
        eta: float | None = None,
        seeds: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_videos_per_prompt: int = 1,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        output_type: OutputType = "np",
        return_dict: bool = True,
        callback_on_step_end: StepEndCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
    ) -> VideoPipelineOutput:
        """Make `num_videos_per_prompt` videos of every prompt. None means the model's recommended value.

        A video depends on its own prompt, seed and settings only, not on its batch (up to rounding).

        Args:
            prompt: description of the video; an empty one generates without text.
            negative_prompt: description of what the video should not show.
            num_frames: frames per video.
            height, width: pixels; multiples of `size_multiple`.
            fps: motion speed, one or one per prompt: the frame rate at which the motion looks natural.
            num_inference_steps: sampling steps.
            guidance_scale: strength of classifier-free guidance; 1 or below turns it off.
            guidance_rescale: from 0 to 1, reduces over-exposure at high guidance scales.
            temporal_guidance_scale: guidance away from the prediction for each frame alone; higher values favour
                motion and temporal consistency. 0 is off. Adds one call of the network per step.
            guidance_interval: (start, end), the share of the steps with guidance. The other steps take about half
                the time.
            guidance_log_snr: (low, high), the log signal-to-noise ratios of the steps with guidance.
            eta: share of fresh noise per DDIM step, from 0 to 1.
            seeds: one for all (the i-th video of each prompt uses seed + i), or one per video.
            generator: used instead of seeds: one, which draws the seeds, or one per video.
            latents: [N, C, T, h, w] initial noise of all videos instead of drawn noise.
            prompt_embeds, negative_prompt_embeds: text tokens instead of prompts, [prompts, L, D], as `encode_prompt`
                returns.
            output_type: "np", "pt", "pil", "latent" or "uint8"; see `VideoPipelineOutput`.
            return_dict: False returns the tuple `(frames,)`.
            callback_on_step_end: called after each step with (pipeline, step, timestep, tensors), as in other
                diffusers pipelines; see `pipelines.step_end`.
            callback_on_step_end_tensor_inputs: tensors that it is given, of "latents", "denoised" (the estimate of
                the final latents), "prompt_embeds" and "negative_prompt_embeds"; by default the first two.
            cross_attention_kwargs: `{"scale": s}` multiplies the weights of the LoRAs by s in this call.

        Raises:
            ValueError: a value that is not allowed; the message says what is.
        """
        request = self.check_inputs(
            prompt,
            negative_prompt,
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            seeds=seeds,
            generator=generator,
            num_videos_per_prompt=num_videos_per_prompt,
            latents=latents,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
            **given_settings(locals()),
        )
        warn_about_length(self, request)
        return self.generate(
            request,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            cross_attention_kwargs=cross_attention_kwargs,
            return_dict=return_dict,
        )

    def encode(self, request: VideoRequest, image: Any = None) -> tuple[Conditions, Conditions | None]:
        """Return the conditions of both branches; the second is None without guidance. fps is the same in both."""
        if image is not None:
            raise ValueError("this model takes no image; leave it out or load an image-to-video model")
        fps = torch.tensor(request.fps, device=self._execution_device)
        text, negative = self.encode_branches(request)
        unconditional = None if negative is None else Conditions(text=negative, fps=fps)
        return Conditions(text=text, fps=fps), unconditional

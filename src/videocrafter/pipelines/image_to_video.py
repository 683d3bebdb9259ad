"""Image to video: an image and a prompt become a video (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from torch import Tensor
from transformers import CLIPTextModel, CLIPVisionModel, PreTrainedTokenizerBase

from videocrafter.models.image_encoder import encode_image, null_image
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.component_loading import check_configured
from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.image_fit import ImageFit
from videocrafter.pipelines.image_input import Images, in_order, per_video_images
from videocrafter.pipelines.output import OutputType, VideoPipelineOutput
from videocrafter.pipelines.prompt_inputs import Prompts
from videocrafter.pipelines.prompt_length import warn_about_length
from videocrafter.pipelines.sampling_settings import given_settings
from videocrafter.pipelines.settings import VideoRequest
from videocrafter.pipelines.shared_components import carried_settings
from videocrafter.pipelines.step_end import StepEndCallback
from videocrafter.pipelines.video_pipeline import VideoPipeline


class ImageToVideoPipeline(VideoPipeline):
    """Makes videos with the content of an image and the motion that a prompt describes.

    The image guides the content; it is not reproduced as the first frame. Arguments as in `TextToVideoPipeline`, and:

    Args:
        unet: VideoUNet with image branch.
        image_encoder: CLIP's image tower.
        image_projector: turns the tower's tokens into context tokens.
    """

    takes_image = True
    _callback_tensor_inputs = [*VideoPipeline._callback_tensor_inputs, "image_embeds"]  # noqa: RUF012
    model_cpu_offload_seq = "text_encoder->image_encoder->image_projector->unet->vae"

    def __init__(
        self,
        vae: AutoencoderKL,
        text_encoder: CLIPTextModel,
        tokenizer: PreTrainedTokenizerBase,
        image_encoder: CLIPVisionModel,
        image_projector: ImageProjector,
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
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_encoder=image_encoder,
            image_projector=image_projector,
            unet=unet,
            scheduler=scheduler,
        )
        self.register_to_config(**settings)

    def __call__(
        self,
        *inputs: Images | Prompts | None,
        image: Images | None = None,
        prompt: Prompts | None = None,
        negative_prompt: Prompts | None = None,
        image_scale: float | None = None,
        image_fit: ImageFit = "stretch",
        image_guidance_scale: float | None = None,
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

        All other arguments, and the errors, are those of `TextToVideoPipeline`.

        Args:
            inputs: image, prompt and negative prompt by position. Image and prompt may be swapped, unless the image
                is a path in a string.
            image: one image for all prompts, or one per prompt; of any size and shape. A path, a PIL image, an array
                [H, W, 3] or a tensor [3, H, W]; arrays and tensors are uint8, or floats from 0 to 1.
            prompt: description of the motion; none generates from the image alone.
            image_scale: weight of the image relative to the text: 1 as trained, 0 ignores the image.
            image_fit: how an image of another shape than the video is fitted: "stretch" (as in the paper), "crop"
                or "pad"; see `pipelines.image_fit`.
            image_guidance_scale: a separate guidance scale w_I for the image, next to w_T = guidance_scale for the
                text: e(0,0) + w_I [e(0,I) - e(0,0)] + w_T [e(T,I) - e(0,I)]. Adds a third branch, e(0,I). By
                default one scale guides both.
        """
        image, prompt, negative_prompt = in_order(inputs, image, prompt, negative_prompt)
        if prompt is None and prompt_embeds is None:
            prompt = ""
        request = self.check_inputs(
            prompt,
            negative_prompt,
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            image_fit=image_fit,
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
            image,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            cross_attention_kwargs=cross_attention_kwargs,
            return_dict=return_dict,
        )

    def encode(self, request: VideoRequest, image: Any = None) -> tuple[Conditions, Conditions | None]:
        """Return the conditions of both branches; the second is None without guidance. fps is the same in both.

        The unconditional image is the null image through encoder and projector, not zero tokens.
        """
        if image is None:
            raise ValueError("this model needs an image; pass one, or load a text-to-video model")
        tokens = self.encode_images(per_video_images(image, request))
        fps = torch.tensor(request.fps, device=self._execution_device)
        text, negative = self.encode_branches(request)
        conditional = Conditions(text=text, fps=fps, image=tokens)
        if negative is None:
            return conditional, None
        null = null_image(1, self.image_encoder, self._execution_device)
        nothing = self.encode_images([null[0]]).expand(request.num_videos, -1, -1)
        return conditional, replace(conditional, text=negative, image=nothing)

    def encode_images(self, images: Sequence[Tensor]) -> Tensor:
        """Return context tokens [N, Q, D] of images [3, H, W] in [-1, 1]; an image that repeats is encoded once."""
        tokens: dict[int, Tensor] = {}
        for image in images:
            if id(image) not in tokens:
                pixels = image[None].to(self._execution_device)
                patches = encode_image(self.image_encoder, pixels).to(self.image_projector.dtype)
                tokens[id(image)] = self.image_projector(patches)[0].to(self.unet.dtype)
        return torch.stack([tokens[id(image)] for image in images])

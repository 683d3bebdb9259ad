"""Image to video: an image and a prompt become a video (paper, section 3.2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from diffusers.schedulers.scheduling_utils import SchedulerMixin
from PIL import Image
from torch import Tensor
from transformers import CLIPTextModel, CLIPVisionModel, PreTrainedTokenizerBase

from videocrafter.models.image_encoder import encode_image, null_image
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.image_fit import ImageFit, fit_image, reduce_image
from videocrafter.pipelines.output import OutputType, VideoPipelineOutput
from videocrafter.pipelines.phases import StepEndCallback
from videocrafter.pipelines.sampling_settings import given_settings
from videocrafter.pipelines.settings import VideoRequest
from videocrafter.pipelines.video_pipeline import VideoPipeline, check_configured

ImageInput = Image.Image | np.ndarray | Tensor
"""An image of any size: PIL, uint8 [H, W, 3], or float tensor [3, H, W] in [-1, 1]."""


class ImageToVideoPipeline(VideoPipeline):
    """Makes videos with the content of an image and the motion that a prompt describes.

    The image guides the content; it is not reproduced as the first frame. Arguments as in `TextToVideoPipeline`, and:

    Args:
        unet: VideoUNet with image branch.
        image_encoder: CLIP's image tower.
        image_projector: turns the tower's tokens into context tokens.
    """

    takes_image = True
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
        check_configured(defaults, knowledge)
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            image_encoder=image_encoder,
            image_projector=image_projector,
            unet=unet,
            scheduler=scheduler,
        )
        self.register_to_config(defaults=defaults, knowledge=knowledge, signal_scale=signal_scale)

    def __call__(
        self,
        image: ImageInput | Sequence[ImageInput],
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] | None = None,
        *,
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
        eta: float | None = None,
        seeds: int | Sequence[int] | None = None,
        generator: torch.Generator | Sequence[torch.Generator] | None = None,
        num_videos_per_prompt: int = 1,
        output_type: OutputType = "np",
        callback_on_step_end: StepEndCallback | None = None,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
    ) -> VideoPipelineOutput:
        """Make `num_videos_per_prompt` videos of every prompt. None means the model's recommended value.

        All other arguments, and the errors, are those of `TextToVideoPipeline`.

        Args:
            image: one image for all prompts, or one per prompt; of any size and shape.
            image_scale: weight of the image relative to the text: 1 as trained, 0 ignores the image.
            image_fit: how an image of another shape than the video is fitted: "stretch" (as in the paper), "crop"
                or "pad"; see `pipelines.image_fit`.
            image_guidance_scale: a separate guidance scale w_I for the image, next to w_T = guidance_scale for the
                text: e(0,0) + w_I [e(0,I) - e(0,0)] + w_T [e(T,I) - e(0,I)]. Adds a third branch, e(0,I). By
                default one scale guides both.
        """
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
            **given_settings(locals()),
        )
        with self.lora_scaled(cross_attention_kwargs):
            return self.generate(request, image, output_type=output_type, callback_on_step_end=callback_on_step_end)

    def encode(self, request: VideoRequest, image: Any = None) -> tuple[Conditions, Conditions | None]:
        """Return the conditions of both branches; the second is None without guidance. fps is the same in both.

        The unconditional image is the null image through encoder and projector, not zero tokens.
        """
        if image is None:
            raise ValueError("this model needs an image; pass one, or load a text-to-video model")
        tokens = self.encode_images(per_video_images(image, request))
        fps = torch.tensor(request.fps, device=self._execution_device)
        conditional = Conditions(text=self.encode_prompts(request.prompts), fps=fps, image=tokens)
        if not request.sampling.needs_unconditional:
            return conditional, None
        null = null_image(1, self.image_encoder, self._execution_device)
        nothing = self.encode_images([null[0]]).expand(request.num_videos, -1, -1)
        text = self.encode_prompts(request.negative_prompts)
        return conditional, replace(conditional, text=text, image=nothing)

    def encode_images(self, images: Sequence[Tensor]) -> Tensor:
        """Return context tokens [N, Q, D] of images [3, H, W] in [-1, 1]; an image that repeats is encoded once."""
        tokens: dict[int, Tensor] = {}
        for image in images:
            if id(image) not in tokens:
                pixels = image[None].to(self._execution_device)
                patches = encode_image(self.image_encoder, pixels).to(self.image_projector.dtype)
                tokens[id(image)] = self.image_projector(patches)[0].to(self.unet.dtype)
        return torch.stack([tokens[id(image)] for image in images])


def image_to_tensor(image: Any) -> Tensor:
    """Convert an image to float32 [3, H, W] in [-1, 1].

    Raises ValueError for other shapes and types, and for an image that is one pixel wide or high.
    """
    if isinstance(image, Image.Image):
        image = np.array(image.convert("RGB"))  # a copy: torch warns about read-only arrays
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ValueError(f"an image array must be uint8 [H, W, 3], but is {image.dtype} {list(image.shape)}")
        image = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1).float() / 127.5 - 1.0
    if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or not image.is_floating_point():
        given = f"shape {list(image.shape)}" if isinstance(image, Tensor) else type(image).__name__
        raise ValueError(
            f"an image must be a PIL image, a uint8 array [H, W, 3] or a float tensor [3, H, W], but is {given}"
        )
    if min(image.shape[1:]) < 2:
        raise ValueError(f"an image needs at least 2 pixels per side, but is {image.shape[2]}x{image.shape[1]}")
    return image.float()


def per_video_images(image: ImageInput | Sequence[ImageInput], request: VideoRequest) -> list[Tensor]:
    """Return one tensor per video from one image or one per prompt, fitted to the shape of the request's videos.

    An image that repeats is converted once. Raises ValueError for a wrong count or something that is not an image.
    """
    num_prompts = request.num_videos // request.num_videos_per_prompt
    if isinstance(image, (Image.Image, np.ndarray, Tensor)):
        images = [image] * num_prompts
        names = [""] * num_prompts
    else:
        images = list(image)
        names = [f"image {number} of {len(images)}: " for number in range(1, len(images) + 1)]
    if len(images) != num_prompts:
        raise ValueError(f"got {len(images)} images for {num_prompts} prompts; pass one, or one per prompt")
    tensors: dict[int, Tensor] = {}
    for name, one in zip(names, images, strict=True):
        if id(one) not in tensors:
            try:
                tensors[id(one)] = fit_image(
                    image_to_tensor(reduce_image(one)), request.height, request.width, request.image_fit
                )
            except ValueError as error:
                raise ValueError(f"{name}{error}") from error
    return [tensors[id(one)] for one in images for _ in range(request.num_videos_per_prompt)]

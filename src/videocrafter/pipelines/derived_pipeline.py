"""Base of the pipelines that reuse a loaded pipeline's networks to make other kinds of videos.

Long videos, loops, continuations, interpolations and video to video need no other weights. They differ from plain
generation in the latents that sampling starts from, in what the network sees, and in what happens between steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from videocrafter.pipelines.clip import decoded_chunks
from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.image_input import ImageInput, Images
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.output import OutputType, VideoPipelineOutput
from videocrafter.pipelines.phases import EncodedRequest
from videocrafter.pipelines.prompt_inputs import Prompts
from videocrafter.pipelines.prompt_length import warn_about_length
from videocrafter.pipelines.settings import VideoRequest
from videocrafter.pipelines.step_end import StepEndCallback
from videocrafter.pipelines.text_to_video import TextToVideoPipeline

AnyVideoPipeline = TextToVideoPipeline | ImageToVideoPipeline


class DerivedPipeline(ABC):
    """Shared behaviour: call it, or use `check_inputs`, `notes` and `generate`, as with the pipeline itself.

    Args:
        pipeline: a loaded pipeline, text to video or image to video.
    """

    def __init__(self, pipeline: AnyVideoPipeline) -> None:
        self.pipeline = pipeline

    @abstractmethod
    def sample(self, encoded: EncodedRequest) -> Tensor:
        """Return latents [N, C, T, h, w]."""

    def __call__(
        self,
        prompt: Prompts | None = None,
        negative_prompt: Prompts | None = None,
        *,
        image: Images | None = None,
        output_type: OutputType = "np",
        return_dict: bool = True,
        callback_on_step_end: StepEndCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] | None = None,
        cross_attention_kwargs: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> VideoPipelineOutput:
        """Make `num_videos_per_prompt` videos of every prompt.

        A video depends on its own prompt, seed and settings only, not on its batch (up to rounding).

        Args:
            prompt, negative_prompt: as in the pipeline.
            image: for an image-to-video model only: one image, or one per prompt.
            output_type, return_dict, callback_on_step_end, callback_on_step_end_tensor_inputs,
                cross_attention_kwargs: as in the pipeline.
            settings: all other arguments of `VideoPipeline.check_inputs` except `latents`: `num_frames`, `fps`,
                `seeds`, `guidance_scale` …

        Raises:
            TypeError: an unknown argument.
            ValueError: a value that is not allowed; the message says what is.
        """
        if prompt is None and settings.get("prompt_embeds") is None:
            prompt = ""
        request = self.check_inputs(prompt, negative_prompt, **settings)
        warn_about_length(self.pipeline, request)
        return self.generate(
            request,
            image,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            callback_on_step_end_tensor_inputs=callback_on_step_end_tensor_inputs,
            cross_attention_kwargs=cross_attention_kwargs,
            return_dict=return_dict,
        )

    def check_inputs(
        self, prompt: Prompts | None, negative_prompt: Prompts | None = None, **settings: Any
    ) -> VideoRequest:
        """Check all arguments as `VideoPipeline.check_inputs` does, and refuse `latents`."""
        if settings.get("latents") is not None:
            raise ValueError(f"latents cannot be given to {type(self).__name__}, which arranges its noise itself")
        return self.pipeline.check_inputs(prompt, negative_prompt, **settings)

    def notes(self, request: VideoRequest) -> list[str]:
        """Return notes for the user about unusual settings of a request, one line each."""
        return self.pipeline.notes(request)

    def num_steps(self, request: VideoRequest) -> int:
        """Return how often `callback_on_step_end` is called for a request."""
        return self.pipeline.num_steps(request)

    def generate(
        self,
        request: VideoRequest,
        image: Images | None = None,
        *,
        output_type: OutputType = "np",
        callback_on_step_end: StepEndCallback | None = None,
        **options: Any,
    ) -> VideoPipelineOutput:
        """Make the videos of a request that `check_inputs` returned; `options` as in `VideoPipeline.generate`."""
        return self.pipeline.generate(
            request,
            image,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
            phases=self,
            **options,
        )

    def encode(self, request: VideoRequest, image: Images | None) -> tuple[Conditions, Conditions | None]:
        """Return the conditions of both branches. Raises ValueError for an image too many or too few."""
        if image is None and self.pipeline.takes_image:
            image = self.default_image(request)
        return self.pipeline.encode(request, image)

    def default_image(self, request: VideoRequest) -> ImageInput | None:
        """Return the image for an image-to-video model if the caller passes none; None if one must be passed."""
        return None

    def noise(self, request: VideoRequest, num_frames: int) -> Tensor:
        """Draw noise [N, C, num_frames, h, w] from each video's own generator, as plain generation does."""
        return self.pipeline.prepare_latents(replace(request, num_frames=num_frames))

    def decode(self, request: VideoRequest, latents: Tensor, output_type: OutputType) -> Any:
        """Return frames in the form of `output_type`; arrays are decoded chunk by chunk to save memory."""
        if output_type in ("np", "uint8"):
            videos = (list(decoded_chunks(self.pipeline, video, output_type)) for video in latents)
            return np.stack([np.concatenate(chunks) for chunks in videos])
        return self.pipeline.decode(request, latents, output_type)

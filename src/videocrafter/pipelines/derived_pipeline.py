"""Base of the pipelines that reuse a loaded pipeline's networks to make other kinds of videos.

Long videos, loops, continuations, interpolations and video to video need no other weights. They differ from plain
generation in the latents that sampling starts from, in what the network sees, and in what happens between steps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from videocrafter.pipelines.clip import decoded_chunks
from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.image_to_video import ImageInput, ImageToVideoPipeline
from videocrafter.pipelines.output import OutputType, VideoPipelineOutput
from videocrafter.pipelines.phases import EncodedRequest, StepEndCallback
from videocrafter.pipelines.settings import VideoRequest
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
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] | None = None,
        *,
        image: ImageInput | Sequence[ImageInput] | None = None,
        output_type: OutputType = "np",
        callback_on_step_end: StepEndCallback | None = None,
        **settings: Any,
    ) -> VideoPipelineOutput:
        """Make `num_videos_per_prompt` videos of every prompt.

        A video depends on its own prompt, seed and settings only, not on its batch (up to rounding).

        Args:
            prompt, negative_prompt: as in the pipeline.
            image: for an image-to-video model only: one image, or one per prompt.
            output_type, callback_on_step_end: as in the pipeline.
            settings: all other arguments of `VideoPipeline.check_inputs`: `num_frames`, `fps`, `seeds`,
                `guidance_scale` …

        Raises:
            TypeError: an unknown argument.
            ValueError: a value that is not allowed; the message says what is.
        """
        request = self.check_inputs(prompt, negative_prompt, **settings)
        return self.generate(request, image, output_type=output_type, callback_on_step_end=callback_on_step_end)

    def check_inputs(
        self, prompt: str | Sequence[str], negative_prompt: str | Sequence[str] | None = None, **settings: Any
    ) -> VideoRequest:
        """Check all arguments as `VideoPipeline.check_inputs` does."""
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
        image: ImageInput | Sequence[ImageInput] | None = None,
        *,
        output_type: OutputType = "np",
        callback_on_step_end: StepEndCallback | None = None,
    ) -> VideoPipelineOutput:
        """Make the videos of a request that `check_inputs` returned."""
        return self.pipeline.generate(
            request, image, output_type=output_type, callback_on_step_end=callback_on_step_end, phases=self
        )

    def encode(
        self, request: VideoRequest, image: ImageInput | Sequence[ImageInput] | None
    ) -> tuple[Conditions, Conditions | None]:
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
        """Return frames in the form of `output_type`; uint8 frames are decoded chunk by chunk to save memory."""
        if output_type == "np":
            return np.stack([np.concatenate(list(decoded_chunks(self.pipeline, video))) for video in latents])
        return self.pipeline.decode(request, latents, output_type)

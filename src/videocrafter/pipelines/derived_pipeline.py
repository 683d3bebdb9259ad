"""A loaded pipeline used in another way: the same calls and settings, other videos.

Long videos, loops, continuations, interpolations and video to video need no other weights. They differ from a
plain generation in what the sampling starts from, in what the network is shown, and in what happens between the
steps. `DerivedPipeline` does all else as the pipeline does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videocrafter.pipelines.clip import decoded_chunks
from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.image_to_video import ImageInput, ImageToVideoPipeline, per_video_images
from videocrafter.pipelines.output import (
    OutputType,
    PhaseClock,
    VideoPipelineOutput,
    check_output_type,
    frames_as,
)
from videocrafter.pipelines.settings import VideoRequest, check_at_least
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.pipelines.video_pipeline import StepEndCallback

AnyVideoPipeline = TextToVideoPipeline | ImageToVideoPipeline
AfterStep = Callable[[int, Tensor], Tensor]
"""Called after every step with (step index, latents); returns the latents to go on with."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """A request whose conditions are encoded: all that the sampling loop needs but the noise."""

    pipeline: AnyVideoPipeline
    request: VideoRequest
    conditional: Conditions
    unconditional: Conditions | None
    image_scale: float
    callback: StepEndCallback | None

    def noise(self, num_frames: int) -> Tensor:
        """Noise [N, C, num_frames, h, w] from each video's own generator, as a plain generation draws it."""
        return self.pipeline.prepare_latents(replace(self.request, num_frames=num_frames))

    def run(
        self, noise: Tensor, *, unet: Any = None, first_step: int = 0, after_step: AfterStep | None = None
    ) -> Tensor:
        """Denoise; `unet` stands in for the network, `first_step` leaves steps out, as in `denoise`."""

        def on_step_end(pipeline: Any, index: int, timestep: Any, state: dict[str, Tensor]) -> dict[str, Tensor]:
            if after_step is not None:
                state = {**state, "latents": after_step(index, state["latents"])}
            changed = None if self.callback is None else self.callback(pipeline, index, timestep, state)
            return {**state, **(changed or {})}

        return self.pipeline.denoise(
            self.request,
            noise,
            self.conditional,
            self.unconditional,
            on_step_end,
            self.image_scale,
            unet=unet,
            first_step=first_step,
        )


class DerivedPipeline(ABC):
    """What all ways share. `check_inputs`, `notes`, `generate` and the call are used like the pipeline's own.

    Args:
        pipeline: a loaded pipeline, text to video or image to video.
    """

    def __init__(self, pipeline: AnyVideoPipeline) -> None:
        self.pipeline = pipeline

    @abstractmethod
    def sample(self, sampling: Sampling) -> Tensor:
        """Make the latents [N, C, T, h, w]."""

    def __call__(
        self,
        prompt: str | Sequence[str] = "",
        negative_prompt: str | Sequence[str] | None = None,
        *,
        image: ImageInput | Sequence[ImageInput] | None = None,
        image_scale: float | None = None,
        output_type: OutputType = "np",
        callback_on_step_end: StepEndCallback | None = None,
        **settings: Any,
    ) -> VideoPipelineOutput:
        """Make `num_videos_per_prompt` videos of every prompt.

        Args:
            prompt, negative_prompt: as in the pipeline.
            image: for an image-to-video model only: one picture, or one per prompt.
            image_scale, output_type, callback_on_step_end: as in the pipeline.
            settings: everything else that `check_inputs` takes: `num_frames`, `fps`, `seeds` …

        A video depends on its own prompt, seed and settings only, not on its batch (up to rounding).

        Raises:
            ValueError: a setting that is not allowed; the message says what is.
        """
        check_output_type(output_type)
        request = self.check_inputs(prompt, negative_prompt, **settings)
        return self.generate(
            request,
            image,
            image_scale=image_scale,
            output_type=output_type,
            callback_on_step_end=callback_on_step_end,
        )

    def check_inputs(
        self, prompt: str | Sequence[str], negative_prompt: str | Sequence[str] | None = None, **settings: Any
    ) -> VideoRequest:
        """The pipeline's `check_inputs`, with what this way allows besides."""
        return self.pipeline.check_inputs(prompt, negative_prompt, **settings)

    def notes(self, request: VideoRequest) -> list[str]:
        """What the user should know about a request that is allowed but unusual; one line each."""
        return self.pipeline.notes(request)

    def num_steps(self, request: VideoRequest) -> int:
        """How often `callback_on_step_end` is called for a request."""
        return self.pipeline.num_steps(request)

    @torch.no_grad()
    def generate(
        self,
        request: VideoRequest,
        image: ImageInput | Sequence[ImageInput] | None = None,
        *,
        image_scale: float | None = None,
        output_type: OutputType = "np",
        callback_on_step_end: StepEndCallback | None = None,
    ) -> VideoPipelineOutput:
        """Make the videos of a request that `check_inputs` returned."""
        pipeline = self.pipeline
        scale = pipeline.generation_defaults.image_scale if image_scale is None else image_scale
        check_at_least("image_scale", scale, 0.0)
        clock = PhaseClock(pipeline._execution_device)
        with clock.phase("encode"):
            conditional, unconditional = self.encode(request, image)
        with clock.phase("denoise"):
            latents = self.sample(
                Sampling(
                    pipeline=pipeline,
                    request=request,
                    conditional=conditional,
                    unconditional=unconditional,
                    image_scale=scale,
                    callback=callback_on_step_end,
                )
            )
        with clock.phase("decode"):
            frames = latents if output_type == "latent" else self.decode(request, latents, output_type)
        pipeline.maybe_free_model_hooks()
        return VideoPipelineOutput(frames=frames, seeds=request.seeds, seconds=clock.seconds)

    def encode(
        self, request: VideoRequest, image: ImageInput | Sequence[ImageInput] | None
    ) -> tuple[Conditions, Conditions | None]:
        """Conditions of both branches. Raises ValueError for an image too many or too few."""
        if not isinstance(self.pipeline, ImageToVideoPipeline):
            if image is not None:
                raise ValueError("the model makes videos from text alone; leave out the image or load another model")
            return self.pipeline.encode(request)
        image = self.default_image(request) if image is None else image
        if image is None:
            raise ValueError("the model makes videos from an image; give one, or load a text-to-video model")
        return self.pipeline.encode(request, per_video_images(image, request))

    def default_image(self, request: VideoRequest) -> ImageInput | None:
        """What an image-to-video model is shown if no image is given; None means that one must be."""
        return None

    def decode(self, request: VideoRequest, latents: Tensor, output_type: OutputType) -> Any:
        """Latents [N, C, T, h, w] as frames; uint8 frames never exist all at once in a wider type."""
        if output_type == "np":
            return np.stack([np.concatenate(list(decoded_chunks(self.pipeline, video))) for video in latents])
        return frames_as(self.pipeline.decode_latents(latents), output_type)

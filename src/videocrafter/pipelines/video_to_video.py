"""Video to video: a clip is partly noised, then denoised with a prompt (SDEdit, Meng et al. 2022).

Denoising replaces what the noise hides. A little noise keeps colours and positions and changes detail; a lot of noise
keeps only the coarsest layout.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from videocrafter.pipelines.clip import check_clip, encode_clip, fit_clip
from videocrafter.pipelines.derived_pipeline import AnyVideoPipeline
from videocrafter.pipelines.image_input import ImageInput
from videocrafter.pipelines.long_video import LongVideo
from videocrafter.pipelines.phases import EncodedRequest
from videocrafter.pipelines.plain_numbers import plain_number, whole_number
from videocrafter.pipelines.prompt_inputs import Prompts
from videocrafter.pipelines.settings import VideoRequest
from videocrafter.pipelines.windows import WindowedUNet


class VideoToVideo(LongVideo):
    """Makes variations of a clip.

    Args:
        pipeline: a loaded pipeline. An image-to-video model sees the clip's first frame unless an image is passed.
        clip: [T, H, W, 3], uint8 or floats from 0 to 1. It is scaled and cropped to the size of the video. A clip
            longer than those in training is processed in windows.
        strength: share of the steps that are run, above 0 and up to 1. 1 starts from pure noise and keeps only the
            clip's length.
        window, overlap: as in `LongVideo`.
    """

    def __init__(
        self,
        pipeline: AnyVideoPipeline,
        clip: np.ndarray,
        strength: float = 0.6,
        *,
        window: int | None = None,
        overlap: int | None = None,
    ) -> None:
        super().__init__(pipeline, window=window, overlap=overlap)
        self.clip = check_clip(clip)
        self.strength = plain_number("strength", strength)
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength must be above 0 and at most 1, but is {self.strength:g}")

    def check_inputs(
        self,
        prompt: Prompts | None,
        negative_prompt: Prompts | None = None,
        *,
        num_frames: int | None = None,
        **settings: Any,
    ) -> VideoRequest:
        """Check all arguments; `num_frames` takes that many frames from the start of the clip, None all."""
        wanted = len(self.clip) if num_frames is None else whole_number("num_frames", num_frames)
        if wanted > len(self.clip):
            raise ValueError(f"num_frames must be between 1 and {len(self.clip)}, the clip's length, but is {wanted}")
        return super().check_inputs(prompt, negative_prompt, num_frames=wanted, **settings)

    def notes(self, request: VideoRequest) -> list[str]:
        """Return the pipeline's notes for one window, and a note if the clip is resized."""
        one_window = replace(request, num_frames=self.windows(request.num_frames).size)
        return self.pipeline.notes(one_window) + size_notes(self.clip, request)

    def num_steps(self, request: VideoRequest) -> int:
        """Return how often `callback_on_step_end` is called for a request."""
        return len(self.pipeline.sampling_steps(request, self.first_step(request)).timesteps)

    def first_step(self, request: VideoRequest) -> int:
        """Return how many steps `strength` skips; the last step is never skipped."""
        num_steps = self.pipeline.sampling_steps(request).num_steps
        return num_steps - max(1, round(num_steps * self.strength))

    def default_image(self, request: VideoRequest) -> ImageInput | None:
        """Return the clip's first frame."""
        return fit_clip(self.clip[:1], request.height, request.width)[0]

    def fitted(self, request: VideoRequest) -> np.ndarray:
        """Return the clip's frames [T, H, W, 3] in the number and size of the request."""
        return fit_clip(self.clip[: request.num_frames], request.height, request.width)

    def sample(self, encoded: EncodedRequest) -> Tensor:
        """Return the latents of the changed clip."""
        request = encoded.request
        windows = self.windows(request.num_frames)
        unet = WindowedUNet(self.pipeline.denoiser, windows)
        noise = self.windowed_noise(request, windows)
        steps = self.pipeline.sampling_steps(request, self.first_step(request))
        if self.strength == 1:
            return self.pipeline.denoise(encoded, steps, steps.start(noise), unet=unet)
        clean = encode_clip(self.pipeline, self.fitted(request)).expand_as(noise)
        return self.pipeline.denoise(encoded, steps, steps.add_noise(clean, noise), unet=unet)


def size_notes(clip: np.ndarray, request: VideoRequest) -> list[str]:
    """Return a note if the clip has to be scaled or cropped."""
    height, width = clip.shape[1:3]
    if (height, width) == (request.height, request.width):
        return []
    return [f"the clip is {width}x{height}; it is scaled and cropped to {request.width}x{request.height}"]

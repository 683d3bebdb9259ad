"""Video to video: a clip is noised part of the way and denoised with a prompt (SDEdit, Meng et al. 2022).

What the noise covers is made anew, what stands out of it stays: with little noise colours and places are kept and
detail changes, with much noise only the coarsest layout is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from videocrafter.pipelines.clip import check_clip, encode_clip, fit_clip
from videocrafter.pipelines.derived_pipeline import AnyVideoPipeline, Sampling
from videocrafter.pipelines.image_to_video import ImageInput
from videocrafter.pipelines.known_frames import starting_latents
from videocrafter.pipelines.long_video import LongVideo, long_noise
from videocrafter.pipelines.settings import VideoRequest
from videocrafter.pipelines.windows import WindowedUNet


class VideoToVideo(LongVideo):
    """Makes variations of a clip.

    Args:
        pipeline: a loaded pipeline. One that wants an image gets the clip's first frame unless told otherwise.
        clip: uint8 [T, H, W, 3]. It is scaled and cropped to the size of the video; a longer clip than the model
            was trained for is worked on in windows.
        strength: above 0, up to 1: the share of the steps that are run. 1 starts from pure noise, and nothing of the
            clip is left but its length.
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
        self.strength = checked_strength(strength)

    def check_inputs(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        *,
        num_frames: int | None = None,
        **settings: Any,
    ) -> VideoRequest:
        """The pipeline's `check_inputs`; `num_frames` takes that many from the start of the clip, None all."""
        if num_frames is not None and num_frames > len(self.clip):
            raise ValueError(f"num_frames must lie in 1 ... {len(self.clip)}, the clip's length, but is {num_frames}")
        wanted = len(self.clip) if num_frames is None else num_frames
        return super().check_inputs(prompt, negative_prompt, num_frames=wanted, **settings)

    def notes(self, request: VideoRequest) -> list[str]:
        """The pipeline's notes, of which only the window's length counts, and what happens to the clip's size."""
        one_window = replace(request, num_frames=self.windows(request.num_frames).size)
        return self.pipeline.notes(one_window) + size_notes(self.clip, request)

    def num_steps(self, request: VideoRequest) -> int:
        """How often `callback_on_step_end` is called for a request."""
        order = getattr(self.pipeline.scheduler, "order", 1)
        return super().num_steps(request) - order * first_step(self.pipeline, request, self.strength)

    def default_image(self, request: VideoRequest) -> ImageInput | None:
        """The clip's first frame."""
        return fit_clip(self.clip[:1], request.height, request.width)[0]

    def fitted(self, request: VideoRequest) -> np.ndarray:
        """The frames worked on, [T, H, W, 3], in the size of the request."""
        return fit_clip(self.clip[: request.num_frames], request.height, request.width)

    def sample(self, sampling: Sampling) -> Tensor:
        """Latents of the changed clip."""
        request = sampling.request
        windows = self.windows(request.num_frames)
        unet = WindowedUNet(self.pipeline.unet, windows)
        noise = long_noise(sampling, windows)
        if self.strength == 1:
            return sampling.run(noise, unet=unet)
        skipped = first_step(self.pipeline, request, self.strength)
        clean = encode_clip(self.pipeline, self.fitted(request)).expand_as(noise)
        start = starting_latents(self.pipeline.scheduler, clean, noise, skipped)
        return sampling.run(start, unet=unet, first_step=skipped)


def checked_strength(strength: float) -> float:
    """Return `strength`. Raises ValueError unless it lies above 0 and is at most 1."""
    if not 0 < strength <= 1:
        raise ValueError(f"strength must lie above 0 and at most at 1, but is {strength:g}")
    return strength


def first_step(pipeline: AnyVideoPipeline, request: VideoRequest, strength: float) -> int:
    """How many steps are left out: what `strength` leaves over, but never the last. Sets the scheduler's steps."""
    scheduler = pipeline.scheduler
    scheduler.set_timesteps(request.num_inference_steps, device=pipeline._execution_device)
    # Second-order schedulers list two times for each step, except for the last.
    num_steps = -(-len(scheduler.timesteps) // getattr(scheduler, "order", 1))
    return num_steps - max(1, round(num_steps * strength))


def size_notes(clip: np.ndarray, request: VideoRequest) -> list[str]:
    """A line for a clip that has to be scaled or cropped."""
    height, width = clip.shape[1:3]
    if (height, width) == (request.height, request.width):
        return []
    return [f"the clip is {width}x{height}; it is scaled and cropped to {request.width}x{request.height}"]

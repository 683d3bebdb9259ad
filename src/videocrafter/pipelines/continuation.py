"""Continuation of a clip, window by window.

Each window begins with the last frames of the video so far. They are held at their latents while the network makes
the rest of the window (`known_frames.py`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videocrafter.diffusion.guidance import check_number
from videocrafter.pipelines.clip import check_clip, encode_clip, fit_clip
from videocrafter.pipelines.derived_pipeline import AnyVideoPipeline, DerivedPipeline
from videocrafter.pipelines.image_input import ImageInput
from videocrafter.pipelines.known_frames import KnownFrames
from videocrafter.pipelines.long_video import checked_window
from videocrafter.pipelines.output import OutputType, frames_as
from videocrafter.pipelines.phases import EncodedRequest
from videocrafter.pipelines.plain_numbers import whole_number
from videocrafter.pipelines.prompt_inputs import Prompts
from videocrafter.pipelines.settings import VideoRequest
from videocrafter.pipelines.video_to_video import size_notes


class Continuation(DerivedPipeline):
    """Makes a clip longer: the videos are the clip, followed by new frames.

    A clip that has the size of the video is returned byte for byte. A call that is interrupted returns the windows
    so far.

    Args:
        pipeline: a loaded pipeline. An image-to-video model sees the clip's last frame unless an image is passed.
        clip: [T, H, W, 3], uint8 or floats from 0 to 1. It is scaled and cropped to the size of the video.
        window: frames that the network sees at once; None means as many as in training.
        context: known frames at the start of each window; None means half a window, or the whole clip if shorter.
    """

    def __init__(
        self,
        pipeline: AnyVideoPipeline,
        clip: np.ndarray,
        *,
        window: int | None = None,
        context: int | None = None,
    ) -> None:
        super().__init__(pipeline)
        self.clip = check_clip(clip)
        self.window = checked_window(pipeline, window)
        most = min(len(clip), self.window - 1)
        self.context = min(self.window // 2, most) if context is None else whole_number("context", context)
        if not 1 <= self.context <= most:
            raise ValueError(
                f"context must be between 1 and {most} for a clip of {len(clip)} frames and windows of {self.window},"
                f" but is {self.context}"
            )

    def check_inputs(
        self,
        prompt: Prompts | None,
        negative_prompt: Prompts | None = None,
        *,
        num_frames: int | None = None,
        **settings: Any,
    ) -> VideoRequest:
        """Check all arguments; `num_frames` counts new frames, None means as many as one window adds."""
        wanted = self.window - self.context if num_frames is None else whole_number("num_frames", num_frames)
        check_number("num_frames", wanted, 1)
        request = super().check_inputs(prompt, negative_prompt, num_frames=self.window, **settings)
        return replace(request, num_frames=wanted)

    def notes(self, request: VideoRequest) -> list[str]:
        """Return the pipeline's notes for one window, and a note if the clip is resized."""
        return self.pipeline.notes(replace(request, num_frames=self.window)) + size_notes(self.clip, request)

    def num_steps(self, request: VideoRequest) -> int:
        """Return how often `callback_on_step_end` is called for a request."""
        return super().num_steps(request) * self.num_windows(request)

    def num_windows(self, request: VideoRequest) -> int:
        """Return how many windows a request takes, one after the other."""
        return -(-request.num_frames // (self.window - self.context))

    def default_image(self, request: VideoRequest) -> ImageInput | None:
        """Return the clip's last frame."""
        return fit_clip(self.clip[-1:], request.height, request.width)[0]

    def fitted(self, request: VideoRequest) -> np.ndarray:
        """Return the clip [T, H, W, 3] in the size of the request."""
        return fit_clip(self.clip, request.height, request.width)

    def sample(self, encoded: EncodedRequest) -> Tensor:
        """Return the latents of the clip and the new frames."""
        request = encoded.request
        given = encode_clip(self.pipeline, self.fitted(request))
        video = given.expand(request.num_videos, *given.shape)
        for _ in range(self.num_windows(request)):
            if self.pipeline.interrupt:
                break
            noise = self.noise(request, self.window)
            context = video[:, :, -self.context :]
            steps = self.pipeline.sampling_steps(request)
            known = KnownFrames(steps, context, range(self.context), noise)
            window = self.pipeline.denoise(encoded, steps, known.start, after_step=known.after_step)
            video = torch.cat([video, window[:, :, self.context :]], dim=2)
        return video[:, :, : given.shape[1] + request.num_frames]

    def decode(self, request: VideoRequest, latents: Tensor, output_type: OutputType) -> Any:
        """Return the given clip, then the new frames; the clip does not pass through the autoencoder."""
        clip = self.fitted(request)
        new = super().decode(request, latents[:, :, len(clip) :], output_type)
        if output_type in ("np", "uint8"):
            given = clip if output_type == "uint8" else clip / np.float32(255)
            return np.concatenate([np.broadcast_to(given, (len(new), *given.shape)), new], axis=1)
        pixels = torch.from_numpy(clip).permute(0, 3, 1, 2).float() / 127.5 - 1.0
        given = frames_as(pixels.expand(request.num_videos, *pixels.shape), output_type)
        if output_type == "pt":
            return torch.cat([given.to(new), new], dim=1)
        return [before + after for before, after in zip(given, new, strict=True)]

"""Interpolation: a video that begins with one image and ends with another.

The first and the last frame are held at the latents of the images (`known_frames.py`); a model with an image branch
also sees both images. VideoCrafter1 was not trained for this. It works best between two images of one scene that a
short clip could connect.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videocrafter.diffusion.guidance import check_number
from videocrafter.pipelines.clip import encode_clip, fit_clip
from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.derived_pipeline import AnyVideoPipeline
from videocrafter.pipelines.image_input import ImageInput, Images, image_to_tensor, per_video_images
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.known_frames import KnownFrames
from videocrafter.pipelines.long_video import LongVideo
from videocrafter.pipelines.output import frames_as
from videocrafter.pipelines.phases import EncodedRequest
from videocrafter.pipelines.plain_numbers import whole_number
from videocrafter.pipelines.prompt_inputs import Prompts
from videocrafter.pipelines.settings import VideoRequest
from videocrafter.pipelines.windows import WindowedUNet


class Interpolation(LongVideo):
    """Makes videos between two images.

    Args:
        pipeline: a loaded pipeline; one with an image branch also sees both images.
        first, last: the images; each is scaled and cropped to the size of the video.
        window, overlap: as in `LongVideo`. The windows in the middle of a longer video see neither image.
    """

    def __init__(
        self,
        pipeline: AnyVideoPipeline,
        first: ImageInput,
        last: ImageInput,
        *,
        window: int | None = None,
        overlap: int | None = None,
    ) -> None:
        super().__init__(pipeline, window=window, overlap=overlap)
        self.ends = (_as_frame(first), _as_frame(last))

    def check_inputs(
        self,
        prompt: Prompts | None,
        negative_prompt: Prompts | None = None,
        *,
        num_frames: int | None = None,
        **settings: Any,
    ) -> VideoRequest:
        """Check all arguments; both images count as frames, so `num_frames` must be at least 3."""
        if num_frames is not None:
            check_number("num_frames", whole_number("num_frames", num_frames), 3)
        return super().check_inputs(prompt, negative_prompt, num_frames=num_frames, **settings)

    def encode(self, request: VideoRequest, image: Images | None) -> tuple[Conditions, Conditions | None]:
        """Return the conditions of both branches; an image branch attends to the tokens of both images."""
        if image is not None or not isinstance(self.pipeline, ImageToVideoPipeline):
            return super().encode(request, image)
        first, last = (end[0] for end in self.ends)
        conditional, unconditional = super().encode(request, first)
        tokens = self.pipeline.encode_images(per_video_images(last, request))
        if unconditional is None:
            return _with_more_image(conditional, tokens), None
        # The unconditional branch has two null images, which are the same.
        return _with_more_image(conditional, tokens), _with_more_image(unconditional, unconditional.image)

    def sample(self, encoded: EncodedRequest) -> Tensor:
        """Return the latents of the whole video, with its ends at the given images."""
        request = encoded.request
        windows = self.windows(request.num_frames)
        noise = self.windowed_noise(request, windows)
        images = np.concatenate([fit_clip(one, request.height, request.width) for one in self.ends])
        ends = encode_clip(self.pipeline, images).expand(request.num_videos, -1, -1, -1, -1)
        frames = (0, request.num_frames - 1)
        steps = self.pipeline.sampling_steps(request)
        known = KnownFrames(steps, ends, frames, noise)
        unet = WindowedUNet(self.pipeline.denoiser, windows)
        return self.pipeline.denoise(encoded, steps, known.start, unet=unet, after_step=known.after_step)


def _as_frame(image: ImageInput) -> np.ndarray:
    """Return an image as a clip of one frame, uint8 [1, H, W, 3]."""
    return frames_as(image_to_tensor(image)[None, None], "uint8")[0]


def _with_more_image(conditions: Conditions, tokens: Tensor | None) -> Conditions:
    """Append image tokens to the conditions' own."""
    assert conditions.image is not None
    assert tokens is not None
    return replace(conditions, image=torch.cat([conditions.image, tokens], dim=1))

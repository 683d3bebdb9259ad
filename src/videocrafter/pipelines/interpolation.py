"""Interpolation: a video that begins with one picture and ends with another.

The two ends are held at the latents of the pictures (`known_frames.py`), and a model with an image branch is also
shown both. VideoCrafter1 was not trained for this: it works as far as its frames fit themselves to known ones, best
between two pictures of one scene that a short clip could join.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from videocrafter.pipelines.clip import encode_clip, fit_clip
from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.derived_pipeline import AnyVideoPipeline, Sampling
from videocrafter.pipelines.image_to_video import ImageInput, ImageToVideoPipeline, image_to_tensor, per_video_images
from videocrafter.pipelines.known_frames import KnownFrames
from videocrafter.pipelines.long_video import LongVideo, long_noise
from videocrafter.pipelines.output import frames_as
from videocrafter.pipelines.settings import VideoRequest, check_at_least
from videocrafter.pipelines.windows import WindowedUNet


class Interpolation(LongVideo):
    """Makes videos between two pictures.

    Args:
        pipeline: a loaded pipeline; one with an image branch also sees both pictures.
        first, last: the pictures; each is scaled and cropped to the size of the video.
        window, overlap: as in `LongVideo`. The windows in the middle of a longer video see neither picture.
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
        self.pictures = (_as_frame(first), _as_frame(last))

    def check_inputs(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        *,
        num_frames: int | None = None,
        **settings: Any,
    ) -> VideoRequest:
        """The pipeline's `check_inputs`; both pictures count as frames, so there must be three at least."""
        if num_frames is not None:
            check_at_least("num_frames", num_frames, 3)
        return super().check_inputs(prompt, negative_prompt, num_frames=num_frames, **settings)

    def encode(
        self, request: VideoRequest, image: ImageInput | Sequence[ImageInput] | None
    ) -> tuple[Conditions, Conditions | None]:
        """Conditions of both branches; an image branch attends over the tokens of both pictures."""
        if image is not None or not isinstance(self.pipeline, ImageToVideoPipeline):
            return super().encode(request, image)
        first, last = (picture[0] for picture in self.pictures)
        conditional, unconditional = super().encode(request, first)
        tokens = self.pipeline.encode_images(per_video_images(last, request))
        if unconditional is None:
            return _with_more_image(conditional, tokens), None
        # Without an image there are two null images, and they are alike.
        return _with_more_image(conditional, tokens), _with_more_image(unconditional, unconditional.image)

    def sample(self, sampling: Sampling) -> Tensor:
        """Latents of the whole video, its ends as given."""
        request, scheduler = sampling.request, self.pipeline.scheduler
        windows = self.windows(request.num_frames)
        noise = long_noise(sampling, windows)
        pictures = np.concatenate([fit_clip(one, request.height, request.width) for one in self.pictures])
        ends = encode_clip(self.pipeline, pictures).expand(request.num_videos, -1, -1, -1, -1)
        scheduler.set_timesteps(request.num_inference_steps, device=noise.device)
        known = KnownFrames(scheduler, ends, (0, request.num_frames - 1), noise)
        unet = WindowedUNet(self.pipeline.unet, windows)
        return sampling.run(known.start, unet=unet, after_step=known.after_step)


def _as_frame(picture: ImageInput) -> np.ndarray:
    """A picture as a clip of one frame, uint8 [1, H, W, 3]."""
    return frames_as(image_to_tensor(picture)[None, None], "np")[0]


def _with_more_image(conditions: Conditions, tokens: Tensor | None) -> Conditions:
    """The same conditions with further image tokens behind their own."""
    assert conditions.image is not None
    assert tokens is not None
    return replace(conditions, image=torch.cat([conditions.image, tokens], dim=1))

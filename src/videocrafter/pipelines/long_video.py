"""Videos of hundreds of frames from a model trained on a few (FreeNoise, Qiu et al. 2024).

Two things keep a long video consistent: its windows overlap (`windows.py`), and its noise repeats in another order.
The noise largely determines the content, so windows with the same noise show the same things; the changed order
varies their motion.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from videocrafter.diffusion.guidance import check_number
from videocrafter.pipelines.derived_pipeline import AnyVideoPipeline, DerivedPipeline
from videocrafter.pipelines.phases import EncodedRequest
from videocrafter.pipelines.plain_numbers import whole_number
from videocrafter.pipelines.prompt_inputs import Prompts
from videocrafter.pipelines.settings import VideoRequest
from videocrafter.pipelines.windows import WindowedUNet, Windows


class LongVideo(DerivedPipeline):
    """Makes videos of any length. A video that fits into one window is the same as the pipeline's own.

    Args:
        pipeline: a loaded pipeline.
        window: frames that the network sees at once; None means as many as in training.
        overlap: frames that neighbouring windows share; None means half a window. More makes smoother videos and
            takes longer: the network is called num_frames / (window - overlap) times in each step.
    """

    def __init__(self, pipeline: AnyVideoPipeline, *, window: int | None = None, overlap: int | None = None) -> None:
        super().__init__(pipeline)
        self.window = checked_window(pipeline, window)
        self.overlap = self.window // 2 if overlap is None else whole_number("overlap", overlap)
        self.windows(self.window)

    def windows(self, num_frames: int) -> Windows:
        """Lay windows over a video."""
        return Windows(num_frames=num_frames, length=self.window, overlap=self.overlap)

    def check_inputs(
        self,
        prompt: Prompts | None,
        negative_prompt: Prompts | None = None,
        *,
        num_frames: int | None = None,
        **settings: Any,
    ) -> VideoRequest:
        """Check all arguments as `VideoPipeline.check_inputs` does, but without its limit on `num_frames`."""
        wanted = self.window if num_frames is None else whole_number("num_frames", num_frames)
        check_number("num_frames", wanted, 1)
        one_window = min(wanted, self.window)
        request = super().check_inputs(prompt, negative_prompt, num_frames=one_window, **settings)
        return replace(request, num_frames=wanted)

    def notes(self, request: VideoRequest) -> list[str]:
        """Return the pipeline's notes for one window, and a note if windows affect the motion."""
        windows = self.windows(request.num_frames)
        notes = self.pipeline.notes(replace(request, num_frames=windows.size))
        return notes + motion_notes(self.pipeline, windows)

    def sample(self, encoded: EncodedRequest) -> Tensor:
        """Return the latents of the whole video, denoised together."""
        windows = self.windows(encoded.request.num_frames)
        noise = self.windowed_noise(encoded.request, windows)
        steps = self.pipeline.sampling_steps(encoded.request)
        unet = WindowedUNet(self.pipeline.denoiser, windows)
        return self.pipeline.denoise(encoded, steps, steps.start(noise), unet=unet)

    def windowed_noise(self, request: VideoRequest, windows: Windows) -> Tensor:
        """Draw noise [N, C, T, h, w] for all frames; the first window has the noise of plain generation."""
        noise = self.noise(request, windows.size)
        return reschedule_noise(noise, windows.num_frames, windows.stride, request.generators)


def checked_window(pipeline: AnyVideoPipeline, window: int | None) -> int:
    """Return the window length, by default the model's. Raises ValueError for one that the model does not allow."""
    defaults = pipeline.generation_defaults
    length = defaults.num_frames if window is None else whole_number("window", window)
    if not 2 <= length <= defaults.longest:
        raise ValueError(
            f"window must be between 2 and {defaults.longest} frames, but is {length}; the model was trained on"
            f" {defaults.num_frames}"
        )
    return length


def motion_notes(pipeline: AnyVideoPipeline, windows: Windows) -> list[str]:
    """Return a note about long motions if the network counts frames within a clip."""
    if not pipeline.unet.config["frame_text_condition"] or windows.size == windows.num_frames:
        return []
    return [
        f"this model plans motion for {windows.size} frames at a time; over {windows.num_frames} frames, motion"
        " across the scene slows down or stops, while motion in place continues"
    ]


def reschedule_noise(noise: Tensor, num_frames: int, stride: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Extend the noise of one window: every `stride` new frames repeat, shuffled, those of one window earlier.

    Each video's own generator draws the order.

    Args:
        noise: [N, C, W, h, w] noise of the first window.
        num_frames: frames of the result.
        stride: frames from one window to the next, 1 … W.
        generators: one per video.

    Returns:
        [N, C, num_frames, h, w]; the first W frames are `noise`.
    """
    window = noise.shape[2]
    orders = []
    for generator in generators:
        order = list(range(window))
        while len(order) < num_frames:
            stretch = order[len(order) - window :][:stride]
            places = torch.randperm(len(stretch), generator=generator, device=generator.device).tolist()
            order += [stretch[place] for place in places]
        orders.append(order[:num_frames])
    return torch.stack([one[:, order] for one, order in zip(noise, orders, strict=True)])

"""Videos of hundreds of frames from a model that was trained on a few (FreeNoise, Qiu et al. 2024).

Two things make the parts of a long video belong together: its windows overlap (`windows.py`), and its noise repeats
itself, in another order. Noise decides much of what a video shows, so windows with the same noise show the same
things; the changed order keeps their motion from being the same too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from videocrafter.pipelines.derived_pipeline import AnyVideoPipeline, DerivedPipeline, Sampling
from videocrafter.pipelines.settings import VideoRequest, check_at_least
from videocrafter.pipelines.windows import WindowedUNet, Windows


class LongVideo(DerivedPipeline):
    """Makes videos of any length; one that fits into a window is the pipeline's own.

    Args:
        pipeline: a loaded pipeline.
        window: frames that the network sees at once; None means as many as it was trained for.
        overlap: frames that neighbouring windows share; None means half a window. More makes smoother videos and
            takes longer: the network is called num_frames / (window - overlap) times in each step.
    """

    def __init__(self, pipeline: AnyVideoPipeline, *, window: int | None = None, overlap: int | None = None) -> None:
        super().__init__(pipeline)
        self.window = checked_window(pipeline, window)
        self.overlap = self.window // 2 if overlap is None else overlap
        self.windows(self.window)

    def windows(self, num_frames: int) -> Windows:
        """How windows lie over a video."""
        return Windows(num_frames=num_frames, length=self.window, overlap=self.overlap)

    def check_inputs(
        self,
        prompt: str | Sequence[str],
        negative_prompt: str | Sequence[str] | None = None,
        *,
        num_frames: int | None = None,
        **settings: Any,
    ) -> VideoRequest:
        """The pipeline's `check_inputs`, without its limit on `num_frames`."""
        wanted = self.window if num_frames is None else num_frames
        check_at_least("num_frames", wanted, 1)
        one_window = min(wanted, self.window)
        request = self.pipeline.check_inputs(prompt, negative_prompt, num_frames=one_window, **settings)
        return replace(request, num_frames=wanted)

    def notes(self, request: VideoRequest) -> list[str]:
        """The pipeline's notes, of which only the window's length counts, and what windows mean for its motion."""
        windows = self.windows(request.num_frames)
        notes = self.pipeline.notes(replace(request, num_frames=windows.size))
        return notes + motion_notes(self.pipeline, windows)

    def sample(self, sampling: Sampling) -> Tensor:
        """Latents of the whole video, denoised together."""
        windows = self.windows(sampling.request.num_frames)
        return sampling.run(long_noise(sampling, windows), unet=WindowedUNet(self.pipeline.unet, windows))


def checked_window(pipeline: AnyVideoPipeline, window: int | None) -> int:
    """The length of a window, by default the model's. Raises ValueError for one that the model does not allow."""
    defaults = pipeline.generation_defaults
    length = defaults.num_frames if window is None else window
    if not 2 <= length <= defaults.longest:
        raise ValueError(
            f"window must lie in 2 ... {defaults.longest} frames, but is {length}; the model was trained for"
            f" {defaults.num_frames}"
        )
    return length


def motion_notes(pipeline: AnyVideoPipeline, windows: Windows) -> list[str]:
    """What to expect of a motion that leads somewhere, if the network counts frames within a clip."""
    if not pipeline.unet.config["frame_text_condition"] or windows.size == windows.num_frames:
        return []
    return [
        f"this model plans a motion for {windows.size} frames at a time; over {windows.num_frames} a motion that"
        " leads somewhere slows down or halts, one that stays in place goes on"
    ]


def long_noise(sampling: Sampling, windows: Windows) -> Tensor:
    """Noise [N, C, T, h, w] for all frames; of one window it is the noise of a plain generation."""
    noise = sampling.noise(windows.size)
    return reschedule_noise(noise, windows.num_frames, windows.stride, sampling.request.generators)


def reschedule_noise(noise: Tensor, num_frames: int, stride: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Continue the noise of one window: each further stretch of `stride` frames repeats that of one window before.

    The order within a stretch is drawn from the video's own generator.

    Args:
        noise: [N, C, W, h, w] noise of the first window.
        num_frames: frames wanted.
        stride: frames from one window to the next, 1 … W.
        generators: one per video.

    Returns:
        [N, C, num_frames, h, w]; its first W frames are those given.
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

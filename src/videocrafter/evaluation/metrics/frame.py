"""One frame of a video while it is measured, and the video it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.optical_flow import dense_flow, resized_to_short_side

# BT.601 luma weights, as in JPEG and in most image quality metrics.
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
FLOW_SHORT_SIDE = 256
"""Flow is measured at this short side in pixels, so that magnitudes do not depend on the size of the video."""

Embedding = NDArray[np.float32]
Flow = NDArray[np.float32]
FlowEstimator = Callable[[NDArray[np.uint8], NDArray[np.uint8]], Flow]


@dataclass(kw_only=True)
class VideoContext:
    """Facts about a video that its metrics may need.

    Attributes:
        prompt: the prompt; empty if unknown.
        fps: frames per second of the file.
        image: input image in the shape of the frames [H, W, 3] uint8, or None.
        text_embeddings: unit vectors of the prompt, by embedder.
        image_embeddings: unit vectors of the input image, by embedder.
        drawn_embeddings: unit vectors of pictures of the prompt by an image model, by embedder.
        flow_networks: estimators of flow [H, W, 2] between two frames at their own size, by name.
    """

    prompt: str = ""
    fps: float = 8.0
    image: NDArray[np.uint8] | None = None
    text_embeddings: dict[str, Embedding] = field(default_factory=dict)
    image_embeddings: dict[str, Embedding] = field(default_factory=dict)
    drawn_embeddings: dict[str, Sequence[Embedding]] = field(default_factory=dict)
    flow_networks: Mapping[str, FlowEstimator] = field(default_factory=dict)


class Frame:
    """One frame with what several metrics need, computed at most once.

    Attributes:
        index: number of the frame, from 0.
        rgb: [H, W, 3] uint8.
        previous: the frame before, without its own predecessor; None for the first frame.
        first: the first frame of the video.
        video: facts about the video.
        embeddings: vectors [D] by network output; CLIP's are unit vectors.
    """

    def __init__(self, rgb: NDArray[np.uint8], video: VideoContext, previous: Frame | None = None) -> None:
        self.rgb, self.video, self.previous = rgb, video, previous
        self.index: int = 0 if previous is None else previous.index + 1
        self.first: Frame = self if previous is None else previous.first
        self.embeddings: dict[str, Embedding] = {}
        self._flows: dict[str, tuple[Flow, Flow]] = {}
        if previous is not None:
            previous.forget_the_past()

    def forget_the_past(self) -> None:
        """Release the frame before, so that memory does not grow with the length of the video."""
        self.previous = None

    @cached_property
    def luma(self) -> NDArray[np.float32]:
        """Luma [H, W] in [0, 255]."""
        return self.rgb.astype(np.float32) @ _LUMA

    @cached_property
    def small_rgb(self) -> NDArray[np.uint8]:
        """The frame at the size of the flow, [h, w, 3] uint8."""
        return resized_to_short_side(self.rgb, FLOW_SHORT_SIDE)

    def flow(self) -> tuple[Flow, Flow]:
        """Return DIS flow from the frame before to this one, and back: two arrays [h, w, 2] (x, y) in pixels.

        It is measured at the size of `small_rgb`.
        """
        assert self.previous is not None, "the first frame has no flow"
        return self._both_ways("dis", dense_flow, self.previous.small_rgb, self.small_rgb)

    def network_flow(self, name: str) -> tuple[Flow, Flow]:
        """Return the flow of a network from the frame before to this one, and back, at the size of the video."""
        assert self.previous is not None, "the first frame has no flow"
        return self._both_ways(name, self.video.flow_networks[name], self.previous.rgb, self.rgb)

    def _both_ways(
        self, name: str, estimate: FlowEstimator, before: NDArray[np.uint8], now: NDArray[np.uint8]
    ) -> tuple[Flow, Flow]:
        if name not in self._flows:
            self._flows[name] = estimate(before, now), estimate(now, before)
        return self._flows[name]

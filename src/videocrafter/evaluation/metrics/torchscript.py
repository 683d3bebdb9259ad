"""TorchScript modules that users supply, called through documented interfaces.

| interface | call | result |
|---|---|---|
| `frame_score` | frames float32 [N, 3, H, W] in [0, 1] | one score per frame [N] |
| `frame_embedding` | frames float32 [N, 3, H, W] in [0, 1] | vectors [N, D] |
| `video_scores` | video float32 [1, 3, T, H, W] in [0, 1] | scores of the video [K] |
| `flow` | two frames float32 [1, 3, H, W] in [0, 1], sides multiples of 8 | (x, y) in pixels [1, 2, H, W] |
| `i3d` | float32 [1, 3, T, 224, 224] in [-1, 1], `rescale=False, resize=False, return_features=True` | [1, D] |
| `inception` | frames uint8 [N, 3, H, W], with `return_features=True` or `no_output_bias=True` | [N, D], [N, C] |
| `action` | video float32 [1, 3, T, H, W] in [0, 1] | logits [1, C], in the order of the labels |
| `detector` | frame float32 [3, H, W] in [0, 1] | boxes (x0, y0, x1, y1) [M, 4], scores [M], labels int64 [M] |
| `captioner` | frames float32 [N, 3, H, W] in [0, 1] | list of N texts |

Modules do their own resizing and normalisation beyond that. A module that fails or returns another shape is an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videocrafter.checkpoints.torchscript_module import TorchScriptError, TorchScriptModule, stacked
from videocrafter.evaluation.metrics.optical_flow import opencv

Frames = Sequence[NDArray[np.uint8]]


class FrameModule:
    """A frame score or a frame embedding; scores are vectors of one number."""

    def __init__(self, name: str, module: TorchScriptModule, *, is_score: bool) -> None:
        self.outputs = (name,)
        self._module, self._is_score = module, is_score

    def of_frames(self, frames: Frames) -> Mapping[str, NDArray[np.float32]]:
        """Return vectors [N, D] of frames [H, W, 3] uint8."""
        result = self._module.call(stacked(frames))
        shape = (len(frames),) if self._is_score else (len(frames), None)
        return {self.outputs[0]: self._module.tensor(result, *shape).reshape(len(frames), -1)}


class InceptionModule:
    """NVIDIA's Inception: features [N, D] and class probabilities [N, C] of frames."""

    outputs = ("inception", "inception_classes")

    def __init__(self, module: TorchScriptModule) -> None:
        self._module = module

    def of_frames(self, frames: Frames) -> Mapping[str, NDArray[np.float32]]:
        """Return features and probabilities of frames [H, W, 3] uint8."""
        pixels = torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2)
        features = self._module.tensor(self._module.call(pixels, return_features=True), len(frames), None)
        classes = self._module.tensor(self._module.call(pixels, no_output_bias=True), len(frames), None)
        return {"inception": features, "inception_classes": classes}


class VideoModule:
    """A network that takes a whole clip: scores of quality, logits of actions, or I3D features.

    Args:
        is_i3d: whether it is called as I3D is.
    """

    def __init__(self, module: TorchScriptModule, *, is_i3d: bool = False) -> None:
        self._module, self._is_i3d = module, is_i3d

    def of_clip(self, frames: Frames) -> NDArray[np.float32]:
        """Return the output [D] for a clip of frames [H, W, 3] uint8."""
        if not self._is_i3d:
            clip = stacked(frames).permute(1, 0, 2, 3)[None]
            result = self._module.call(clip)
            return self._module.tensor(result.reshape(-1) if isinstance(result, Tensor) else result, None)
        size = (224, 224)
        scaled = torch.nn.functional.interpolate(stacked(frames), size, mode="bilinear", align_corners=False)
        clip = (scaled * 2 - 1).permute(1, 0, 2, 3)[None]
        result = self._module.call(clip, rescale=False, resize=False, return_features=True)
        return self._module.tensor(result, 1, None)[0]


class FlowModule:
    """Optical flow between two frames of any size.

    Args:
        divisor: frames in [0, 1] are divided by it; 255 repeats a slip of EvalCrafter's released code.
    """

    def __init__(self, module: TorchScriptModule, divisor: float = 1.0) -> None:
        self._module, self._divisor = module, divisor

    def __call__(self, before: NDArray[np.uint8], after: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return flow [H, W, 2] in pixels of the given frames."""
        cv2 = opencv()
        height, width = before.shape[:2]
        size = (max(16, round(width / 8) * 8), max(16, round(height / 8) * 8))
        pair = [stacked([cv2.resize(frame, size)]) / self._divisor for frame in (before, after)]
        (flow,) = self._module.tensor(self._module.call(*pair), 1, 2, size[1], size[0])
        scaled = cv2.resize(np.ascontiguousarray(flow.transpose(1, 2, 0)), (width, height))
        return np.asarray(scaled * np.array([width / size[0], height / size[1]], np.float32), np.float32)


class CaptionModule:
    """Captions of frames."""

    def __init__(self, module: TorchScriptModule) -> None:
        self._module = module

    def of_frames(self, frames: Frames) -> list[str]:
        """Return one text per frame [H, W, 3] uint8."""
        texts = self._module.call(stacked(frames))
        if not isinstance(texts, list) or [type(text) for text in texts] != [str] * len(frames):
            raise TorchScriptError("the captioner returned something else than one text per frame")
        return texts

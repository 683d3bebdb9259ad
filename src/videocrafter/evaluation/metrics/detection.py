"""Objects that the prompt names: their presence, number and colour in frames, by a user's detector (EvalCrafter)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.frame import Frame
from videocrafter.evaluation.metrics.optical_flow import opencv
from videocrafter.evaluation.metrics.torchscript import TorchScriptError, TorchScriptModule

EVERY = 5
"""Detection looks at every fifth frame."""

_CONFIDENT = 0.5
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
_COLOURS = ("red", "orange", "yellow", "green", "blue")
# Upper ends of OpenCV's hue (0 to 179); red wraps around.
_HUES = ((15, "red"), (22, "orange"), (39, "yellow"), (78, "green"), (131, "blue"))


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """An object that a prompt asks for, with an optional count and colour."""

    label: str
    count: int | None = None
    colour: str | None = None


@dataclass(frozen=True, kw_only=True)
class Detection:
    """One object in a frame: its label and its box (x0, y0, x1, y1) in pixels."""

    label: str
    box: tuple[int, int, int, int]


def wanted_in(prompt: str, labels: Sequence[str]) -> Wanted | None:
    """Return the first label that a prompt names, with a number or a colour in the two words before it, or None."""
    words = re.findall(r"\w+", prompt.lower())
    for index in range(len(words)):
        for label in labels:
            parts = label.lower().split()
            last = words[index + len(parts) - 1 : index + len(parts)]
            plural = [*parts[:-1], *last] if last and last[0] in (f"{parts[-1]}s", f"{parts[-1]}es") else parts
            if words[index : index + len(parts)] in (parts, plural):
                before = words[max(0, index - 2) : index]
                count = next((_NUMBERS[word] for word in before if word in _NUMBERS), None)
                colour = next((word for word in before if word in _COLOURS), None)
                return Wanted(label=label, count=count, colour=colour)
    return None


class Detector:
    """A user's detector with its labels.

    Raises:
        TorchScriptError: there are no labels, or later, the module's output does not fit.
    """

    def __init__(self, module: TorchScriptModule, labels: Sequence[str]) -> None:
        if not labels:
            raise TorchScriptError("the detector has no labels; put them in a .labels.txt next to it, one per line")
        self._module, self.labels = module, tuple(labels)

    def of_frame(self, rgb: NDArray[np.uint8]) -> list[Detection]:
        """Return the objects in a frame [H, W, 3] with a confidence of at least 0.5."""
        result = self._module.call(torch.from_numpy(rgb).permute(2, 0, 1).float() / 255.0)
        if not isinstance(result, tuple) or len(result) != 3:
            raise TorchScriptError("the detector returned something else than boxes, scores and labels")
        scores = self._module.tensor(result[1], None)
        boxes, classes = self._module.tensor(result[0], len(scores), 4), self._module.tensor(result[2], len(scores))
        if len(classes) and not 0 <= classes.min() <= classes.max() < len(self.labels):
            raise TorchScriptError(f"the detector returned label {classes.max():.0f} of {len(self.labels)}")
        height, width = rgb.shape[:2]
        limits = np.array([width, height, width, height])
        whole = np.clip(boxes.round(), 0, limits).astype(int).tolist()
        return [
            Detection(label=self.labels[int(label)], box=tuple(box))
            for box, score, label in zip(whole, scores, classes, strict=True)
            if score >= _CONFIDENT
        ]


class DetectedObjects:
    """A score of what a detector finds of the wanted object, over every fifth frame.

    Args:
        detector: the detector.
        wanted: what the prompt asks for.
        score: "presence" (share of frames with the object), "count" (1 - min(1, mean relative error)), or "colour"
            (share of frames whose mean hue of the first object has the asked colour).
    """

    def __init__(self, detector: Detector, wanted: Wanted, score: str) -> None:
        self._detector, self._wanted, self._score = detector, wanted, score
        self._values: list[float] = []

    def add(self, frame: Frame) -> None:
        """Take the next frame."""
        if frame.index % EVERY:
            return
        boxes = [found.box for found in self._detector.of_frame(frame.rgb) if found.label == self._wanted.label]
        if self._score == "count":
            assert self._wanted.count is not None
            self._values.append(abs(len(boxes) - self._wanted.count) / self._wanted.count)
        elif self._score == "colour":
            self._values.append(float(bool(boxes) and colour_in(frame.rgb, boxes[0]) == self._wanted.colour))
        else:
            self._values.append(float(bool(boxes)))

    def value(self) -> float:
        """Return the score of the video."""
        if not self._values:
            return math.nan
        mean = float(np.mean(self._values))
        return 1.0 - min(1.0, mean) if self._score == "count" else mean


def colour_in(rgb: NDArray[np.uint8], box: tuple[int, int, int, int]) -> str:
    """Return the name of the mean hue in a box, by EvalCrafter's limits of OpenCV's hue; "" for an empty box."""
    left, top, right, bottom = box
    part = rgb[top:bottom, left:right]
    if part.size == 0:
        return ""
    hue = float(opencv().cvtColor(np.ascontiguousarray(part), opencv().COLOR_RGB2HSV)[..., 0].mean())
    return next((name for limit, name in _HUES if hue < limit), "red")

"""Objects that the prompt names: their presence, number and colour in frames, by a user's detector (EvalCrafter)."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from videocrafter.checkpoints.torchscript_module import TorchScriptError, TorchScriptModule
from videocrafter.evaluation.metrics.frame import Frame
from videocrafter.evaluation.metrics.optical_flow import opencv

EVERY = 5
"""Detection looks at every fifth frame."""

_CONFIDENT = 0.5
_NUMBERS = {"one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
_PLURALS = {"person": ("people",), "mouse": ("mice",), "knife": ("knives",), "man": ("men",), "woman": ("women",)}
_CONNECTING = frozenset(
    {"a", "an", "and", "at", "by", "in", "near", "next", "of", "on", "or", "the", "to", "under", "with"}
)
_COLOURS = ("red", "orange", "yellow", "green", "blue")
# Least saturation and value of a pixel whose hue counts, of 255.
_COLOURFUL = 48
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


def wanted_in(prompt: str, labels: Sequence[str], count: object = None) -> Wanted | None:
    """Return the first label that a prompt names, with a number or a colour in the two words before it, or None.

    A word such as "orange" is a colour, not a fruit, if it describes another label: "an orange cat".

    Args:
        prompt: the prompt.
        labels: the detector's labels.
        count: the prompt's own statement of the number, as a number or in words; it replaces what the prompt says.
    """
    words = re.findall(r"\w+", prompt.lower())
    found = [(index, label) for index in range(len(words)) if (label := _label_at(words, index, labels))]
    for index, label in found:
        if label.lower() in _COLOURS and any(_describes(words, index, other) for other, _ in found):
            continue
        before = words[max(0, index - 2) : index]
        stated = re.findall(r"\w+", str(count).lower()) if isinstance(count, str | int | float) else before
        number = next((value for word in stated if (value := _number(word))), None)
        return Wanted(label=label, count=number, colour=next((word for word in before if word in _COLOURS), None))
    return None


def _label_at(words: Sequence[str], index: int, labels: Sequence[str]) -> str | None:
    """Return the longest label, in the singular or plural, that begins at a word."""
    matching = []
    for label in labels:
        *parts, last = label.lower().split()
        here = list(words[index : index + len(parts) + 1])
        if here[:-1] == parts and here[-1] in _forms(last):
            matching.append(label)
    return max(matching, key=len, default=None)


def _forms(word: str) -> set[str]:
    """Return a noun and its plurals."""
    found = {word, f"{word}s", f"{word}es"} | set(_PLURALS.get(word, ()))
    if word.endswith("y"):
        found.add(f"{word[:-1]}ies")
    return found


def _describes(words: Sequence[str], colour: int, noun: int) -> bool:
    """Whether a colour stands directly before a noun, or with one adjective in between."""
    return noun == colour + 1 or (noun == colour + 2 and words[colour + 1] not in _CONNECTING)


def _number(word: str) -> int | None:
    """Return the number that a word means, 1 to 99; None for other words."""
    if re.fullmatch("[1-9][0-9]?", word):
        return int(word)
    return _NUMBERS.get(word)


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
        score: "presence" (share of frames with the object), "count" (1 - min(1, mean relative error)), "colour"
            (share of frames in which the first object has the asked colour), or "colour_compat" (the same by
            `plain_mean_colour`).
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
        elif self._score in ("colour", "colour_compat"):
            name_of = colour_in if self._score == "colour" else plain_mean_colour
            self._values.append(float(bool(boxes) and name_of(frame.rgb, boxes[0]) == self._wanted.colour))
        else:
            self._values.append(float(bool(boxes)))

    def value(self) -> float:
        """Return the score of the video."""
        if not self._values:
            return math.nan
        mean = float(np.mean(self._values))
        return 1.0 - min(1.0, mean) if self._score == "count" else mean


def colour_in(rgb: NDArray[np.uint8], box: tuple[int, int, int, int]) -> str:
    """Return the name of the mean hue of the colourful pixels in a box; "" without any.

    Hue is an angle: the mean is that of directions, so two reds on both sides of 0 are red. Grey, black and white
    pixels have no meaningful hue. The limits between names are EvalCrafter's.
    """
    hsv = _hsv(rgb, box)
    colourful = hsv[(hsv[..., 1] >= _COLOURFUL) & (hsv[..., 2] >= _COLOURFUL), 0]
    if colourful.size == 0:
        return ""
    angles = colourful * (np.pi / 90)
    mean = np.arctan2(np.sin(angles).mean(), np.cos(angles).mean())
    return _name_of_hue(float(mean) * 90 / np.pi % 180)


def plain_mean_colour(rgb: NDArray[np.uint8], box: tuple[int, int, int, int]) -> str:
    """Return the name of the plain mean of all hues in a box, as EvalCrafter's released code does."""
    hsv = _hsv(rgb, box)
    return _name_of_hue(float(hsv[..., 0].mean())) if hsv.size else ""


def _hsv(rgb: NDArray[np.uint8], box: tuple[int, int, int, int]) -> NDArray[np.float64]:
    """Return OpenCV's hue (0 to 179), saturation and value (0 to 255) of the pixels in a box, [h, w, 3]."""
    left, top, right, bottom = box
    part = rgb[top:bottom, left:right]
    if part.size == 0:
        return np.empty((0, 0, 3))
    return np.asarray(opencv().cvtColor(np.ascontiguousarray(part), opencv().COLOR_RGB2HSV), np.float64)


def _name_of_hue(hue: float) -> str:
    return next((name for limit, name in _HUES if hue < limit), "red")

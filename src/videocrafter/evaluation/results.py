"""The result of one video: values, reasons and features, in one file that is written completely or not at all."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.inception_score import ClassSums
from videocrafter.media.atomic_write import write_text
from videocrafter.media.json_file import read_json_object

_FACTS = ("name", "prompt", "seed", "image_sha256", "num_frames", "height", "width", "fps")
REPORT, MEASUREMENTS = "report.json", "measurements.jsonl"
"""Files of an evaluation. No table of videos has these names, so a report in their folder is not read as one."""


@dataclass(frozen=True, kw_only=True)
class VideoResult:
    """Everything that was measured on one video.

    Attributes:
        name, prompt, seed: as in the set.
        image_sha256: hash of the input image of image to video; None if there is none.
        fingerprint: hash of the file, its prompt and image, the protocol and the networks.
        num_frames: number of measured frames.
        height, width, fps: of the file.
        values: values by metric.
        reasons: why a metric has no value, by metric.
        features: mean features [D] by output.
        classes: sums of class probabilities by output.
    """

    name: str
    prompt: str
    seed: int | None
    image_sha256: str | None
    fingerprint: str
    num_frames: int
    height: int
    width: int
    fps: float
    values: Mapping[str, float]
    reasons: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    classes: Mapping[str, ClassSums] = field(default_factory=dict)

    @property
    def group(self) -> str:
        """The prompt, or the name of a video whose prompt is unknown."""
        return self.prompt or self.name

    def summary(self) -> dict[str, Any]:
        """Return what a report lists, as JSON values."""
        return {key: getattr(self, key) for key in _FACTS} | {
            "values": dict(self.values),
            "reasons": dict(self.reasons),
        }


def result_path(folder: Path, name: str) -> Path:
    """Return the file of a video's result: names may contain slashes, or be too long for a file."""
    return folder / f"{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:24]}.json"


def write_result(folder: Path, result: VideoResult) -> None:
    """Write a result, replacing an older one of the same video."""
    content = result.summary() | {
        "fingerprint": result.fingerprint,
        "features": {name: _encoded(array) for name, array in result.features.items()},
        "classes": {
            name: {
                "probabilities": _encoded(sums.probabilities),
                "negative_entropy": sums.negative_entropy,
                "count": sums.count,
            }
            for name, sums in result.classes.items()
        },
    }
    write_text(result_path(folder, result.name), json.dumps(content, allow_nan=False) + "\n")


def read_result(folder: Path, name: str, fingerprint: str) -> VideoResult | None:
    """Return the result of a video, or None if there is none with this fingerprint.

    A damaged file counts as missing: its video is measured again.
    """
    path = result_path(folder, name)
    if not path.is_file():
        return None
    try:
        content = read_json_object(path)
        if content.pop("fingerprint") != fingerprint:
            return None
        features = {key: _decoded(text, np.float32) for key, text in content.pop("features").items()}
        classes = {
            key: ClassSums(**value | {"probabilities": _decoded(value["probabilities"], np.float64)})
            for key, value in content.pop("classes").items()
        }
        return VideoResult(fingerprint=fingerprint, features=features, classes=classes, **content)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


@dataclass(frozen=True)
class MeasuredVideos:
    """The measured videos of a set, read from their result files one after another, as reports list them.

    Attributes:
        folder: of the result files.
        names: of the videos, in order.
    """

    folder: Path
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for name in self.names:
            content = read_json_object(result_path(self.folder, name))
            yield {key: content[key] for key in (*_FACTS, "values", "reasons")}


def _encoded(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def _decoded(text: str, dtype: type[np.generic]) -> NDArray[Any]:
    return np.frombuffer(base64.b64decode(text, validate=True), dtype).copy()


def without_nan(value: Any) -> Any:
    """Replace NaN and infinity, which JSON does not support, by null."""
    if isinstance(value, Mapping):
        return {key: without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value

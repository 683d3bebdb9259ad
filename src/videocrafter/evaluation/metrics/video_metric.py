"""The description of a metric of single videos: what it measures, what it needs, and how it is started."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from videocrafter.evaluation.metrics.frame import Frame, VideoContext
from videocrafter.evaluation.metrics.networks import Networks
from videocrafter.evaluation.metrics.running import MeanOfFrames, MeanOfPairs, Running

Aspect = Literal[
    "visual_quality",
    "text_video_alignment",
    "motion_quality",
    "temporal_consistency",
    "image_conformity",
    "distribution",
]
Better = Literal["higher", "lower", "neither"]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """The facts about a video that decide whether and how it is measured.

    Attributes:
        video: prompt, rate, input image and their embeddings.
        attributes: the prompt's attributes, such as `amplitude` ("large" or "slow") and `action`.
        networks: the available networks.
    """

    video: VideoContext
    attributes: Mapping[str, Any]
    networks: Networks


Start = Callable[[Facts], Running]


def has_everything(facts: Facts) -> str:
    """Return an empty string: every video has what the metric asks for."""
    return ""


@dataclass(frozen=True, kw_only=True)
class VideoMetric:
    """A metric of single videos.

    Attributes:
        name: its name in protocols and reports.
        version: raised whenever its values change.
        undefined: why a video of at least two frames has no value, if none of its frames gives one.
        aspect: the paper's aspect that it belongs to.
        better: the direction of better values.
        summary: what it measures, in one line.
        start: returns the running value for a video.
        needs: networks that must be available.
        reads: outputs of frame networks that it reads.
        lacks: returns why a video has no value, or an empty string.
    """

    name: str
    aspect: Aspect
    better: Better
    summary: str
    start: Start
    needs: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    lacks: Callable[[Facts], str] = has_everything
    version: int = 1
    undefined: str = "the video has too few frames or pixels"


def mean_of_frames(of_frame: Callable[[Frame], float]) -> Start:
    """Return a start of the mean of a number per frame."""
    return lambda facts: MeanOfFrames(of_frame)


def mean_of_pairs(of_pair: Callable[[Frame], float]) -> Start:
    """Return a start of the mean of a number per pair of consecutive frames."""
    return lambda facts: MeanOfPairs(of_pair)


def score_of(output: str) -> Callable[[Frame], float]:
    """Return the first number of a network's output for a frame."""
    return lambda frame: float(frame.embeddings[output][0])


def no_prompt(facts: Facts) -> str:
    """Return why a video without a prompt cannot be measured."""
    return "" if facts.video.prompt else "the video has no prompt"

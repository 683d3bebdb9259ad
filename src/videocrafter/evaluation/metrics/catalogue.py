"""All metrics by name."""

from __future__ import annotations

from collections.abc import Mapping

from videocrafter.evaluation.metrics.alignment import ALIGNMENT
from videocrafter.evaluation.metrics.image_conformity import IMAGE_CONFORMITY
from videocrafter.evaluation.metrics.motion_quality import MOTION_QUALITY
from videocrafter.evaluation.metrics.set_metric import SET_METRICS, SetMetric
from videocrafter.evaluation.metrics.temporal_consistency import TEMPORAL_CONSISTENCY
from videocrafter.evaluation.metrics.video_metric import VideoMetric
from videocrafter.evaluation.metrics.visual_quality import VISUAL_QUALITY

VIDEO_METRICS: Mapping[str, VideoMetric] = {
    metric.name: metric
    for metric in (*VISUAL_QUALITY, *ALIGNMENT, *MOTION_QUALITY, *TEMPORAL_CONSISTENCY, *IMAGE_CONFORMITY)
}
"""Metrics of single videos by name."""

OUTPUT_NETWORKS: Mapping[str, str] = {
    "clip": "clip",
    "clip_compat": "clip",
    "image_tower": "image_tower",
    "efficientnet_lite0": "efficientnet_lite0",
    "efficientnet_lite0_classes": "efficientnet_lite0",
    "inception": "inception",
    "inception_classes": "inception",
    "dino": "dino",
    "musiq": "musiq",
    "laion_aesthetic": "laion_aesthetic",
}
"""The network that computes each output for frames."""


def metric_named(name: str) -> VideoMetric | SetMetric:
    """Return a metric. Raises KeyError for an unknown name."""
    return VIDEO_METRICS[name] if name in VIDEO_METRICS else SET_METRICS[name]

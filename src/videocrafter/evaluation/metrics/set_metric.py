"""Metrics of a whole set of videos: class scores, and distances to a reference set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from videocrafter.evaluation.metrics.efficientnet_lite import FEATURES, PROBABILITIES
from videocrafter.evaluation.metrics.video_metric import Aspect, Better

Estimator = Literal["class_score", "frechet", "frechet_extrapolated", "kernel"]

I3D_FRAMES = 16
"""Length of the clip of FVD and KVD: the first 16 frames, stride 1, scaled to 224 x 224."""


@dataclass(frozen=True, kw_only=True)
class SetMetric:
    """A metric of a set of videos.

    Attributes:
        name, version, aspect, better, summary: as for `VideoMetric`.
        estimator: how it is computed.
        network: the network that must be available.
        output: the network's output that it uses.
    """

    name: str
    estimator: Estimator
    network: str
    output: str
    summary: str
    better: Better = "lower"
    aspect: Aspect = "distribution"
    version: int = 1

    @property
    def needs(self) -> tuple[str, ...]:
        """Networks that must be available."""
        return (self.network,)

    @property
    def needs_reference(self) -> bool:
        """Whether it compares with a reference set."""
        return self.estimator != "class_score"


def _distances(prefix: str, network: str, what: str) -> tuple[SetMetric, ...]:
    estimators: Mapping[Estimator, str] = {
        "frechet": "Fréchet distance, unbiased covariance",
        "frechet_extrapolated": "Fréchet distance extrapolated to infinitely many videos",
        "kernel": "kernel distance (unbiased squared MMD, cubic kernel)",
    }
    return tuple(
        SetMetric(
            name=f"{prefix}_{estimator}",
            estimator=estimator,
            network=network,
            output=network,
            summary=f"{text} of {what} to the reference set",
        )
        for estimator, text in estimators.items()
    )


SET_METRICS: Mapping[str, SetMetric] = {
    metric.name: metric
    for metric in (
        SetMetric(
            name="inception_score",
            estimator="class_score",
            network="inception",
            output="inception_classes",
            better="higher",
            aspect="visual_quality",
            summary="inception score of all frames, 10 splits",
        ),
        SetMetric(
            name="efficientnet_lite0_class_score",
            estimator="class_score",
            network=FEATURES,
            output=PROBABILITIES,
            better="higher",
            aspect="visual_quality",
            summary="formula of the inception score with EfficientNet-Lite0 classes, 10 splits; not comparable",
        ),
        *_distances(FEATURES, FEATURES, "mean EfficientNet-Lite0 features of videos (not FVD)"),
        *_distances("inception", "inception", "mean Inception features of videos"),
        *_distances("fvd_i3d", "i3d", "I3D features of the first 16 frames (FVD, KVD)"),
    )
}
"""Metrics of sets by name."""

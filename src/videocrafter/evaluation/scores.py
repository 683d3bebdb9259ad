"""Scores of a set of videos from the results of its videos, with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.metrics.catalogue import metric_named
from videocrafter.evaluation.metrics.distances import (
    TooFewSamplesError,
    extrapolated_frechet_distance,
    frechet_distance,
    gaussian_of,
    kernel_distance,
)
from videocrafter.evaluation.metrics.inception_score import ClassSums, inception_score_of_splits
from videocrafter.evaluation.metrics.set_metric import Estimator, SetMetric
from videocrafter.evaluation.protocols.protocol import Protocol
from videocrafter.evaluation.results import VideoResult
from videocrafter.evaluation.uncertainty import Estimate, jackknife_interval, mean_of_prompts

Features = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Scores:
    """The scores of a set.

    Attributes:
        estimates: value and interval by metric.
        not_measured: number of videos by reason, by metric; for metrics of the set, the reason with the number 1.
    """

    estimates: Mapping[str, Estimate]
    not_measured: Mapping[str, Mapping[str, int]]

    def as_json(self, protocol: Protocol) -> dict[str, Any]:
        """Return scores by metric in the order of the protocol, with what a reader must know about each."""
        found: dict[str, Any] = {}
        for name in protocol.metrics:
            if name in self.estimates:
                metric = metric_named(name)
                found[name] = asdict(self.estimates[name]) | {
                    "aspect": metric.aspect,
                    "better": metric.better,
                    "summary": metric.summary,
                    "version": metric.version,
                }
        return found


@dataclass
class Collected:
    """Values kept from the results while they are read one after another.

    Attributes:
        values: values of each prompt's videos, by metric.
        not_measured: number of videos by reason, by metric.
        groups: the prompt of each video.
        classes: class sums of each video, by output.
        lengths, sizes, rates: number of videos by number of frames, "width x height", and frames per second.
    """

    values: dict[str, dict[Hashable, list[float]]] = field(default_factory=dict)
    not_measured: dict[str, Counter[str]] = field(default_factory=dict)
    groups: list[str] = field(default_factory=list)
    classes: dict[str, list[ClassSums]] = field(default_factory=dict)
    lengths: Counter[str] = field(default_factory=Counter)
    sizes: Counter[str] = field(default_factory=Counter)
    rates: Counter[str] = field(default_factory=Counter)

    def add(self, result: VideoResult) -> None:
        """Take the next result."""
        self.groups.append(result.group)
        self.lengths[str(result.num_frames)] += 1
        self.sizes[f"{result.width}x{result.height}"] += 1
        self.rates[f"{result.fps:g}"] += 1
        for name, value in result.values.items():
            self.values.setdefault(name, {}).setdefault(result.group, []).append(value)
        for name, reason in result.reasons.items():
            self.not_measured.setdefault(name, Counter())[reason] += 1
        for name, sums in result.classes.items():
            self.classes.setdefault(name, []).append(sums)

    def warnings(self) -> list[str]:
        """Return what limits comparisons within the set."""
        kinds = (("numbers of frames", self.lengths), ("sizes", self.sizes), ("frame rates", self.rates))
        return [
            f"the videos have {len(counts)} different {what}: "
            + ", ".join(f"{value} ({count})" for value, count in counts.most_common(5))
            for what, counts in kinds
            if len(counts) > 1
        ]


class FeatureRows:
    """Features of videos in a file, one row each, so that memory does not grow with their number.

    Args:
        path: the file; replaced.
        count: largest number of rows.
    """

    def __init__(self, path: Path, count: int) -> None:
        self._path, self._capacity = path, count
        self._rows: Any = None
        self.groups: list[str] = []

    def add(self, row: Features, group: str) -> None:
        """Append the features of a video."""
        if self._rows is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            shape = (self._capacity, len(row))
            self._rows = np.lib.format.open_memmap(self._path, mode="w+", dtype=np.float32, shape=shape)
        self._rows[len(self.groups)] = row
        self.groups.append(group)

    @property
    def rows(self) -> Features:
        """The features [N, D]; [0, 0] without any."""
        if self._rows is None:
            return np.empty((0, 0), np.float32)
        found: Features = self._rows[: len(self.groups)]
        return found


def score(
    collected: Collected,
    set_metrics: Sequence[SetMetric],
    features: Mapping[str, FeatureRows],
    reference: Mapping[str, FeatureRows],
) -> Scores:
    """Return the scores of a set.

    Args:
        collected: values and class sums of its videos.
        set_metrics: metrics of the set to compute.
        features, reference: features of the videos, and of the reference set, by output.
    """
    estimates = {name: mean_of_prompts(values) for name, values in collected.values.items()}
    not_measured: dict[str, Mapping[str, int]] = dict(collected.not_measured)
    for metric in set_metrics:
        found = _of_set(metric, collected, features, reference)
        if isinstance(found, Estimate):
            estimates[metric.name] = found
        else:
            not_measured[metric.name] = {found: 1}
    return Scores(estimates=estimates, not_measured=not_measured)


def _of_set(
    metric: SetMetric,
    collected: Collected,
    features: Mapping[str, FeatureRows],
    reference: Mapping[str, FeatureRows],
) -> Estimate | str:
    """Return the score of a set, or why there is none."""
    try:
        if metric.estimator == "class_score":
            return _class_score(collected.classes.get(metric.output, []), collected.groups)
        return _distance(metric.estimator, features[metric.output], reference[metric.output])
    except TooFewSamplesError as error:
        return str(error)


def totals(protocol: Protocol, scores: Scores) -> dict[str, float | None]:
    """Return the protocol's weighted sums; None where a score is missing."""
    values = {name: estimate.value for name, estimate in scores.estimates.items()}
    return {name: total.of(values) for name, total in protocol.totals.items()}


def normalised(protocol: Protocol, scores: Scores) -> dict[str, float]:
    """Return scores scaled to the protocol's ranges."""
    return {
        name: (scores.estimates[name].value - lowest) / (highest - lowest)
        for name, (lowest, highest) in protocol.ranges.items()
        if name in scores.estimates
    }


def _class_score(sums: Sequence[ClassSums], groups: Sequence[str]) -> Estimate:
    if not sums:
        raise TooFewSamplesError("no video has class probabilities")
    value = inception_score_of_splits(sums)
    low, high = jackknife_interval(groups, lambda kept: inception_score_of_splits(_chosen(sums, kept)), value)
    return _estimate(value, low, high, groups)


def _distance(estimator: Estimator, videos: FeatureRows, reference: FeatureRows) -> Estimate:
    if not videos.groups or not reference.groups:
        raise TooFewSamplesError(
            f"{len(videos.groups)} videos and {len(reference.groups)} of the reference set have features; "
            "short videos have none"
        )

    def distance(kept: NDArray[np.intp]) -> float:
        return _ESTIMATORS[estimator](videos.rows[kept], reference.rows)

    value = _ESTIMATORS[estimator](videos.rows, reference.rows)
    if estimator == "frechet_extrapolated":
        # A fit through random subsets varies for other reasons than its videos, and most of it cannot be left out.
        return _estimate(value, None, None, videos.groups)
    try:
        low, high = jackknife_interval(videos.groups, distance, value)
    except TooFewSamplesError:  # enough videos for the value, but not without a tenth of them
        low = high = None
    return _estimate(value, low, high, videos.groups)


def _plain_frechet(one: Features, other: Features) -> float:
    return frechet_distance(gaussian_of(one), gaussian_of(other))


_ESTIMATORS = {
    "frechet": _plain_frechet,
    "frechet_extrapolated": extrapolated_frechet_distance,
    "kernel": kernel_distance,
}


def _estimate(value: float, low: float | None, high: float | None, groups: Sequence[str]) -> Estimate:
    return Estimate(value=value, low=low, high=high, num_prompts=len(set(groups)), num_videos=len(groups))


def _chosen(items: Sequence[ClassSums], positions: Iterable[np.intp]) -> list[ClassSums]:
    return [items[int(position)] for position in positions]

"""Scores of a set of videos from the results of its videos, with intervals."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.feature_rows import FeatureRows
from videocrafter.evaluation.metrics.catalogue import metric_named
from videocrafter.evaluation.metrics.distances import (
    ChosenRows,
    Features,
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


class Collected:
    """Numbers kept from the results while they are read one after another: 16 bytes per value.

    Attributes:
        prompts: number of each prompt, or of each video whose prompt is unknown, in order of first appearance.
        counts: number of videos by prompt.
        not_measured: number of videos by reason, by metric.
        lengths, sizes, rates: number of videos by number of frames, "width x height", and frames per second.
    """

    def __init__(self) -> None:
        self.prompts: dict[str, int] = {}
        self.counts: Counter[str] = Counter()
        self.not_measured: dict[str, Counter[str]] = {}
        self.lengths: Counter[str] = Counter()
        self.sizes: Counter[str] = Counter()
        self.rates: Counter[str] = Counter()
        self._values: dict[str, tuple[array[int], array[float]]] = {}

    def add(self, result: VideoResult) -> int:
        """Take the next result; return the number of its prompt."""
        prompt = self.prompts.setdefault(result.group, len(self.prompts))
        self.counts[result.group] += 1
        self.lengths[str(result.num_frames)] += 1
        self.sizes[f"{result.width}x{result.height}"] += 1
        self.rates[f"{result.fps:g}"] += 1
        for name, value in result.values.items():
            prompts, values = self._values.setdefault(name, (array("q"), array("d")))
            prompts.append(prompt)
            values.append(value)
        for name, reason in result.reasons.items():
            self.not_measured.setdefault(name, Counter())[reason] += 1
        return prompt

    def estimates(self) -> dict[str, Estimate]:
        """Return the score of every metric that has a value."""
        return {name: mean_of_prompts(_by_prompt(*pair)) for name, pair in self._values.items()}

    def warnings(self) -> list[str]:
        """Return what limits comparisons within the set."""
        kinds = (("numbers of frames", self.lengths), ("sizes", self.sizes), ("frame rates", self.rates))
        return [
            f"the videos have {len(counts)} different {what}: "
            + ", ".join(f"{value} ({count})" for value, count in counts.most_common(5))
            for what, counts in kinds
            if len(counts) > 1
        ]


def _by_prompt(prompts: Iterable[int], values: Iterable[float]) -> dict[Hashable, list[float]]:
    found: dict[Hashable, list[float]] = {}
    for prompt, value in zip(prompts, values, strict=True):
        found.setdefault(prompt, []).append(value)
    return found


def score(
    collected: Collected,
    set_metrics: Sequence[SetMetric],
    features: Mapping[str, FeatureRows],
    reference: Mapping[str, FeatureRows],
) -> Scores:
    """Return the scores of a set.

    Args:
        collected: values of its videos.
        set_metrics: metrics of the set to compute.
        features, reference: features of the videos, and of the reference set, by output; for class scores, the sums
            of each video as `ClassSums.to_row` returns them.
    """
    estimates = collected.estimates()
    not_measured: dict[str, Mapping[str, int]] = dict(collected.not_measured)
    for metric in set_metrics:
        found = _of_set(metric, features, reference)
        if isinstance(found, Estimate):
            estimates[metric.name] = found
        else:
            not_measured[metric.name] = {found: 1}
    return Scores(estimates=estimates, not_measured=not_measured)


def _of_set(
    metric: SetMetric,
    features: Mapping[str, FeatureRows],
    reference: Mapping[str, FeatureRows],
) -> Estimate | str:
    """Return the score of a set, or why there is none."""
    try:
        if metric.estimator == "class_score":
            return _class_score(features[metric.output])
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


@dataclass(frozen=True)
class _ChosenSums(Sequence[ClassSums]):
    """Class sums of some videos, read one after another."""

    rows: FeatureRows
    positions: NDArray[np.intp]

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Any) -> Any:
        return ClassSums.from_row(self.rows[self.positions[index : index + 1]][0])


def _class_score(sums: FeatureRows) -> Estimate:
    if not sums.groups:
        raise TooFewSamplesError("no video has class probabilities")

    def class_score(kept: NDArray[np.intp]) -> float:
        return inception_score_of_splits(_ChosenSums(sums, kept))

    value = class_score(np.arange(len(sums)))
    low, high = jackknife_interval(sums.groups, class_score, value)
    return _estimate(value, low, high, sums.groups)


def _distance(estimator: Estimator, videos: FeatureRows, reference: FeatureRows) -> Estimate:
    if not videos.groups or not reference.groups:
        raise TooFewSamplesError(
            f"{len(videos)} videos and {len(reference)} of the reference set have features; short videos have none"
        )

    def distance(kept: NDArray[np.intp]) -> float:
        return _ESTIMATORS[estimator](ChosenRows(videos, kept), reference)

    value = _ESTIMATORS[estimator](videos, reference)
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


def _estimate(value: float, low: float | None, high: float | None, groups: Sequence[int]) -> Estimate:
    return Estimate(value=value, low=low, high=high, num_prompts=len(set(groups)), num_videos=len(groups))

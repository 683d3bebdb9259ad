"""A protocol: prompts, seeds, sizes and metrics with their versions. Its hash stands in every report."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from videocrafter.evaluation.metrics.catalogue import metric_named
from videocrafter.evaluation.prompt_list import PromptItem, prompts_sha256


@dataclass(frozen=True, kw_only=True)
class Total:
    """A weighted sum of scores, as published by a benchmark.

    Attributes:
        weights: weight and divisor of each metric; it enters as weight * value / divisor.
        intercept: added to the sum, before scaling.
        scale: factor of the sum.
        complements: metrics that enter as 1 - value.
    """

    weights: Mapping[str, tuple[float, float]]
    intercept: float
    scale: float
    complements: tuple[str, ...] = ()

    def of(self, scores: Mapping[str, float]) -> float | None:
        """Return the total, or None if a score is missing."""
        if any(name not in scores for name in self.weights):
            return None
        terms = (
            weight * ((1 - scores[name]) if name in self.complements else scores[name]) / divisor
            for name, (weight, divisor) in self.weights.items()
        )
        return self.scale * (sum(terms) + self.intercept)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """Everything that must be equal for two reports to be comparable.

    Attributes:
        name, version: identity; the version is raised with every change.
        description: one line.
        metrics: names of the metrics, in the order of the report.
        prompts_sha256: hash that the user's prompt list must have; None accepts any.
        num_prompts: number of prompts of that list, for messages; 0 if any list is accepted.
        prompts_file: what the user must pass as prompts, for messages.
        suite: name of the shipped prompt suite that a model is evaluated on if no list is given; or empty.
        seeds: seeds of the videos that a model generates for each prompt.
        num_frames, height, width: size of generated videos; None for the model's recommended value.
        max_frames: frames of a video that are measured, from its start.
        totals: weighted sums by name.
        ranges: lowest and highest value of metrics, for normalised scores (x - lowest) / (highest - lowest).
    """

    name: str
    version: int
    description: str
    metrics: tuple[str, ...]
    prompts_sha256: str | None = None
    num_prompts: int = 0
    prompts_file: str = ""
    suite: str = ""
    seeds: tuple[int, ...] = (0,)
    num_frames: int | None = None
    height: int | None = None
    width: int | None = None
    max_frames: int = 256
    totals: Mapping[str, Total] = field(default_factory=dict)
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Return everything that the hash covers, metric versions included, as JSON values."""
        versions = {name: metric_named(name).version for name in self.metrics}
        content: dict[str, Any] = json.loads(json.dumps(asdict(self) | {"metric_versions": versions}))
        return content

    @property
    def sha256(self) -> str:
        """Hash of the protocol."""
        text = json.dumps(self.content(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def with_prompts(self, items: Sequence[PromptItem]) -> Protocol:
        """Return the protocol pinned to a list of prompts.

        Raises:
            ValueError: the protocol requires another list.
        """
        actual = prompts_sha256(tuple(item.prompt for item in items))
        if self.prompts_sha256 is not None and actual != self.prompts_sha256:
            raise ValueError(
                f"the prompts have SHA-256 {actual}, but protocol {self.name} requires {self.prompts_sha256} "
                f"({self.prompts_file}); pass the original list, or choose another protocol"
            )
        return replace(self, prompts_sha256=actual, num_prompts=len(items))

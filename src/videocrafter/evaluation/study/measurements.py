"""Automatic metrics of the study's videos: from evaluations, or from a table of system, prompt, seed and metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from videocrafter.data.cells import is_blank
from videocrafter.data.rows import read_rows
from videocrafter.evaluation.comparison.cell_metrics import read_metrics
from videocrafter.evaluation.results import MEASUREMENTS
from videocrafter.evaluation.study.design import Prompt

_KEYS = ("system", "prompt", "seed", "video")


@dataclass(frozen=True, kw_only=True)
class Video:
    """A measured video: its system, prompt, and seed and name if they are known."""

    system: str
    prompt: str
    seed: int | None = None
    name: str | None = None


@dataclass(frozen=True, kw_only=True)
class Measurements:
    """Metrics of videos.

    Attributes:
        names: of the metrics.
        values: one number per metric, by video.
    """

    names: tuple[str, ...]
    values: Mapping[Video, tuple[float, ...]]

    def of(self, system: str, prompt: Prompt, name: str | None = None) -> tuple[float, ...] | None:
        """Return the metrics of a video: by its name, else by its seed, else as the only one of its prompt.

        Returns:
            The metrics; None if there are none, or if several videos are equally likely.
        """
        rows = self._by_prompt.get((system, prompt.text), [])
        found = [video for video in rows if name is not None and video.name == name]
        found = found or [video for video in rows if video.seed == prompt.seed]
        found = found or [video for video in rows if None in (video.seed, prompt.seed)]
        return self.values[found[0]] if len(found) == 1 else None

    @cached_property
    def _by_prompt(self) -> dict[tuple[str, str], list[Video]]:
        found: dict[tuple[str, str], list[Video]] = {}
        for video in self.values:
            found.setdefault((video.system, video.prompt), []).append(video)
        return found

    def only(self, names: Sequence[str]) -> Measurements:
        """Return the named metrics. Raises ValueError for a metric that is not there."""
        for name in names:
            if name not in self.names:
                raise ValueError(f"{name!r} is not among the metrics; choose from {', '.join(self.names)}")
        places = [self.names.index(name) for name in dict.fromkeys(names)]
        values = {key: tuple(row[place] for place in places) for key, row in self.values.items()}
        return Measurements(names=tuple(self.names[place] for place in places), values=values)


def read_measurements(path: Path) -> Measurements:
    """Read a CSV, TSV, JSON Lines or JSON table of metrics, one row per video.

    Raises:
        ValueError: a row is damaged, repeats a video, or holds something other than numbers; it names the line.
        OSError: the file cannot be read.
    """
    names: tuple[str, ...] = ()
    values: dict[Video, tuple[float, ...]] = {}
    for row in read_rows(str(path), ("system", "prompt")):
        if row.problem:
            raise ValueError(row.problem)
        metrics = tuple(name for name in row.cells if name not in _KEYS)
        names = names or metrics
        if set(metrics) != set(names) or not names:
            raise ValueError(
                f"{row.where} has the metrics {', '.join(metrics) or 'none'}; expected {', '.join(names)}"
            )
        video = Video(
            system=str(row.cells["system"]),
            prompt=str(row.cells["prompt"]),
            seed=_seed(row.cells.get("seed"), row.where),
            name=None if is_blank(row.cells.get("video")) else str(row.cells["video"]),
        )
        if video in values:
            raise ValueError(
                f"{row.where} is a second row for {video.system}, {video.prompt!r} and its seed; "
                "keep one, or name the files in the column video"
            )
        values[video] = tuple(_number(row.cells[name], name, row.where) for name in names)
    if not values:
        raise ValueError(f"{path} has no rows; expected one per video")
    return Measurements(names=names, values=values)


def join_evaluations(folders: Mapping[str, Path]) -> Measurements:
    """Read the metrics of each system from the folder of its evaluation.

    Only metrics that all videos have are used: a regression cannot fill gaps.

    Raises:
        ValueError: a folder contains no evaluation, or no metric is common.
        OSError: a file cannot be read.
    """
    found: dict[Video, Mapping[str, float]] = {}
    for system, folder in folders.items():
        path = folder / MEASUREMENTS
        if not path.is_file():
            raise ValueError(
                f"{folder} contains no {MEASUREMENTS}; name the output folder of `videocrafter evaluate`"
            )
        for (name, prompt, seed), values in read_metrics(path).items():
            found[Video(system=system, prompt=prompt, seed=seed, name=name)] = values
    everywhere = set.intersection(*(set(values) for values in found.values())) if found else set()
    names = tuple(sorted(everywhere))
    if not names:
        raise ValueError("no metric was measured on all videos; evaluate the systems with the same protocol")
    return Measurements(
        names=names, values={key: tuple(values[name] for name in names) for key, values in found.items()}
    )


def _seed(value: Any, where: str) -> int | None:
    if value is None or value == "":
        return None
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ValueError(f"{where}: the seed is {value!r}, expected a whole number") from None


def _number(value: Any, name: str, where: str) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number) or isinstance(value, bool):
        raise ValueError(f"{where}: {name} is {value!r}, expected a number; leave out videos without one")
    return number

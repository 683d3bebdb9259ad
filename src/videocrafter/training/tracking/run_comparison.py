"""Summaries of runs for comparison, read from their folders during or after training."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videocrafter.media.json_file import read_json_object
from videocrafter.training.tracking.log import LOG_FILE, number, read_log
from videocrafter.training.tracking.log_keys import TOTAL_KEYS

_log = logging.getLogger(__name__)

_DEEPEST = 3
_MOST = 1e18  # larger totals are treated as damage
_NOT_SEARCHED = ("checkpoints", "stages", "final", "samples", "tensorboard")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of one run against the number of training samples, over all stages."""

    samples: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """Progress and metrics of a run.

    Attributes:
        name: the folder, relative to the folder that was searched; its own name if it is that folder.
        folder: its path.
        recipe: the recipe's name.
        stage, step, num_steps: present stage, steps done in it, and its number of steps.
        finished: whether `final/` exists.
        samples: training samples (clips and images) so far.
        seconds: time spent on training steps.
        curves: every logged number by name; names are "kind/name" for kinds other than "train".
    """

    name: str
    folder: Path
    recipe: str
    stage: str
    step: int
    num_steps: int
    finished: bool
    samples: int
    seconds: float
    curves: dict[str, Curve]

    def latest(self, metric: str) -> float | None:
        """Return the newest value of a metric, or None if the run has not logged it."""
        curve = self.curves.get(metric)
        return curve.values[-1] if curve else None


def find_runs(root: Path) -> list[RunSummary]:
    """Find the runs in a folder, up to three levels deep, or the run that the folder itself is.

    Runs that cannot be read are skipped with a warning.

    Raises:
        ValueError: no run can be read, or `root` is not a folder.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is not a folder; pass the folder of a run, or one that contains several runs")
    folders = list(_run_folders(root, 0))
    if not folders:
        raise ValueError(
            f"{root} contains no run: found no folder with config.json and log.jsonl, {_DEEPEST} levels deep"
        )
    runs, damaged = [], []
    for folder in folders:
        try:
            runs.append(summarise(folder, _name(folder, root)))
        except ValueError as error:  # noqa: PERF203  one damaged run must not hide the others
            damaged.append(str(error))
    if not runs:
        raise ValueError(damaged[0])
    for message in damaged:
        _log.warning("Skipped: %s", message)
    return runs


def _name(folder: Path, root: Path) -> str:
    return folder.resolve().name if folder == root else folder.relative_to(root).as_posix()


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "config.json").is_file() and (folder / LOG_FILE).is_file():
        yield folder
    elif depth < _DEEPEST:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and child.name not in _NOT_SEARCHED:
                yield from _run_folders(child, depth + 1)


def summarise(folder: Path, name: str) -> RunSummary:
    """Read one run's folder.

    Raises:
        ValueError: its configuration cannot be read. Damaged lines of the log are skipped.
    """
    try:
        config = read_json_object(folder / "config.json")
        steps = {str(stage["name"]): int(stage["num_steps"]) for stage in config["stages"]}
        recipe, first_stage = str(config["name"]), next(iter(steps))
    except (ValueError, LookupError, TypeError, StopIteration, OverflowError) as error:
        why = str(error) or type(error).__name__
        raise ValueError(
            f"{folder / 'config.json'} cannot be read ({why}); check that it is the folder of a run"
        ) from error
    lines = read_log(folder)
    newest: dict[str, Any] = lines[-1] if lines else {"stage": first_stage, "step": 0}
    training = [line for line in lines if line["kind"] == "train"]
    offsets = _samples_before(training)
    return RunSummary(
        name=name,
        folder=folder,
        recipe=recipe,
        stage=newest["stage"],
        step=newest["step"],
        num_steps=steps.get(newest["stage"], 0),
        finished=(folder / "final").is_dir(),
        samples=int(sum(_last_of_each_stage(training, "samples"))),
        seconds=sum(_last_of_each_stage(training, "seconds")),
        curves=_curves(lines, offsets),
    )


def _amount(line: dict[str, Any], key: str) -> float:
    """Return a plausible value of `key`, or 0."""
    value = number(line, key)
    return value if value is not None and 0 <= value < _MOST else 0.0


def _last_of_each_stage(training: Sequence[dict[str, Any]], key: str) -> list[float]:
    return list({line["stage"]: _amount(line, key) for line in training}.values())


def _samples_before(training: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Return, for each stage, the training samples of all stages before it."""
    offsets: dict[str, float] = {}
    seen = 0.0
    for line in training:
        if line["stage"] not in offsets:
            offsets[line["stage"]] = seen
        seen = max(seen, offsets[line["stage"]] + _amount(line, "samples"))
    return offsets


def _curves(lines: Sequence[dict[str, Any]], offsets: dict[str, float]) -> dict[str, Curve]:
    points: dict[str, list[tuple[float, float]]] = {}
    at = 0.0
    for line in lines:
        if line["kind"] == "train":
            at = offsets[line["stage"]] + _amount(line, "samples")
        prefix = "" if line["kind"] == "train" else f"{line['kind']}/"
        for name in line.keys() - TOTAL_KEYS - {"step"}:
            value = number(line, name)
            if value is not None:
                points.setdefault(prefix + name, []).append((at, value))
    return {
        name: Curve(samples=tuple(x for x, _ in pairs), values=tuple(y for _, y in pairs))
        for name, pairs in sorted(points.items())
    }

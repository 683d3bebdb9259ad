"""Runs side by side: what each reached, from the logs that they wrote, while they train or later."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videocrafter.training.tracking.log import LOG_FILE, number, read_log

_log = logging.getLogger(__name__)

_DEEPEST = 3
_MOST = 1e18  # samples or seconds that nobody has
_NO_LOOK_INTO = ("checkpoints", "stages", "final", "samples", "tensorboard")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """One metric of one run over the clips and images that it has seen, all stages one after the other."""

    samples: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class RunSummary:
    """What a run's folder tells.

    Attributes:
        name: the folder, relative to where one looked.
        folder: its path.
        recipe: the recipe's name.
        stage, step, num_steps: where it stands: stage, steps done, steps of that stage.
        finished: whether `final/` is there.
        samples: clips and images seen.
        seconds: time spent on training steps.
        samples_per_s: of the newest log line.
        curves: every logged number by name; "kind/name" for all kinds but "train".
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
    samples_per_s: float
    curves: dict[str, Curve]

    def latest(self, metric: str) -> float | None:
        """The newest value of a metric; None if the run has not logged it."""
        curve = self.curves.get(metric)
        return curve.values[-1] if curve else None


def find_runs(root: Path) -> list[RunSummary]:
    """All runs in a folder, at most three folders deep, or the run that it is; those that cannot be read are named.

    Raises:
        ValueError: there is none that can be read, or `root` is no folder.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; give the folder of a run, or one that holds several")
    folders = list(_run_folders(root, 0))
    if not folders:
        raise ValueError(f"{root} holds no run: no config.json with a log.jsonl beside it, {_DEEPEST} folders deep")
    runs, damaged = [], []
    for folder in folders:
        try:
            runs.append(summarise(folder, str(folder.relative_to(root)) or "."))
        except ValueError as error:  # noqa: PERF203  one damaged run hides none of the others
            damaged.append(str(error))
    if not runs:
        raise ValueError(damaged[0])
    for message in damaged:
        _log.warning("Left out: %s", message)
    return runs


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "config.json").is_file() and (folder / LOG_FILE).is_file():
        yield folder
    elif depth < _DEEPEST:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and child.name not in _NO_LOOK_INTO:
                yield from _run_folders(child, depth + 1)


def summarise(folder: Path, name: str) -> RunSummary:
    """Read one run's folder.

    Raises:
        ValueError: its configuration cannot be read. Damaged lines of the log are passed over.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        steps = {str(stage["name"]): int(stage["num_steps"]) for stage in config["stages"]}
        recipe, first_stage = str(config["name"]), next(iter(steps))
    except (OSError, ValueError, LookupError, TypeError, StopIteration, OverflowError, RecursionError) as error:
        why = str(error) or type(error).__name__
        raise ValueError(f"{folder / 'config.json'} cannot be read ({why}); is it a run's folder?") from error
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
        samples_per_s=_amount(training[-1], "samples_per_s") if training else 0.0,
        curves=_curves(lines, offsets),
    )


def _amount(line: dict[str, Any], key: str) -> float:
    """A number that can be counted with; 0 where there is none."""
    value = number(line, key)
    return value if value is not None and 0 <= value < _MOST else 0.0


def _last_of_each_stage(training: Sequence[dict[str, Any]], key: str) -> list[float]:
    return list({line["stage"]: _amount(line, key) for line in training}.values())


def _samples_before(training: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Samples that all stages before a stage have seen."""
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
        for name in line.keys() - {"step", "samples", "seconds"}:
            value = number(line, name)
            if value is not None:
                points.setdefault(prefix + name, []).append((at, value))
    return {
        name: Curve(samples=tuple(x for x, _ in pairs), values=tuple(y for _, y in pairs))
        for name, pairs in sorted(points.items())
    }

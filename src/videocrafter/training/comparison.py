"""Runs side by side: what each reached, from the logs that they wrote, while they train or later."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videocrafter.media.atomic_write import write_all

_DEEPEST = 3
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
        recipe: the recipe's name.
        stage, step, num_steps: where it stands: stage, steps done, steps of that stage.
        finished: whether `final/` is there.
        samples: clips and images seen.
        seconds: time spent on training steps.
        samples_per_s: of the newest log line.
        curves: every logged number by name; "kind/name" for all kinds but "train".
    """

    name: str
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
    """All runs in a folder, at most three folders deep, or the run that it is.

    Raises:
        ValueError: there is none, or `root` is no folder.
    """
    if not root.is_dir():
        raise ValueError(f"{root} is no folder; give the folder of a run, or one that holds several")
    folders = list(_run_folders(root, 0))
    if not folders:
        raise ValueError(f"{root} holds no run: no config.json with a log.jsonl beside it, {_DEEPEST} folders deep")
    return [summarise(folder, str(folder.relative_to(root)) or ".") for folder in folders]


def _run_folders(folder: Path, depth: int) -> Iterator[Path]:
    if (folder / "config.json").is_file() and (folder / "log.jsonl").is_file():
        yield folder
    elif depth < _DEEPEST:
        for child in sorted(folder.iterdir()):
            if child.is_dir() and child.name not in _NO_LOOK_INTO:
                yield from _run_folders(child, depth + 1)


def summarise(folder: Path, name: str) -> RunSummary:
    """Read one run's folder.

    Raises:
        ValueError: its configuration cannot be read. Broken lines of the log are passed over: a run that is
            being written may end in one.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        steps = {stage["name"]: int(stage["num_steps"]) for stage in config["stages"]}
        recipe = str(config["name"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'} cannot be read ({error}); is it a run's folder?") from error
    lines = list(_lines(folder / "log.jsonl"))
    newest = lines[-1] if lines else {"stage": next(iter(steps)), "step": 0}
    training = [line for line in lines if line["kind"] == "train"]
    offsets = _samples_before(training)
    return RunSummary(
        name=name,
        recipe=recipe,
        stage=newest["stage"],
        step=int(newest["step"]),
        num_steps=steps.get(newest["stage"], 0),
        finished=(folder / "final").is_dir(),
        samples=sum(_last_of_each_stage(training, "samples")),
        seconds=float(sum(_last_of_each_stage(training, "seconds"))),
        samples_per_s=float(training[-1].get("samples_per_s", 0.0)) if training else 0.0,
        curves=_curves(lines, offsets),
    )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8", errors="replace") as file:
        for text in file:
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if isinstance(line, dict) and {"stage", "step", "kind"} <= line.keys():
                yield line


def _last_of_each_stage(training: Sequence[dict[str, Any]], key: str) -> list[Any]:
    return list({line["stage"]: line.get(key, 0) for line in training}.values())


def _samples_before(training: Sequence[dict[str, Any]]) -> dict[str, int]:
    """Samples that all stages before a stage have seen."""
    offsets: dict[str, int] = {}
    seen = 0
    for line in training:
        if line["stage"] not in offsets:
            offsets[line["stage"]] = seen
        seen = max(seen, offsets[line["stage"]] + int(line.get("samples", 0)))
    return offsets


def _curves(lines: Sequence[dict[str, Any]], offsets: dict[str, int]) -> dict[str, Curve]:
    points: dict[str, list[tuple[float, float]]] = {}
    at = 0.0
    for line in lines:
        if line["kind"] == "train":
            at = offsets[line["stage"]] + float(line.get("samples", 0))
        prefix = "" if line["kind"] == "train" else f"{line['kind']}/"
        for name, value in line.items():
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if is_number and name not in ("step", "samples", "seconds"):
                points.setdefault(prefix + name, []).append((at, float(value)))
    return {
        name: Curve(samples=tuple(x for x, _ in pairs), values=tuple(y for _, y in pairs))
        for name, pairs in points.items()
    }


def plot_runs(runs: Sequence[RunSummary], metric: str, path: Path) -> None:
    """Draw one metric of all runs over the samples they have seen, as PNG, SVG or PDF by the ending.

    Raises:
        ValueError: no run has logged the metric (the message lists what there is), or matplotlib is missing.
    """
    shown = [run for run in runs if metric in run.curves]
    if not shown:
        known = sorted({name for run in runs for name in run.curves})
        raise ValueError(f"no run has logged {metric!r}; there is {', '.join(known) or 'nothing yet'}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("a plot needs matplotlib: pip install 'videocrafter[train]'") from error
    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for run in shown:
        curve = run.curves[metric]
        axes.plot(curve.samples, curve.values, label=run.name, linewidth=1.2)
    axes.set_xlabel("clips and images seen")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix(".") or "png", dpi=120)
    write_all({path: picture.getvalue()}, overwrite=True)

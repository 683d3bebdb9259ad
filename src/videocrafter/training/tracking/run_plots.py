"""Curves of runs in one picture."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from videocrafter.media.atomic_write import write_all
from videocrafter.training.tracking.run_comparison import Curve, RunSummary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_BELOW = 3  # metrics below each other, before there are two columns
_FEW = 20  # points that are marked
_WIDTH, _HEIGHT = 9.0, 4.0  # inches


def plot_runs(runs: Sequence[RunSummary], metrics: Sequence[str], path: Path, *, smooth: float = 0.0) -> None:
    """Draw metrics of all runs over the samples they have seen, as PNG, SVG or PDF by the ending.

    Args:
        metrics: one field each.
        smooth: from 0 to below 1; the line is the running mean in which each older value counts this much less, and
            the values themselves stand faintly behind it.

    Raises:
        ValueError: no run has logged a metric (the message lists what there is), or matplotlib is missing.
    """
    for metric in metrics:
        if not any(metric in run.curves for run in runs):
            known = sorted({name for run in runs for name in run.curves})
            raise ValueError(f"no run has logged {metric!r}; there is {', '.join(known) or 'nothing yet'}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("a plot needs matplotlib: pip install 'videocrafter[train]'") from error
    columns = 1 if len(metrics) <= _MOST_BELOW else 2
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(_WIDTH * (1 + 0.5 * (columns - 1)), 1 + _HEIGHT * rows), layout="constrained")
    fields = list(figure.subplots(rows, columns, sharex=True, squeeze=False).flat)
    for axes, metric in zip(fields, metrics, strict=False):
        _draw(axes, runs, metric, smooth)
    for axes in fields[len(metrics) :]:
        axes.set_axis_off()
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix(".") or "png", dpi=120)
    write_all({path: picture.getvalue()}, overwrite=True)


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Running means in which each older value counts `weight` less; the first ones are not drawn towards 0.

    What is no number stays so, and leaves the mean as it was.
    """
    means, total, count = [], 0.0, 0.0
    for value in values:
        if math.isfinite(value):
            total, count = weight * total + value, weight * count + 1
            means.append(total / count)
        else:
            means.append(value)
    return means


def _draw(axes: Axes, runs: Sequence[RunSummary], metric: str, smooth: float) -> None:
    for index, run in enumerate(runs):  # a run has the same colour in all fields
        curve = run.curves.get(metric, Curve(samples=(), values=()))
        if not curve.values:
            continue
        color = f"C{index % 10}"
        if smooth:
            axes.plot(curve.samples, curve.values, color=color, linewidth=0.8, alpha=0.3)
        marker = "." if len(curve.values) < _FEW else ""
        means = smoothed(curve.values, smooth)
        axes.plot(curve.samples, means, color=color, label=run.name, linewidth=1.2, marker=marker)
    axes.set_xlabel("clips and images seen")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)

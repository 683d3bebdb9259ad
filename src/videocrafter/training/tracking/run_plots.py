"""Plots of several runs' metrics."""

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

_MOST_BELOW = 3  # metrics in one column of plots
_FEW = 20  # curves with fewer points have markers
_WIDTH, _HEIGHT = 9.0, 4.0  # inches


def plot_runs(runs: Sequence[RunSummary], metrics: Sequence[str], path: Path, *, smooth: float = 0.0) -> None:
    """Plot metrics of all runs against the number of training samples, as PNG, SVG or PDF by file extension.

    Args:
        metrics: each gets its own axes.
        smooth: weight of the exponential moving average that is drawn, in [0, 1). The raw values are drawn faintly.

    Raises:
        ValueError: no run has logged a metric (the message lists the known ones), or matplotlib is missing.
    """
    for metric in metrics:
        if not any(metric in run.curves for run in runs):
            known = sorted({name for run in runs for name in run.curves})
            raise ValueError(f"no run has logged {metric!r}; known metrics: {', '.join(known) or 'none yet'}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("plots need matplotlib: pip install 'videocrafter[train]'") from error
    columns = 1 if len(metrics) <= _MOST_BELOW else 2
    rows = math.ceil(len(metrics) / columns)
    figure = Figure(figsize=(_WIDTH * (1 + 0.5 * (columns - 1)), 1 + _HEIGHT * rows), layout="constrained")
    all_axes = list(figure.subplots(rows, columns, sharex=True, squeeze=False).flat)
    for axes, metric in zip(all_axes, metrics, strict=False):
        _draw(axes, runs, metric, smooth)
    for axes in all_axes[len(metrics) :]:
        axes.set_axis_off()
    picture = io.BytesIO()
    figure.savefig(picture, format=path.suffix.removeprefix(".") or "png", dpi=120)
    write_all({path: picture.getvalue()}, overwrite=True)


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Return the exponential moving average with the given weight, corrected for its start.

    NaN and infinity are passed through and do not enter the average.
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
    for index, run in enumerate(runs):  # each run has the same colour in all plots
        curve = run.curves.get(metric, Curve(samples=(), values=()))
        if not curve.values:
            continue
        color = f"C{index % 10}"
        if smooth:
            axes.plot(curve.samples, curve.values, color=color, linewidth=0.8, alpha=0.3)
        marker = "." if len(curve.values) < _FEW else ""
        means = smoothed(curve.values, smooth)
        axes.plot(curve.samples, means, color=color, label=run.name, linewidth=1.2, marker=marker)
    axes.set_xlabel("training samples (clips and images)")
    axes.set_ylabel(metric)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)

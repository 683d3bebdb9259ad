"""Charts of the report as SVG: a histogram with a threshold, and bars."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

_WIDTH, _HEIGHT, _BINS = 480, 110, 48


def histogram(values: Sequence[float], threshold: float | None, keeps: str) -> str:
    """Return a histogram. The side that a filter drops is shaded, up to the 99th percentile of the values.

    Args:
        values: at least one.
        threshold: None draws no line.
        keeps: "above" or "below" the threshold.
    """
    low, high = float(min(values)), float(np.percentile(values, 99))
    if threshold is not None:
        low, high = min(low, threshold), max(high, threshold)
    if high <= low:
        high = low + 1e-9 + abs(low) * 0.1
    counts, edges = np.histogram(np.clip(values, low, high), _BINS, (low, high))
    step, top = _WIDTH / _BINS, max(1, int(counts.max()))
    parts = []
    for index, count in enumerate(counts.tolist()):
        height = count / top * _HEIGHT
        middle = (edges[index] + edges[index + 1]) / 2
        is_dropped = threshold is not None and (middle < threshold if keeps == "above" else middle > threshold)
        style = "dropped" if is_dropped else "kept"
        parts.append(
            f'<rect class="{style}" x="{index * step:.1f}" y="{_HEIGHT - height:.1f}" width="{step - 1:.1f}" '
            f'height="{height:.1f}"><title>{edges[index]:.4g} to {edges[index + 1]:.4g}: {count}</title></rect>'
        )
    if threshold is not None:
        x = (threshold - low) / (high - low) * _WIDTH
        parts.append(f'<line class="limit" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{_HEIGHT}"/>')
    labels = (
        f'<text x="0" y="{_HEIGHT + 14}">{low:.3g}</text>'
        f'<text x="{_WIDTH}" y="{_HEIGHT + 14}" text-anchor="end">{high:.3g}</text>'
    )
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT + 18}" role="img">{"".join(parts)}{labels}</svg>'


def bar(share: float) -> str:
    """Return a horizontal bar for a share from 0 to 1."""
    return f'<span class="bar"><span style="width:{100 * min(1.0, max(0.0, share)):.1f}%"></span></span>'

"""Bar chart of a study as SVG: one group of bars per aspect, one bar per system, with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from videocrafter.evaluation.study.design import ASPECTS, StudyDesign

# Okabe and Ito (2008): distinguishable with all common kinds of colour blindness.
_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442", "#999999")
_BAR, _GAP, _HEIGHT, _LEFT, _TOP, _BOTTOM = 34, 40, 220, 56, 40, 44
_WIDEST_LABEL = 24


def bar_chart(design: StudyDesign, aspects: Mapping[str, Mapping[str, Any]]) -> str:
    """Draw mean ratings (1 to 5), or preference scores (wins plus half of the ties, 0 to 1).

    Args:
        design: the study.
        aspects: numbers by aspect, from `analyse_aspect`.
    """
    key, low, high, ticks = ("mean", 1.0, 5.0, 5) if design.kind == "ratings" else ("score", 0.0, 1.0, 5)
    group = len(design.systems) * _BAR + _GAP
    legend = _TOP + _HEIGHT + _BOTTOM
    height = legend + 22 * len(design.systems) + 8
    scale = "mean rating" if key == "mean" else "preference (wins + half of the ties)"
    title = f"{design.title}: {scale}, 95 % intervals"
    # Letters of this size are about eight pixels wide.
    width = max(_LEFT + len(aspects) * group, 16 + 8 * len(title))
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(title)}" font-family="system-ui, sans-serif" font-size="13">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
        f'<text x="8" y="20" font-weight="bold" fill="#1c1c1c">{escape(title)}</text>',
    ]

    def y(value: float) -> float:
        return _TOP + _HEIGHT * (1.0 - (value - low) / (high - low))

    for index in range(ticks):
        value = low + (high - low) * index / (ticks - 1)
        parts.append(f'<line x1="{_LEFT}" x2="{width}" y1="{y(value):.1f}" y2="{y(value):.1f}" stroke="#d0d0d0"/>')
        parts.append(
            f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end" fill="#1c1c1c">{value:g}</text>'
        )
    for place, (aspect, numbers) in enumerate(aspects.items()):
        start = _LEFT + place * group + _GAP / 2
        parts.extend(_bars(design.systems, numbers["systems"], key, start, y, low))
        middle = start + len(design.systems) * _BAR / 2
        label = _lines(ASPECTS[aspect].title)
        parts.extend(
            f'<text x="{middle:.1f}" y="{_TOP + _HEIGHT + 18 + 15 * line}" text-anchor="middle" fill="#1c1c1c">'
            f"{escape(text)}</text>"
            for line, text in enumerate(label)
        )
    for index, name in enumerate(design.systems):
        top = legend + 22 * index
        parts.append(f'<rect x="{_LEFT}" y="{top}" width="14" height="14" fill="{_colour(index)}"/>')
        parts.append(f'<text x="{_LEFT + 22}" y="{top + 12}" fill="#1c1c1c">{escape(name)}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _bars(
    systems: Sequence[str], numbers: Mapping[str, Any], key: str, start: float, y: Any, low: float
) -> Sequence[str]:
    parts = []
    for index, name in enumerate(systems):
        value, ends = numbers[name][key], numbers[name][f"{key}_interval"]
        if value is None or math.isnan(value):
            continue
        left, middle = start + index * _BAR, start + index * _BAR + _BAR / 2
        known = not any(map(math.isnan, ends))
        tip = f"{name}: {value:.2f}" + (f" ({ends[0]:.2f} to {ends[1]:.2f})" if known else "")
        parts.append(
            f'<rect x="{left + 3:.1f}" y="{y(value):.1f}" width="{_BAR - 6}" height="{y(low) - y(value):.1f}" '
            f'fill="{_colour(index)}"><title>{escape(tip)}</title></rect>'
        )
        if known:
            parts.append(
                f'<path d="M{middle:.1f} {y(ends[0]):.1f}V{y(ends[1]):.1f}M{middle - 5:.1f} {y(ends[0]):.1f}h10'
                f'M{middle - 5:.1f} {y(ends[1]):.1f}h10" stroke="#1c1c1c" stroke-width="1.5" fill="none"/>'
            )
        # Above the interval, which would cross it anywhere else; the white rim keeps it legible on grid lines.
        foot = y(max(value, ends[1]) if known else value) - 5
        parts.append(
            f'<text x="{middle:.1f}" y="{foot:.1f}" text-anchor="middle" font-size="11" fill="#1c1c1c" '
            f'stroke="#ffffff" stroke-width="3" paint-order="stroke">{value:.2f}</text>'
        )
    return parts


def _colour(index: int) -> str:
    return _COLOURS[index % len(_COLOURS)]


def _lines(title: str) -> list[str]:
    """Break a title before its last word if it has several."""
    first, _, last = title.rpartition(" ")
    return [first, last] if first else [last]

"""Variants measured in turns, A B A B: whatever else the machine does slows all of them alike."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

Readings = Mapping[str, float]
"""What one turn of a variant gave: numbers by their unit or by what they measure."""

COLUMNS = ("what", "reading", "median", "lowest", "highest", "ratio")


def take_turns(variants: Mapping[str, Callable[[], Readings]], repeats: int) -> dict[str, list[Readings]]:
    """Measure every variant once per round, always in the same order, and say on stderr how far it is.

    Args:
        variants: by name, what to call for one turn. Warm it up beforehand.
        repeats: rounds, at least 1.
    """
    turns: dict[str, list[Readings]] = {name: [] for name in variants}
    for index in range(repeats):
        for name, measure in variants.items():
            print(f"round {index + 1} of {repeats}: {name}", file=sys.stderr)
            turns[name].append(measure())
    return turns


def compare(turns: Mapping[str, Sequence[Readings]], baseline: str | None = None) -> list[tuple[object, ...]]:
    """One row of COLUMNS for each variant and reading.

    Args:
        turns: what `take_turns` returned.
        baseline: the variant that the ratios refer to, reading by reading; None, or a reading that it lacks,
            gives no ratio.
    """
    rows: list[tuple[object, ...]] = []
    for name, rounds in turns.items():
        for reading in rounds[0]:
            values = [one[reading] for one in rounds]
            ratio = None
            if baseline is not None and name != baseline and reading in turns[baseline][0]:
                ratio = paired_ratio(values, [one[reading] for one in turns[baseline]])
            rows.append((name, reading, median(values), min(values), max(values), ratio))
    return rows


def paired_ratio(values: Sequence[float], references: Sequence[float]) -> float:
    """Median of the ratios within each round; a slow minute of the machine is in both sides of one of them."""
    return median(value / reference for value, reference in zip(values, references, strict=True))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Inside, torch computes with this many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

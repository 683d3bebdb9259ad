"""Measure variants in turns (A B A B), so that other load on the machine slows all of them equally."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from statistics import median

Readings = Mapping[str, float]
"""Results of one turn of a variant: values by their unit or name."""

COLUMNS = ("what", "reading", "median", "lowest", "highest", "ratio")


def take_turns(variants: Mapping[str, Callable[[], Readings]], repeats: int) -> dict[str, list[Readings]]:
    """Measure every variant once per round, always in the same order, and report progress on stderr.

    Args:
        variants: a function for one turn of each variant, by name. Warm them up beforehand.
        repeats: number of rounds, at least 1.
    """
    turns: dict[str, list[Readings]] = {name: [] for name in variants}
    for index in range(repeats):
        for name, measure in variants.items():
            print(f"round {index + 1} of {repeats}: {name}", file=sys.stderr)
            turns[name].append(measure())
    return turns


def compare(turns: Mapping[str, Sequence[Readings]], baseline: str | None = None) -> list[tuple[object, ...]]:
    """Return one row of COLUMNS for each variant and reading.

    Args:
        turns: the result of `take_turns`.
        baseline: the variant that ratios refer to. Without one, and for readings that it lacks, there is no ratio.
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
    """Return the median of the ratios within each round, so that a slow moment affects both sides of a ratio."""
    return median(value / reference for value, reference in zip(values, references, strict=True))


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Within this context, torch computes with this many threads."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)

"""Parsing of manifest cells: lists, numbers and times."""

from __future__ import annotations

import ast
import math
from collections.abc import Sequence
from typing import Any


def parse_list(cell: Any) -> Sequence[Any]:
    """Return the entries of a cell.

    The cell may be a list, or text such as "['a', 'b']" or '["a", "b"]'. Any other cell is a single entry.
    """
    if isinstance(cell, list | tuple):
        return cell
    if isinstance(cell, str) and cell.lstrip().startswith("[") and cell.rstrip().endswith("]"):
        try:
            # Literals only: nothing in a manifest is ever executed. JSON lists of strings are literals, too.
            found = ast.literal_eval(cell.strip())
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            return (cell,)
        if isinstance(found, list):
            return found
    return () if cell is None else (cell,)


def is_blank(cell: Any) -> bool:
    """Return whether a cell is missing: None, blank text, or the NaN that stands for a missing number in Parquet."""
    return cell is None or (isinstance(cell, str) and not cell.strip()) or (isinstance(cell, float) and cell != cell)


def parse_number(cell: Any) -> float | None:
    """Return a finite number, given as a number or as text, or None."""
    if isinstance(cell, bool):
        return None
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def parse_seconds(cell: Any) -> float | None:
    """Return non-negative seconds, given as a number or as text such as "75.5" or "0:01:15.5", or None."""
    parts = [parse_number(part) for part in cell.split(":")] if isinstance(cell, str) else [parse_number(cell)]
    if len(parts) > 3:
        return None
    seconds = 0.0
    for part in parts:
        if part is None or part < 0:
            return None
        seconds = 60 * seconds + part
    return seconds

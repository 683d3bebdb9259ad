"""Numbers of Python, numpy, pandas and torch as plain Python numbers, so that all of them are valid arguments.

A column of a table arrives as floats if one cell is empty, and as text if one cell is not a number. Such numbers are
accepted too.
"""

from __future__ import annotations

import math
import numbers
import warnings
from collections.abc import Iterable, Mapping
from typing import Any


def plain_number(name: str, value: Any) -> float:
    """Return a number as int or float: a Python or numpy number, an array or tensor without dimensions, or its text.

    Raises ValueError that begins with `name` for anything else, such as other text or a bool. NaN is a number.
    """
    number = value.item() if getattr(value, "shape", None) == () else value
    if isinstance(number, str):
        number = _parsed(number)
    if isinstance(number, bool) or not isinstance(number, numbers.Real):
        raise ValueError(f"{name} must be a number, but is {value!r}")
    return int(number) if isinstance(number, numbers.Integral) else float(number)


def whole_number(name: str, value: Any) -> int:
    """Return a whole number as int. 8.0 is one; 8.4 becomes 8 with a warning. NaN and infinity raise ValueError.

    Other errors are those of `plain_number`.
    """
    number = plain_number(name, value)
    if not math.isfinite(number):
        raise ValueError(f"{name} must be a whole number, but is {value!r}")
    whole = round(number)
    if whole != number:
        warnings.warn(f"{name} must be a whole number, but is {value!r}; {whole} is used", stacklevel=3)
    return whole


def _parsed(text: str) -> int | float | None:
    try:
        return int(text) if text.strip().lstrip("+-").isdecimal() else float(text)
    except ValueError:
        return None


def listed(values: Any) -> Any:
    """Return several values (a sequence, an array, a pandas column) as a list, and anything else unchanged."""
    is_single = isinstance(values, str | bytes | Mapping) or getattr(values, "shape", None) == ()
    return list(values) if isinstance(values, Iterable) and not is_single else values


def plain_numbers(name: str, values: Any) -> float | list[float]:
    """Return one number, or several as a list; errors as in `plain_number`."""
    several = listed(values)
    return [plain_number(name, one) for one in several] if isinstance(several, list) else plain_number(name, values)

"""Errors of a generation run that its user can fix, each with a code for front ends.

Messages name settings in backticks, as in "give one with `image`", or begin with the name of a setting. A front end
may replace these names with its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any


class GenerationError(ValueError):
    """A setting, input, model or file with which no video can be made."""

    code = "invalid-settings"


class ModelUnavailableError(GenerationError):
    """A model that is missing, damaged, or for another task."""

    code = "model-unavailable"


class NotEnoughMemoryError(GenerationError):
    """Too little memory, before or during generation.

    Attributes:
        suggestions: settings that would fit, each a mapping of changes to the request; the mildest change first.
        is_estimate: whether the run was refused before it began, which `GenerateOptions.ignore_memory` prevents.
    """

    code = "out-of-memory"

    def __init__(
        self, message: str, suggestions: Sequence[Mapping[str, Any]] = (), *, is_estimate: bool = False
    ) -> None:
        super().__init__(message)
        self.is_estimate = is_estimate
        self.suggestions = [dict(changes) for changes in suggestions]


class NotFiniteError(GenerationError):
    """NaN or infinity during sampling."""

    code = "not-finite"


class GenerationCancelled(Exception):  # noqa: N818 (the user's wish, not an error)
    """A run that its watcher cancelled. Videos written before stay."""

    code = "cancelled"


@contextmanager
def expecting(
    expected: type[Exception] = ValueError, *, error: type[GenerationError] = GenerationError
) -> Iterator[None]:
    """Turn exceptions of the `expected` type into a `GenerationError` with the same message.

    Use it around reading options, files and models, and around writing results. Keep computation outside, or name
    the exceptions that it raises, so that bugs keep their own type. Errors of the system stay OSErrors.
    """
    try:
        yield
    except GenerationError:
        raise
    except expected as problem:
        if isinstance(problem, OSError):
            raise  # such as a full disk, which no setting fixes
        raise error(str(problem)) from problem

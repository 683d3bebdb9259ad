"""Name options instead of settings in errors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from videocrafter.cli.generate.options import OPTION_OF
from videocrafter.generation.errors import GenerationError


@contextmanager
def naming_options() -> Iterator[None]:
    """Replace settings by their options in an error: at its beginning, and wherever they stand in backticks."""
    try:
        yield
    except ValueError as error:
        text = re.sub(r"`(\w+)`", lambda match: OPTION_OF.get(match[1], match[0]), str(error))
        setting, space, rest = text.partition(" ")
        text = f"{OPTION_OF.get(setting, setting)}{space}{rest}"
        if text == str(error):
            raise
        # Errors of the generation stay apart from other ValueErrors, which may be bugs.
        kind = GenerationError if isinstance(error, GenerationError) else ValueError
        raise kind(text) from error

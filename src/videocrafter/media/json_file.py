"""Read JSON that may be damaged or hostile: every fault is a ValueError of one line that names the source."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LARGEST_FILE = 64 * 2**20
_LONGEST_REASON = 160


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a file that holds a JSON object.

    Raises:
        ValueError: the file is missing, too large, not JSON, or holds another value; one line that names it.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing" if not path.exists() else f"{path} is not a file; expected a JSON file")
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise ValueError(f"{path} has {size:,} bytes; expected a JSON file of at most {_LARGEST_FILE:,} bytes")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    return parse_json_object(data, str(path))


def parse_json_object(text: str | bytes, name: str) -> dict[str, Any]:
    """Parse a JSON object.

    Args:
        text: JSON in UTF-8, UTF-16 or UTF-32, with or without a byte order mark.
        name: the source in messages.

    Raises:
        ValueError: the text is not JSON, repeats a key, or holds another value; one line that begins with `name`.
    """
    try:
        decoded = text if isinstance(text, str) else text.decode(json.detect_encoding(text))
        value = json.loads(decoded.removeprefix("\ufeff"), object_pairs_hook=_unique)
    except RecursionError:
        raise ValueError(f"{name} is damaged: it is nested too deeply for JSON; restore the original file") from None
    except ValueError as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise ValueError(f"{name} is damaged: not readable as JSON ({reason}); restore the original file") from None
    if not isinstance(value, dict):
        raise ValueError(
            f"{name} is damaged: expected a JSON object, found {_type_name(value)}; restore the original file"
        )
    return value


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        repeated = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {repeated[:80]!r} appears twice in one object")
    return found


def _type_name(value: Any) -> str:
    names = {list: "a list", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(value), "a number")

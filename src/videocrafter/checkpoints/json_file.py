"""Read JSON files with errors that name the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

_LARGEST_FILE = 64 * 2**20


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ValueError that names the file if it is missing, damaged or too large."""
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    if path.stat().st_size > _LARGEST_FILE:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, too many for JSON")
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is damaged: not readable as JSON ({error}); restore the original file") from None
    if not isinstance(value, dict):
        raise ValueError(f"{path} is damaged: expected a JSON object; restore the original file")
    return value

"""Files that users supply, with the hashes that they trust: `weights.json` in the folder of the files.

{"raft": {"file": "raft.pt", "sha256": "5f2c…"}}
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path

from videocrafter.media.json_file import read_json_object

MANIFEST = "weights.json"


def read_pins(path: Path, names: Collection[str]) -> dict[str, tuple[str, str]]:
    """Return file name and SHA-256 of each network that a manifest pins; nothing if the manifest does not exist.

    Args:
        names: networks that may occur.

    Raises:
        ValueError: the manifest is not valid.
    """
    if not path.exists():
        return {}
    found: dict[str, tuple[str, str]] = {}
    for name, value in read_json_object(path).items():
        if name not in names:
            raise ValueError(f"{path}: {name!r} is not a known network; expected one of {', '.join(names)}")
        file, sha256 = (value.get("file"), value.get("sha256")) if isinstance(value, dict) else (None, None)
        if not (isinstance(file, str) and isinstance(sha256, str) and re.fullmatch("[0-9a-f]{64}", sha256)):
            raise ValueError(f'{path}: {name} must be {{"file": NAME, "sha256": 64 hexadecimal digits}}')
        found[name] = (file, sha256)
    return found

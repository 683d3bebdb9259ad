"""The SHA-256 of a file."""

from __future__ import annotations

import hashlib
from pathlib import Path

_BLOCK = 2**20


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's content, in hex; the file is read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()

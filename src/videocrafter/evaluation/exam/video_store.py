"""Generated videos on disk, without loss, so that an interrupted exam continues where it stopped."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videocrafter.evaluation.exam.clips import to_bytes
from videocrafter.media.atomic_write import write_all

_UNREADABLE = (OSError, ValueError, KeyError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)
"""Errors of zipfile and numpy for missing and damaged files."""


class StoredVideos:
    """Videos of one part of the exam, one file each: eight bits per channel, as in any video that users see.

    Args:
        folder: folder of the files; created when the first video is written.
        fingerprints: for each video a hash of all that it depends on. A file with another one, or a
            damaged file, counts as missing.
    """

    def __init__(self, folder: Path, fingerprints: Sequence[str]) -> None:
        self._folder, self._fingerprints = folder, list(fingerprints)

    def __len__(self) -> int:
        return len(self._fingerprints)

    def __getitem__(self, index: slice, /) -> Tensor:
        """Return some videos, [n, T, 3, H, W] in [-1, 1]."""
        frames = np.stack([self._read(number) for number in range(len(self))[index]])
        return torch.from_numpy(frames).movedim(-1, -3).float() / 127.5 - 1.0

    def missing(self) -> list[int]:
        """Return the numbers of the videos that must be generated."""
        return [number for number in range(len(self)) if not self._is_stored(number)]

    def write(self, number: int, frames: Tensor) -> None:
        """Store a video [T, 3, H, W] in [-1, 1].

        Raises:
            MediaError: the file cannot be written; none is left.
        """
        content = io.BytesIO()
        np.savez_compressed(content, frames=to_bytes(frames), fingerprint=np.array(self._fingerprints[number]))
        write_all({self._path(number): content.getvalue()}, overwrite=True)

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:04d}.npz"

    def _is_stored(self, number: int) -> bool:
        path = self._path(number)
        try:
            with zipfile.ZipFile(path) as file:
                if file.testzip() is not None:
                    return False
            with np.load(path, allow_pickle=False) as stored:
                return "frames" in stored and str(stored["fingerprint"]) == self._fingerprints[number]
        except _UNREADABLE:
            return False

    def _read(self, number: int) -> NDArray[np.uint8]:
        with np.load(self._path(number), allow_pickle=False) as stored:
            frames: NDArray[np.uint8] = stored["frames"]
        return frames


def fingerprint(content: Mapping[str, Any], image: Tensor | None = None) -> str:
    """Return a hash of all that a video depends on: values that JSON can hold, and an input image."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode())
    if image is not None:
        digest.update(to_bytes(image).tobytes())
    return digest.hexdigest()

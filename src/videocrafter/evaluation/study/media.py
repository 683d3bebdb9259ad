"""The files that the server of a study sends: clips and input images, checked once and kept in memory."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path

from videocrafter.evaluation.study.design import MEDIA_FOLDER, StudyDesign

MEMORY = 256 * 2**20
_LARGEST_KEPT = 32 * 2**20


@dataclass(frozen=True, kw_only=True)
class MediaFile:
    """A file that raters see, as it was when the server started."""

    path: Path
    stat: os.stat_result
    sha256: str


class Media:
    """The files of a study that raters see, kept in memory up to a limit: most requests read no file.

    Args:
        design: the study.
        folder: of the study.
        memory: bytes to keep. Files that were not asked for lately are dropped, and read again.

    Raises:
        ValueError: a file is missing or has changed. Votes before and after would be about different videos.
    """

    def __init__(self, design: StudyDesign, folder: Path, *, memory: int = MEMORY) -> None:
        self.files: dict[str, MediaFile] = {}
        self._memory, self._used = memory, 0
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        expected: dict[str, str | None] = {
            f"{name}{design.suffix}": clip.sha256 for name, clip in design.clips.items()
        }
        expected |= {prompt.image: None for prompt in design.prompts if prompt.image is not None}
        for name, digest in expected.items():
            path = folder / MEDIA_FOLDER / name
            if not path.is_file():
                raise ValueError(f"{path} is missing; restore it, or make a new study")
            data = path.read_bytes()
            found = hashlib.sha256(data).hexdigest()
            if digest not in (None, found):
                raise ValueError(f"{path} has changed since the study was made; restore it, or make a new study")
            self.files[name] = MediaFile(path=path, stat=path.stat(), sha256=found)
            if self._used + len(data) <= memory:
                self._keep(name, data)

    async def content(self, name: str) -> bytes | None:
        """Return the content of a file; None if it is too large for memory."""
        file = self.files[name]
        if file.stat.st_size > min(self._memory, _LARGEST_KEPT):
            return None
        data = self._kept.get(name)
        if data is None:
            data = await asyncio.to_thread(file.path.read_bytes)
            self._keep(name, data)
        self._kept.move_to_end(name)
        return data

    def _keep(self, name: str, data: bytes) -> None:
        self._used += len(data) - len(self._kept.get(name, b""))
        self._kept[name] = data
        while self._used > self._memory and len(self._kept) > 1:
            self._used -= len(self._kept.popitem(last=False)[1])

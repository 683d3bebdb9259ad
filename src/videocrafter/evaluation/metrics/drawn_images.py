"""SD-score: likeness of frames to pictures of the same prompt that an image model drew for the user."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from videocrafter.data.file_kinds import IMAGE_SUFFIXES
from videocrafter.evaluation.metrics.consistency import cosine
from videocrafter.evaluation.metrics.frame import Frame

DRAWN = "sd_images"
_NUMBERED = re.compile(r"(\d+)(?:[-_ ]\d+)?")


def find_drawn_images(folder: Path, prompts: Sequence[str]) -> dict[str, tuple[Path, ...]]:
    """Return the pictures of each prompt, sorted by name.

    Args:
        folder: pictures named by the number of the prompt, from 0: `0012-3.png`, `0012.png`, or `0012/3.png`.
        prompts: the prompts in the order of those numbers.

    Raises:
        ValueError: there are no such pictures.
        OSError: the folder cannot be read.
    """
    found: dict[str, list[Path]] = {}
    for path in sorted([*folder.iterdir(), *folder.glob("*/*")]):
        name = path.stem if path.parent == folder else path.parent.name
        match = _NUMBERED.fullmatch(name)
        if match and path.suffix.lower() in IMAGE_SUFFIXES and int(match[1]) < len(prompts):
            found.setdefault(prompts[int(match[1])], []).append(path)
    if not found:
        raise ValueError(f"{folder} contains no pictures named by prompt, expected files such as 0000-0.png")
    return {prompt: tuple(paths) for prompt, paths in found.items()}


def mean_cosine_with_drawn(embedder: str) -> Callable[[Frame], float]:
    """Return the mean cosine of a frame and the pictures of its prompt."""

    def of_frame(frame: Frame) -> float:
        pictures = frame.video.drawn_embeddings[embedder]
        return sum(cosine(frame.embeddings[embedder], picture) for picture in pictures) / len(pictures)

    return of_frame


Drawn = Mapping[str, tuple[Path, ...]]
"""Pictures by prompt."""

"""The share of stills whose subject the judge recognises: a quick test of a network that makes images.

Stills come from a folder of pictures, or from a text-to-video pipeline, one frame for each prompt. The prompts are
those of held-out combinations, with every subject equally often.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from videocrafter.data.sprite_world.balanced_stills import balanced_stills
from videocrafter.evaluation.exam import estimates
from videocrafter.evaluation.exam.questions import ExamWorld
from videocrafter.evaluation.uncertainty import Estimate
from videocrafter.media.image_file import read_image
from videocrafter.models.judge import VideoJudge, named_subjects

PICTURES = (".png", ".jpg", ".jpeg", ".webp")


@dataclass(frozen=True, kw_only=True)
class Still:
    """One still.

    Attributes:
        name: its file, or its prompt.
        subject: the expected subject.
        pixels: [H, W, 3].
    """

    name: str
    subject: str
    pixels: NDArray[np.uint8]


@dataclass(frozen=True, kw_only=True)
class StillsScore:
    """The share of recognised stills, and for each still its name, the expected and the recognised subject."""

    recognised: Estimate
    answers: Sequence[tuple[str, str, str]]


def score_stills(
    judge: VideoJudge, stills: Iterable[Still], on_progress: Callable[[int], None] | None = None
) -> StillsScore:
    """Let the judge name the subject of every still.

    Raises:
        ValueError: there are no stills.
    """
    device = next(judge.parameters()).device
    answers = []
    for number, still in enumerate(stills, 1):
        pixels: Tensor = torch.from_numpy(still.pixels).to(device).movedim(-1, 0)[None, None].float() / 127.5 - 1
        answers.append((still.name, still.subject, named_subjects(judge, pixels)[0]))
        if on_progress is not None:
            on_progress(number)
    if not answers:
        raise ValueError("there are no stills; pass at least one")
    recognised = estimates.shares([asked == seen for _, asked, seen in answers])
    return StillsScore(recognised=recognised, answers=answers)


def holds_pictures(folder: Path) -> bool:
    """Whether this is a folder with a picture in it."""
    return folder.is_dir() and any(path.suffix.lower() in PICTURES for path in folder.iterdir())


def read_stills(folder: Path, subjects: Sequence[str]) -> Iterable[Still]:
    """Return the pictures of a folder, one after another.

    The text file next to a picture, or else the name of the picture, must contain the word of one of the subjects.

    Raises:
        ValueError: the folder holds no picture, or a picture names no subject.
    """
    paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)
    if not paths:
        raise ValueError(f"{folder} contains no pictures ({', '.join(PICTURES)})")
    named = [(path, _subject_of(path, subjects)) for path in paths]
    return (Still(name=path.name, subject=subject, pixels=read_image(path)) for path, subject in named)


def _subject_of(path: Path, subjects: Sequence[str]) -> str:
    caption = path.with_suffix(".txt")
    text = caption.read_text(encoding="utf-8") if caption.is_file() else path.stem
    words = "".join(letter if letter.isalpha() else " " for letter in text.lower()).split()
    found = [word for word in words if word in subjects]
    if not found:
        raise ValueError(
            f"{caption if caption.is_file() else path} names no subject of the judge, such as {subjects[0]!r}; name "
            "the subject in the picture's file name, or in a text file next to it"
        )
    return found[0]


def generate_stills(
    pipeline: Any, world: ExamWorld, count: int, *, seed: int = 0, batch_size: int = 8, **settings: Any
) -> Iterable[Still]:
    """Generate one frame for each of `count` prompts of held-out combinations, in batches.

    Args:
        pipeline: a text-to-video pipeline.
        world: the world that the prompts describe.
        seed: determines prompts and pictures.
        settings: sampling settings that differ from the model's recommended ones.
    """
    size = pipeline.generation_defaults
    source = world.world(num_frames=size.num_frames, height=size.height, width=size.width, seed=seed)
    scripts = balanced_stills(source, count)
    for start in range(0, count, batch_size):
        some = scripts[start : start + batch_size]
        seeds = [seed * 1_000_000 + start + number for number in range(len(some))]
        captions = [script.caption for script in some]
        made = pipeline(captions, num_frames=1, seeds=seeds, output_type="uint8", **settings)
        for script, frames in zip(some, made.frames, strict=True):
            yield Still(name=script.caption, subject=script.subject, pixels=frames[0])

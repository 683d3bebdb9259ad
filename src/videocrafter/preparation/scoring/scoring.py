"""Score clips by networks, on a few frames each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import BinaryIO, Protocol

import numpy as np

from videocrafter.media.errors import UnusableMediaError
from videocrafter.media.framing import shrunk
from videocrafter.media.video_reader import open_reader
from videocrafter.preparation.config import ScoreConfig
from videocrafter.preparation.failures import UnitError
from videocrafter.preparation.scan.crop import Crop, cropped
from videocrafter.preparation.scoring.frame_networks import FrameNetwork, pins
from videocrafter.preparation.scoring.text_area import TextArea

VERSION = 2
"""Raised when the same settings give other results."""


class Scorer(Protocol):
    """One score of a few frames."""

    def score(self, frames: Sequence[np.ndarray]) -> float:
        """Return the score of frames, uint8 RGB `[H, W, 3]`; ValueError if that fails."""


def pinned(config: ScoreConfig) -> dict[str, tuple[str, str]]:
    """Return file and SHA-256 of the networks that the user supplies.

    Raises:
        ValueError: there are none where there should be.
    """
    return {} if config.weights is None else pins(Path(config.weights))


def check(config: ScoreConfig) -> None:
    """Load every network once.

    Raises:
        ValueError: one is missing or not the pinned one; one line that says what to do.
    """
    _loaded(config)


@lru_cache(maxsize=1)
def load_scorers(config: ScoreConfig) -> dict[str, Scorer]:
    """Return the scorers by the name of their score, loaded once per process, which then uses one core.

    Raises:
        UnitError: one of them cannot be loaded.
    """
    try:
        scorers = _loaded(config)
    except (ValueError, OSError) as error:
        raise UnitError("score_failed", str(error)) from error
    if config.weights is not None:
        import torch

        # The order of a sum depends on the number of threads, and so would the scores.
        torch.set_num_threads(1)
    return scorers


def _loaded(config: ScoreConfig) -> dict[str, Scorer]:
    found: dict[str, Scorer] = {"text": TextArea()} if config.text else {}
    for name, (file, sha256) in pinned(config).items():
        found[name] = FrameNetwork(Path(config.weights or "") / file, sha256)
    return found


def score_clips(
    source: Path | BinaryIO, name: str, clips: Sequence[tuple[str, float, float, Crop]], config: ScoreConfig
) -> Iterator[tuple[str, dict[str, float] | UnitError]]:
    """Yield the scores of clips of one video, or why there are none.

    Args:
        clips: id, start and end in seconds, and top, bottom, left and right of the picture without bars.
    """
    scorers = load_scorers(config)
    for clip, start_s, end_s, crop in clips:
        times_s = start_s + (np.arange(config.frames) + 0.5) / config.frames * (end_s - start_s)
        if not isinstance(source, Path):
            source.seek(0)
        try:
            # Damage ends a reader. With one for all clips, their scores would depend on the clips before them.
            with open_reader(source, name) as reader:
                pictures = reader.frames_at(times_s.tolist(), partial(shrunk, long_side=config.long_side))
        except UnusableMediaError as error:
            yield clip, UnitError.of(error)
            continue
        frames = [np.ascontiguousarray(cropped(picture, crop)) for picture in pictures]
        try:
            yield clip, {score: scorer.score(frames) for score, scorer in scorers.items()}
        except ValueError as error:
            yield clip, UnitError("score_failed", f"{name}: {error}")

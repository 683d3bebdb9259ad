from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.unit.media.clips import moving_disc
from videocrafter.evaluation.protocols.protocol import Protocol
from videocrafter.media.video_file import write_video

MakeVideos = Callable[..., Path]

WEIGHTLESS = Protocol(
    name="weightless",
    version=1,
    description="metrics without weights",
    metrics=("sharpness", "brightness", "dis_flow", "dis_amplitude", "flicker", "clip_score"),
)


@pytest.fixture
def make_videos(tmp_path: Path) -> MakeVideos:
    """A folder with `count` videos: two seeds for each prompt, all different."""

    def make(name: str = "videos", count: int = 4, num_frames: int = 4) -> Path:
        for index in range(count):
            frames = moving_disc(num_frames, 32, 48).copy()
            frames[..., 1] += index
            metadata = {"prompt": f"prompt {index // 2}", "seed": index % 2}
            write_video(tmp_path / name / f"{index}.mp4", frames, 8, metadata)
        return tmp_path / name

    return make

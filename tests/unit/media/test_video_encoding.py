"""The same frames give the same bytes, whatever the process did before and wherever it runs."""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from videocrafter.media.video_encoding import CODECS, encode_gif, encode_png, encode_video

# (height, width): sizes for which x264's fast code by itself gives different bytes within a few tries.
FICKLE = [(50, 6), (90, 6), (100, 8), (144, 2), (144, 6)]


def noise(num_frames: int, height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * 1000 + width).integers(0, 255, (num_frames, height, width, 3), np.uint8)


def stir_memory(seed: int) -> list[np.ndarray]:
    """Fragment memory as a long-lived process does: allocate pieces of many sizes and free every other one."""
    rng = np.random.default_rng(seed)
    pieces = [np.full(size, rng.integers(1, 255), np.uint8) for size in rng.integers(16, 130_000, 400)]
    return pieces[1::2]


@pytest.mark.parametrize(
    ("height", "width", "suffix", "codec"),
    [
        *((height, width, ".mp4", "h264") for height, width in FICKLE),
        (90, 33, ".webm", "vp9"),
        (50, 66, ".webm", "av1"),
        (50, 66, ".mp4", "av1"),
    ],
)
def test_a_video_is_the_same_every_time(height: int, width: int, suffix: str, codec: str) -> None:
    frames, found = noise(5, height, width), set()
    for seed in range(8):
        held = stir_memory(seed)
        found.add(encode_video(frames, 8, "a comment", suffix=suffix, codec=codec))
        del held
    assert len(found) == 1


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot restrict processors")
@pytest.mark.parametrize(("suffix", "codec"), [(".mp4", "h264"), (".webm", "vp9"), (".webm", "av1")])
def test_a_video_does_not_depend_on_the_number_of_processors(suffix: str, codec: str) -> None:
    frames, processors = noise(3, 256, 64), os.sched_getaffinity(0)
    whole = encode_video(frames, 8, suffix=suffix, codec=codec)
    try:
        os.sched_setaffinity(0, {min(processors)})
        assert encode_video(frames, 8, suffix=suffix, codec=codec) == whole
    finally:
        os.sched_setaffinity(0, processors)


def test_options_reach_the_encoder() -> None:
    frames = noise(3, 64, 64)
    fine, coarse = (encode_video(frames, 8, options={"crf": crf}) for crf in ("5", "45"))
    assert len(coarse) < len(fine) / 2


def test_gifs_and_pngs_are_the_same_every_time() -> None:
    frames, gifs, pngs = noise(4, 50, 18), set(), set()
    for seed in range(4):
        held = stir_memory(seed)
        gifs.add(encode_gif(frames, 8, b"a comment"))
        pngs.add(encode_png(frames[0], {"Comment": "a comment"}))
        del held
    assert (len(gifs), len(pngs)) == (1, 1)


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="this system tells no thread's priority")
@pytest.mark.parametrize(("suffix", "codec"), [(suffix, codec) for suffix in CODECS for codec in CODECS[suffix]])
def test_no_thread_gets_ahead_of_the_whole_machine(suffix: str, codec: str) -> None:
    before = os.sched_getscheduler(0)
    seen: set[int] = set()

    def frames() -> Iterator[np.ndarray]:
        for _ in range(3):
            yield np.zeros((64, 64, 3), np.uint8)
            seen.update(os.sched_getscheduler(int(thread.name)) for thread in Path("/proc/self/task").iterdir())

    encode_video(frames(), 8.0, suffix=suffix, codec=codec)
    assert os.sched_getscheduler(0) == before
    assert not seen & {os.SCHED_FIFO, os.SCHED_RR}


@pytest.mark.parametrize("fps", [8.0, 7.3, 0.5])
def test_a_gif_of_an_iterator_is_the_same_and_takes_one_frame_at_a_time(fps: float) -> None:
    frames, taken = noise(4, 20, 18), []

    def one_by_one() -> Iterator[np.ndarray]:
        for frame in frames:
            taken.append(weakref.ref(copy := frame.copy()))
            yield copy
            del copy
            assert sum(one() is not None for one in taken) <= 1

    assert encode_gif(one_by_one(), fps, b"a comment", num_frames=4) == encode_gif(frames, fps, b"a comment")

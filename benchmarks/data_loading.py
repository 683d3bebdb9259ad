"""Compare the loader with bare decoding of the same frames in the same number of processes.

    python -m benchmarks.data_loading

Bare decoding opens a file with PyAV, seeks, decodes the frames and converts them to RGB at full size. The loader also
resizes, crops, transfers and collates, and returns batches of floats. Bare decoding uses the frames that the loader
chooses, in the same order, because the decoding work varies more between samples than between the two methods.
"""

from __future__ import annotations

import argparse
import multiprocessing
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from benchmarks.report import Report, add_report_arguments, available_cores, machine, positive, publish
from benchmarks.turns import COLUMNS, Readings, compare, take_turns

if TYPE_CHECKING:
    from multiprocessing.pool import Pool

    from videocrafter.data.loader_config import LoaderConfig

Moments: TypeAlias = tuple[str, tuple[float, ...]]
"""A file, and times in seconds."""

FPS = 25
# A keyframe every two seconds, as is common in stock footage.
KEYFRAME_EVERY = 50
BATCH = 4
# After this warm-up all workers are busy, and the amount of work in flight is about constant.
BATCHES_BEFORE = 8


@dataclass(frozen=True, kw_only=True)
class Clips:
    """Clips on disk and their sampling."""

    folder: Path
    paths: list[Path]
    num_frames: int
    size: int


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.data_loading", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clips", type=positive, default=24, help="number of clips (%(default)s)")
    parser.add_argument("--samples", type=positive, default=96, help="samples per turn (%(default)s)")
    parser.add_argument("--seconds", type=positive, default=8, help="length of a clip in seconds (%(default)s)")
    parser.add_argument("--height", type=positive, default=336, help="height of the 16:9 clips (%(default)s)")
    parser.add_argument("--size", type=positive, default=256, help="side of the samples in pixels (%(default)s)")
    parser.add_argument("--workers", type=positive, default=available_cores(), help="default: as many as cores")
    add_report_arguments(parser, repeats=5)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    where = machine()
    if given.smoke:
        given.clips, given.samples, given.seconds, given.height, given.size, given.workers = 2, 8, 2, 48, 32, 1
    with tempfile.TemporaryDirectory() as folder:
        clips = make_clips(Path(folder), given)
        with multiprocessing.get_context("spawn").Pool(given.workers) as pool:
            bare = partial(bare_frames_per_second, pool, list(moments(clips, given)))
            bare()
            loader = partial(loader_frames_per_second, clips, given)
            turns = take_turns({"bare PyAV": bare, "loader": loader, "bare PyAV again": bare}, given.repeats)
    publish(
        Report(
            name="data_loading",
            title="The loader against bare decoding",
            machine=where,
            settings={
                "clips": f"{given.clips} of {given.height * 16 // 9}x{given.height}, {given.seconds} s at {FPS} fps",
                "samples per turn": f"{given.samples} of 16 frames, {given.size}x{given.size}",
                "workers": given.workers,
                "rounds": given.repeats,
            },
            columns=COLUMNS,
            rows=compare(turns, "bare PyAV"),
            notes=["ratios are to bare decoding; the loader should reach 0.9"],
            turns=turns,
        ),
        given,
    )


def make_clips(folder: Path, given: argparse.Namespace) -> Clips:
    """Moving gradients with some noise, coded as H.264."""
    import av
    import numpy as np

    height, width = given.height // 2 * 2, given.height * 16 // 9 // 2 * 2
    y, x = np.mgrid[0:height, 0:width]
    noise = np.random.default_rng(0).integers(0, 40, (height, width, 3))
    num_frames = given.seconds * FPS
    paths = []
    for number in range(given.clips):
        path = folder / f"{number:03d}.mp4"
        path.with_suffix(".txt").write_text("a moving gradient", encoding="utf-8")
        with av.open(str(path), "w") as container:
            stream = container.add_stream(
                "libx264", rate=FPS, options={"g": str(KEYFRAME_EVERY), "preset": "veryfast"}
            )
            stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
            for index in range(num_frames):
                picture = np.stack([x + 3 * index, y + 2 * index + 9 * number, x + y - index], axis=-1) % 200 + noise
                frame = av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        paths.append(path)
    return Clips(folder=folder, paths=paths, num_frames=num_frames, size=given.size)


def loader_config(clips: Clips, given: argparse.Namespace) -> LoaderConfig:
    """Return a loader config as in training."""
    from videocrafter.data.cutting import CuttingConfig
    from videocrafter.data.loader_config import LoaderConfig

    return LoaderConfig(
        sources=(f"folder:{clips.folder}",),
        batch_size=BATCH,
        cutting=CuttingConfig(height=clips.size, width=clips.size),
        num_workers=given.workers,
    )


def loader_frames_per_second(clips: Clips, given: argparse.Namespace) -> Readings:
    """Take batches as fast as possible. The loader lives for one turn, so that it does not work during others."""
    from videocrafter.data.loader import VideoLoader

    with VideoLoader(loader_config(clips, given)) as loader:
        for _ in range(BATCHES_BEFORE):
            next(loader)
        start = time.perf_counter()
        batches = [next(loader) for _ in range(_num_batches(given))]
        seconds = time.perf_counter() - start
    return {"frames/s": sum(len(batch) * batch.num_frames for batch in batches) / seconds}


def bare_frames_per_second(pool: Pool, work: Sequence[Moments]) -> Readings:
    """Decode the frames of all samples that the loader is timed with."""
    start = time.perf_counter()
    frames = sum(pool.imap_unordered(decode_bare, work))
    return {"frames/s": frames / (time.perf_counter() - start)}


def moments(clips: Clips, given: argparse.Namespace) -> Iterator[Moments]:
    """Yield the clips and times that the loader is timed with, from the loader's own order and seeds."""
    from videocrafter.data.clip_sampling import choose_times
    from videocrafter.data.loader import VideoLoader
    from videocrafter.data.media_clip import MediaClip
    from videocrafter.data.shuffling import seed_from

    @dataclass
    class Length:
        fps: float
        num_frames: int

    config = loader_config(clips, given)
    order = VideoLoader(config)._order("video")
    position = order.start()
    for number in range(BATCH * (BATCHES_BEFORE + _num_batches(given))):
        found = order.next(position)
        assert found is not None
        draw, position = found
        if number < BATCH * BATCHES_BEFORE:
            continue
        clip = order.clip(draw)
        assert isinstance(clip, MediaClip)
        rng = random.Random(seed_from(config.seed, "cut", draw.source, draw.epoch, draw.shard, draw.item))
        chosen = choose_times(Length(float(FPS), clips.num_frames), config.cutting.sampling, rng)  # type: ignore[arg-type]
        yield clip.media.url, chosen.times_s


def _num_batches(given: argparse.Namespace) -> int:
    """Number of batches that the loader is timed with."""
    return max(1, given.samples // BATCH)


def decode_bare(work: Moments) -> int:
    """Decode the frames shown at some times with PyAV alone; return their number."""
    import av

    path, times_s = work
    wanted = list(times_s)
    found = []
    with av.open(path) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        assert stream.time_base is not None
        container.seek(int(wanted[0] / stream.time_base), stream=stream)
        last = None
        for frame in container.decode(stream):
            while wanted and frame.time > wanted[0] and last is not None:
                found.append(last.to_ndarray(format="rgb24"))
                wanted.pop(0)
            if not wanted:
                break
            last = frame
        while wanted and last is not None:
            found.append(last.to_ndarray(format="rgb24"))
            wanted.pop(0)
    return len(found)


if __name__ == "__main__":
    main()

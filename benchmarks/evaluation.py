"""Measure the overhead of `videocrafter evaluate` beyond its metrics, and test that it resumes after being killed.

    python -m benchmarks.evaluation
    python -m benchmarks.evaluation --videos 1000 --fewer 100 --kills 5

Two folders of small videos are evaluated by the protocol `standard` in fresh processes; the smaller one once more,
killed repeatedly (SIGKILL) and started again. Reported are the share of the CPU time that goes into decoding and
metrics, the growth of the peak memory with the number of videos, whether finished videos were measured again, and
whether both reports of the smaller folder are identical. Exit status 1 if one of them misses its target.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.report import Report, add_output_arguments, machine, positive, publish

ROOT = Path(__file__).parents[1]
LEAST_SHARE = 0.9
MOST_GROWTH = 1.05
"""Target of the ratio of peak memories: the larger folder to the smaller one."""
_REPORT_FILES = ("report.json", "report.html", "measurements.jsonl")
_SIDE = 64


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.evaluation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--videos", type=positive, default=1000, help="videos in the folder (%(default)s)")
    parser.add_argument("--fewer", type=positive, default=100, help="videos of the smaller folder (%(default)s)")
    parser.add_argument("--frames", type=positive, default=8, help="frames of each video (%(default)s)")
    parser.add_argument("--kills", type=int, default=5, help="number of kills (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the videos and the kills (%(default)s)")
    parser.add_argument("--smoke", action="store_true", help="a few videos and one kill")
    parser.add_argument("--child", nargs=2, type=Path, metavar=("VIDEOS", "OUTPUT"), help=argparse.SUPPRESS)
    add_output_arguments(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.child:
        print(json.dumps(evaluate(*given.child)))
        return
    if given.smoke:
        given.videos, given.fewer, given.frames, given.kills = 6, 2, 3, 1
    described = machine()
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary)
        few, many = root / "few", root / "many"
        make_videos(many, given.videos, given.frames, given.seed)
        make_videos(few, given.fewer, given.frames, given.seed)
        readings = {name: run(folder, root / f"{folder.name}-out") for name, folder in (("few", few), ("many", many))}
        faults = kill_repeatedly(few, root / "killed-out", given.kills, given.seed)
        faults += differing(root / "few-out", root / "killed-out")
    seconds, peaks = readings["many"]["seconds"], [readings[name]["peak"] for name in ("few", "many")]
    total = sum(seconds.values())
    share = (seconds["decode"] + seconds["networks"] + seconds["metrics"]) / total
    growth = peaks[1] / peaks[0]
    publish(
        Report(
            name="evaluation",
            title=f"Evaluation of {given.videos} videos",
            settings={
                "frames": given.frames,
                "pixels": f"{_SIDE} x {_SIDE}",
                "kills": given.kills,
                "seed": given.seed,
            },
            columns=("part", "CPU seconds", "share"),
            rows=[(name, value, value / total) for name, value in seconds.items()],
            machine=described,
            notes=[
                f"decoding, networks and metrics: {share:.3f} of the CPU time, target {LEAST_SHARE}",
                f"peak memory: {peaks[0]:.0f} MiB with {given.fewer} videos, {peaks[1]:.0f} MiB with {given.videos}, "
                f"ratio {growth:.3f}, target {MOST_GROWTH}",
                f"{given.kills} kills: {len(faults)} faults",
                *faults,
            ],
        ),
        given,
    )
    if faults or ((share < LEAST_SHARE or growth > MOST_GROWTH) and not given.smoke):
        sys.exit(1)


def make_videos(folder: Path, count: int, frames: int, seed: int) -> None:
    """Write videos of a moving texture, two seeds for each prompt."""
    from videocrafter.media.video_file import write_video

    rng = np.random.default_rng(seed)
    texture = rng.integers(0, 256, (8, 8, 3), np.uint8).repeat(16, axis=0).repeat(16, axis=1)
    for number in range(count):
        shift = rng.integers(0, 128, 2)
        steps = rng.integers(-3, 4, 2)
        clip = [np.roll(texture, tuple(shift + index * steps), (0, 1))[:_SIDE, :_SIDE] for index in range(frames)]
        metadata = {"prompt": f"texture {number // 2} that moves", "seed": number % 2}
        write_video(folder / f"{number:05d}.mp4", np.stack(clip), 8, metadata)


def evaluate(videos: Path, output: Path) -> dict[str, Any]:
    """Evaluate a folder in this process; return the CPU seconds of each part, and the peak memory in MiB."""
    import torch

    from videocrafter.evaluation import measuring
    from videocrafter.evaluation.evaluation_run import evaluate_videos
    from videocrafter.evaluation.metrics.networks import Networks
    from videocrafter.evaluation.protocols.standard import STANDARD
    from videocrafter.evaluation.report_files import write_report_files
    from videocrafter.evaluation.video_set import read_video_set

    torch.set_num_threads(1)
    clock = _Clock()
    measurer = measuring.Measurer(STANDARD, Networks())
    measurer._embed([np.zeros((_SIDE, _SIDE, 3), np.uint8)])  # loading the network is not part of the measurement
    measuring._opened = clock.decoding(measuring._opened)
    measuring.Measurer._embed = clock.timed("networks", measuring.Measurer._embed)
    measuring.Measurer.measure = clock.timed("metrics", measuring.Measurer.measure)
    start = time.process_time()
    found = clock.timed("list the folder", read_video_set)(videos)
    outcome = clock.timed("results and scores", evaluate_videos)(found, measurer, output)
    clock.timed("report", write_report_files)(output, outcome.report, outcome.videos)
    clock.seconds["other"] = time.process_time() - start - sum(clock.seconds.values())
    return {"seconds": clock.seconds, "peak": _peak_mib()}


class _Clock:
    """CPU seconds of nested parts; the time of an inner part does not count for the outer one."""

    def __init__(self) -> None:
        names = ("decode", "networks", "metrics", "list the folder", "results and scores", "report")
        self.seconds = dict.fromkeys(names, 0.0)
        self._inner = [0.0]

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            with self._part(name):
                return function(*args, **kwargs)

        return wrapper

    def decoding(self, opened: Callable[..., Any]) -> Callable[..., Any]:
        """Time the opening of a video and every frame that its reader returns."""

        def frames(found: Iterator[NDArray[np.uint8]]) -> Iterator[NDArray[np.uint8]]:
            while True:
                with self._part("decode"):
                    frame = next(found, None)
                if frame is None:
                    return
                yield frame

        @contextmanager
        def wrapper(*args: Any) -> Iterator[Any]:
            from dataclasses import replace

            manager = opened(*args)
            with self._part("decode"):
                video = manager.__enter__()
            try:
                yield replace(video, frames=frames(video.frames))
            finally:
                with self._part("decode"):
                    manager.__exit__(None, None, None)

        return wrapper

    @contextmanager
    def _part(self, name: str) -> Iterator[None]:
        self._inner.append(0.0)
        start = time.process_time()
        try:
            yield
        finally:
            spent = time.process_time() - start
            self.seconds[name] += spent - self._inner.pop()
            self._inner[-1] += spent


def _peak_mib() -> float:
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def start(videos: Path, output: Path) -> subprocess.Popen[bytes]:
    """Start an evaluation in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.evaluation", "--child", str(videos), str(output)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, env=os.environ)


def run(videos: Path, output: Path) -> Mapping[str, Any]:
    """Evaluate a folder in a fresh process; return what `evaluate` returns."""
    print(f"evaluating {videos.name}", file=sys.stderr)
    process = start(videos, output)
    printed, _ = process.communicate()
    if process.returncode:
        sys.exit(f"benchmarks.evaluation: error: the evaluation ended with status {process.returncode}")
    found: dict[str, Any] = json.loads(printed)
    return found


def kill_repeatedly(videos: Path, output: Path, kills: int, seed: int) -> list[str]:
    """Kill an evaluation at random places, finish it, and return the results that were measured again."""
    rng, count = random.Random(seed), len(list(videos.glob("*.mp4")))
    places = sorted(rng.sample(range(1, count), kills))
    faults: list[str] = []
    before: dict[Path, int] = {}
    for place in places:
        print(f"killing at {place} of {count} videos", file=sys.stderr)
        process = start(videos, output)
        while len(_finished(output)) < place and process.poll() is None:
            time.sleep(0.1)
        time.sleep(rng.uniform(0, 0.2))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        faults += _changed(before, output)
        before = _finished(output)
    run(videos, output)
    return faults + _changed(before, output)


def _finished(output: Path) -> dict[Path, int]:
    """Return the result files that carry their final names, with the times of their last change."""
    return {path: path.stat().st_mtime_ns for path in (output / "results").glob("*.json")}


def _changed(before: Mapping[Path, int], output: Path) -> list[str]:
    after = _finished(output)
    return [f"{path.name} was measured again" for path, when in before.items() if after.get(path) != when]


def differing(one: Path, other: Path) -> list[str]:
    """Return the files of a report that differ between two runs."""
    return [
        f"{name} differs between two runs"
        for name in _REPORT_FILES
        if (one / name).read_bytes() != (other / name).read_bytes()
    ]


if __name__ == "__main__":
    main()

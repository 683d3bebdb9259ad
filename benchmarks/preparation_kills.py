"""Kill a preparation with SIGKILL many times, continue it, and compare every byte with an undisturbed run.

    python -m benchmarks.preparation_kills
    python -m benchmarks.preparation_kills --kills 50 --engine ray --seed 1

Every stage but caption takes part; a small network scores the clips. Every other kill ends the supervising process
only, so that its children finish what they were doing. A run that is finished is compared, and a new one begins until
all kills have happened. Exit status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.truth_films import FPS, Shot, shot_frames
from videocrafter.media.video_encoding import encode_video

_SETTINGS = (
    "sources.min_side=32",
    "select.floors.min_bits_per_pixel=0",
    "shard.max_clips=3",
    "clip.preset=ultrafast",
)
_CHANGING = ("report.html", "work/runs.jsonl")
"""Files that hold times."""


def make_films(folder: Path, count: int) -> None:
    """Write short films of two shots with captions."""
    folder.mkdir(parents=True)
    for number in range(count):
        frames = [frame for part in range(2) for frame in shot_frames(Shot(seed=10 * number + part), 60, 90, 160)]
        (folder / f"{number}.mp4").write_bytes(encode_video(frames, FPS, options={"preset": "ultrafast"}))
        (folder / f"{number}.txt").write_text(f"shapes of film {number} move")


class Brightness(torch.nn.Module):
    """A network whose score depends on every pixel."""

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Return the mean of each frame."""
        return frames.mean(dim=(1, 2, 3))


def make_weights(folder: Path) -> None:
    """Write a network, and pin it."""
    folder.mkdir()
    network = folder / "brightness.pt"
    torch.jit.script(Brightness()).save(str(network))
    pin = {"file": network.name, "sha256": hashlib.sha256(network.read_bytes()).hexdigest()}
    (folder / "weights.json").write_text(json.dumps({"aesthetics": pin}))


def contents(out: Path) -> dict[str, bytes]:
    """Every file that must not depend on interruptions."""
    files = {path.relative_to(out).as_posix(): path for path in out.rglob("*") if path.is_file()}
    return {name: path.read_bytes() for name, path in sorted(files.items()) if name not in _CHANGING}


def start(films: Path, out: Path, engine: str) -> subprocess.Popen[bytes]:
    """Start the command in a process group of its own."""
    weights = f"score.weights={films.parent / 'weights'}"
    settings = [word for setting in (*_SETTINGS, weights) for word in ("--set", setting)]
    command = [sys.executable, "-m", "videocrafter", "prepare", str(films), str(out), "--engine", engine, *settings]
    return subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def finish(films: Path, out: Path, engine: str) -> float:
    """Run the command to its end and return its seconds."""
    started = time.monotonic()
    process = start(films, out, engine)
    if process.wait() != 0:
        raise SystemExit(f"the command failed with status {process.returncode}")
    return time.monotonic() - started


def kill_many(folder: Path, kills: int, engine: str, seed: int, films: int) -> tuple[int, list[str]]:
    """Return the number of finished runs, and the names of files that differ from the undisturbed run."""
    draw = random.Random(seed)
    make_films(folder / "films", films)
    make_weights(folder / "weights")
    seconds = finish(folder / "films", folder / "undisturbed", engine)
    expected = contents(folder / "undisturbed")
    finished, different = 0, []
    out = folder / "killed"
    killed = 0
    while killed < kills:
        process = start(folder / "films", out, engine)
        try:
            process.wait(draw.uniform(0.1, 1.0) * seconds)
        except subprocess.TimeoutExpired:
            killed += 1
            if killed % 2:
                os.killpg(process.pid, signal.SIGKILL)
            else:
                process.kill()
            process.wait()
            continue
        finished += 1
        different += _differences(expected, contents(out))
        shutil.rmtree(out)
    finish(folder / "films", out, engine)
    return finished + 1, different + _differences(expected, contents(out))


def _differences(expected: dict[str, bytes], found: dict[str, bytes]) -> list[str]:
    return [name for name in {**expected, **found} if expected.get(name) != found.get(name)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--engine", choices=("local", "ray"), default="local")
    parser.add_argument("--films", type=int, default=6)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        finished, different = kill_many(
            Path(folder), arguments.kills, arguments.engine, arguments.seed, arguments.films
        )
    print(f"{arguments.kills} kills, {finished} finished runs, {len(different)} files differ {different[:5]}")
    raise SystemExit(bool(different))


if __name__ == "__main__":
    main()

"""Processor time and memory of `videocrafter prepare` next to data-juicer on the same films.

    python -m benchmarks.truth_films films --films 2 --shots 20
    python -m benchmarks.preparation_peer films --peer-python PEER/bin/python

The peer needs an environment of its own; without one, this prints the commands that make it. Both programs run in
turns as processes of their own, with one worker. data-juicer runs the operators that correspond to the default
recipe: exact copies, size, aspect, scenes, length, optical flow. Where its defaults would cost more than the settings
of our recipe, it gets those of ours: the size of the pictures for optical flow, no sound. The encoder and its
settings are the same.

Our recipe encodes the chosen pieces only, and data-juicer every scene. "every piece" is our command with a recipe
that drops nothing, so that both encode about as much.

The start of a program is its processor time for a tiny film of two scenes. It weighs less with more films, so one of
the ratios leaves it out. Processor times include every process that a program starts, also those that end after it.
Peak memory is the largest sum over these processes (Linux), where pages that several of them share count once.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from statistics import median
from threading import Event, Thread

import pyarrow.parquet as pq

from benchmarks.report import Report, add_report_arguments, machine, publish
from benchmarks.truth_films import FPS, Shot, shot_frames
from videocrafter.media.video_encoding import encode_video
from videocrafter.media.video_reader import open_reader
from videocrafter.preparation.config import PrepareConfig

_INSTALL = """\
    python3.11 -m venv PEER
    PEER/bin/pip install torch --index-url https://download.pytorch.org/whl/cpu
    PEER/bin/pip install py-data-juicer==1.6.1 aiohttp ray av==13.1.0 scenedetect-headless opencv-python-headless \\
        imageio-ffmpeg"""
_PEER_MODULES = ("data_juicer", "aiohttp", "ray", "av", "scenedetect", "cv2", "imageio_ffmpeg", "torch")
_PEER_PACKAGES = ("py-data-juicer", "scenedetect-headless", "opencv-python-headless", "av", "torch")
_LOOK = """
import json, sys
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
def version_of(package):
    try:
        return version(package)
    except PackageNotFoundError:
        return None
modules, packages = json.loads(sys.argv[1])
missing = [name for name in modules if find_spec(name) is None]
print(json.dumps([missing, {name: version_of(name) for name in packages}]))
"""

_CAPTION = "a film"
_MIN_SIDE = 32  # films of benchmarks.truth_films are smaller than the default
_OURS = (f"caption.text={_CAPTION}", f"sources.min_side={_MIN_SIDE}", "workers=1")
_KEEP_ALL = (
    "select.copy_distance=-1",
    *(f"select.shares.{name}=0" for name in ("least_motion", "little_motion", "most_shake", "most_blur")),
    *(f"select.floors.{name}=1" for name in ("max_frozen", "max_blank", "max_damaged", "min_frames")),
    *(f"select.floors.{name}=0" for name in ("min_luma", "min_bits_per_pixel", "min_picture")),
    *(f"select.floors.{name}=1000" for name in ("max_luma", "max_false_cuts_per_s")),
)
_VIDEO_ENDINGS = {".mp4", ".mkv", ".webm", ".mov", ".avi"}

_SAMPLE_S = 0.05
_PATIENCE_S = 10
_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True)
class Variant:
    """A program: its command for an output folder, and what it wrote there."""

    name: str
    command: Callable[[Path], Sequence[str]]
    written: Callable[[Path], Sequence[float]]


@dataclass(frozen=True)
class Cost:
    """Processor time and peak memory of a run. `rss_bytes` counts a shared page in every process that has it."""

    cpu_s: float
    peak_bytes: int
    rss_bytes: int


class MemorySampler:
    """Peak memory of all processes of a session."""

    def __init__(self, session: int) -> None:
        self.peak_bytes = self.rss_bytes = 0
        self._session, self._done = session, Event()
        self._thread = Thread(target=self._watch, daemon=True)

    def __enter__(self) -> MemorySampler:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(_SAMPLE_S):
            sizes = [memory_of(pid) for pid in processes_of(self._session)]
            self.peak_bytes = max(self.peak_bytes, sum(once for once, _ in sizes))
            self.rss_bytes = max(self.rss_bytes, sum(each for _, each in sizes))


def processes_of(session: int) -> list[int]:
    """Return the processes of a session."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                fields = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            if int(fields[3]) == session:
                found.append(int(folder.name))
    return found


def memory_of(pid: int) -> tuple[int, int]:
    """Return a process's share of its resident pages, and all of them, in bytes; zeros if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0, 0
    sizes = {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith(" kB")}
    return sizes.get("Pss", 0), sizes.get("Rss", 0)


def adopt_orphans() -> None:
    """Become the parent of processes whose parent ends first, so that their times are counted (Linux)."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl failed; this benchmark needs Linux")


def run(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Cost:
    """Run a program to the end of all its processes."""
    before = getrusage(RUSAGE_CHILDREN)
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=file, stderr=file, start_new_session=True
        )
        with MemorySampler(process.pid) as sampler:
            try:
                process.wait()
            except KeyboardInterrupt:
                os.killpg(process.pid, signal.SIGKILL)
                raise
            _wait_for_orphans(process.pid)
    if process.returncode:
        text = log.read_text(encoding="utf-8", errors="replace")
        raise SystemExit(f"{text[-3000:]}\nstatus {process.returncode}: {' '.join(command)}")
    after = getrusage(RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(cpu_s, sampler.peak_bytes, sampler.rss_bytes)


def _wait_for_orphans(group: int) -> None:
    """Wait for processes of a group that outlive the one that started them, and end those that stay."""
    end = time.monotonic() + _PATIENCE_S
    try:
        while True:
            if os.waitpid(-group, os.WNOHANG)[0] == 0:
                if time.monotonic() > end:
                    os.killpg(group, signal.SIGKILL)
                    os.waitpid(-group, 0)
                time.sleep(_SAMPLE_S)
    except (ChildProcessError, ProcessLookupError):
        return


def peer_versions(python: Path) -> dict[str, str | None]:
    """Return the versions of the peer's packages; end with what to install if modules are missing."""
    # The modules are looked for but not imported: data-juicer installs what is missing by itself, in any version.
    command = [str(python), "-c", _LOOK, json.dumps([_PEER_MODULES, _PEER_PACKAGES])]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise SystemExit(f"{python} cannot be run ({error}). The peer's environment:\n{_INSTALL}") from None
    missing, versions = json.loads(answer)
    if missing:
        raise SystemExit(f"{python} has no {', '.join(missing)}. The peer's environment:\n{_INSTALL}")
    return dict(versions)


def recipe(films: Sequence[Path], folder: Path) -> Path:
    """Write the peer's list of films and its recipe, and return the recipe; JSON is YAML as well."""
    ours = PrepareConfig()
    listed = [{"text": f"<__dj__video> {_CAPTION}", "videos": [str(film)]} for film in films]
    (folder / "films.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed), encoding="utf-8")
    encoder = f"-c:v libx264 -preset {ours.clip.preset} -crf {ours.clip.crf} -an"
    scenes = {"detector": "AdaptiveDetector", "threshold": ours.scan.cut_ratio, "min_scene_len": 15}
    settings = {
        "project_name": "films",
        "dataset_path": str(folder / "films.jsonl"),
        "export_path": str(folder / "out" / "films.jsonl"),
        "np": 1,
        "auto_op_parallelism": False,
        "open_monitor": False,
        "use_cache": False,
        "skip_op_error": False,
        "process": [
            {"video_deduplicator": {}},
            {"video_resolution_filter": {"min_width": _MIN_SIDE, "min_height": _MIN_SIDE}},
            {"video_aspect_ratio_filter": {"min_ratio": "1/3", "max_ratio": "3/1"}},
            {
                "video_split_by_scene_mapper": {
                    **scenes,
                    "save_dir": str(folder / "clips"),
                    "ffmpeg_extra_args": encoder,
                }
            },
            {"video_duration_filter": {"min_duration": ours.scan.min_clip_s, "video_backend": "av"}},
            {"video_motion_score_filter": {"sampling_fps": 2, "max_size": ours.scan.long_side}},
        ],
    }
    path = folder / "recipe.yaml"
    path.write_text(json.dumps(settings, indent=1), encoding="utf-8")
    return path


def peer_clips(folder: Path) -> list[float]:
    """Lengths of the clips that the peer kept, in seconds; a film of one scene is its own clip."""
    lines = (folder / "out" / "films.jsonl").read_text(encoding="utf-8").splitlines()
    return [seconds_of(Path(path)) for line in lines for path in json.loads(line)["videos"]]


def our_clips(folder: Path) -> list[float]:
    """Lengths of the clips in our shards, in seconds."""
    rows = pq.read_table(folder / "out" / "manifest.parquet", columns=["seconds", "shard"]).to_pylist()
    return [row["seconds"] for row in rows if row["shard"]]


def seconds_of(path: Path) -> float:
    """Length of a video."""
    with open_reader(path) as reader:
        return reader.duration_s


def variants(films: Sequence[Path], peer_python: Path) -> list[Variant]:
    """Return the peer first, then our default recipe, then the one that drops nothing."""

    def peer(folder: Path) -> list[str]:
        program = peer_python.with_name("dj-process")
        return [str(peer_python), str(program), "--config", str(recipe(films, folder))]

    def ours(*more: str) -> Callable[[Path], Sequence[str]]:
        settings = [word for setting in (*_OURS, *more) for word in ("--set", setting)]
        prepare = [sys.executable, "-m", "videocrafter", "prepare", *map(str, films)]
        return lambda folder: [*prepare, str(folder / "out"), *settings]

    return [
        Variant("data-juicer", peer, peer_clips),
        Variant("videocrafter", ours(), our_clips),
        Variant("videocrafter, every piece", ours(*_KEEP_ALL), our_clips),
    ]


def tiny_film(folder: Path) -> Path:
    """Write a film whose preparation costs little more than the start of the programs."""
    frames = [frame for seed in range(2) for frame in shot_frames(Shot(seed=seed), 60, 96, 128)]
    (folder / "tiny.mp4").write_bytes(encode_video(frames, FPS, options={"preset": "ultrafast"}))
    return folder / "tiny.mp4"


def reading(variant: Variant) -> dict[str, float]:
    """Run a program once in a new folder."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Nothing is looked up on a hub, and no result of an earlier run is found.
        environment = {"HF_HUB_OFFLINE": "1", "HF_HOME": name, "DATA_JUICER_CACHE_HOME": name}
        cost = run(variant.command(folder), environment, folder / "log")
        written = variant.written(folder)
    if not written:
        raise SystemExit(f"{variant.name} wrote no clips")
    values = {
        "CPU s": cost.cpu_s,
        "peak MiB": cost.peak_bytes / 2**20,
        "sum of resident sets MiB": cost.rss_bytes / 2**20,
        "clips": len(written),
        "clip s": sum(written),
    }
    print(variant.name, values, file=sys.stderr)  # what is known stays known if a later round fails
    return values


def in_turns(several: Sequence[Variant], repeats: int) -> dict[str, list[dict[str, float]]]:
    """Return the readings of each variant; the order turns around in every other round."""
    turns: dict[str, list[dict[str, float]]] = {variant.name: [] for variant in several}
    for number in range(repeats):
        for variant in several if number % 2 == 0 else reversed(several):
            turns[variant.name].append(reading(variant))
    return turns


def rows_of(
    turns: Mapping[str, Sequence[Mapping[str, float]]], starts: Mapping[str, float], film_s: float
) -> list[tuple[object, ...]]:
    """Return the table: medians, and ratios to the first variant."""
    table: list[tuple[object, ...]] = []
    first: tuple[float, float, float] | None = None
    for name, readings in turns.items():
        cpu_s, peak, rss, clips, clip_s = (
            median(turn[key] for turn in readings)
            for key in ("CPU s", "peak MiB", "sum of resident sets MiB", "clips", "clip s")
        )
        work_s = cpu_s - starts[name]
        first = first or (cpu_s, work_s, peak)
        speed = (film_s / cpu_s, first[0] / cpu_s, first[1] / work_s if min(first[1], work_s) > 0 else None)
        table.append((name, int(clips), clip_s, cpu_s, starts[name], *speed, peak, peak / first[2], rss))
    return table


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.preparation_peer",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("films", type=Path, help="folder of films, such as that of benchmarks.truth_films")
    parser.add_argument("--peer-python", type=Path, required=True, help="Python of an environment with data-juicer")
    add_report_arguments(parser, repeats=3)
    given = parser.parse_args(argv)
    # Not resolved: the link is what makes it the Python of its environment.
    peer_python = given.peer_python.expanduser().absolute()
    films = sorted(path for path in given.films.resolve().iterdir() if path.suffix in _VIDEO_ENDINGS)
    if not films:
        raise SystemExit(f"{given.films} contains no videos")
    if given.smoke:
        films, given.repeats = [min(films, key=lambda film: film.stat().st_size)], 1
    versions = peer_versions(peer_python)
    where, film_s = machine(), sum(map(seconds_of, films))
    adopt_orphans()
    with tempfile.TemporaryDirectory() as folder:
        tiny = variants([tiny_film(Path(folder))], peer_python)
        starts = {variant.name: reading(variant)["CPU s"] for variant in tiny}
    turns = in_turns(variants(films, peer_python), given.repeats)
    report = Report(
        name="preparation_peer",
        title="Preparation next to data-juicer",
        settings={"films": len(films), "film seconds": film_s, "repeats": given.repeats, **versions},
        columns=(
            "program",
            "clips",
            "seconds of clips",
            "CPU seconds",
            "start",
            "source hours per core hour",
            "× data-juicer's",
            "the same without start",
            "peak MiB",
            "× data-juicer's peak",
            "peak MiB, sum of resident sets",
        ),
        rows=rows_of(turns, starts, film_s),
        machine=where,
        notes=("Targets: at least 3 times data-juicer's source hours per core hour, at most half its peak memory.",),
        turns=turns,
    )
    publish(report, given)


if __name__ == "__main__":
    main()

"""Kill a training run with SIGKILL many times, resume it, and compare it bit by bit with an undisturbed run.

    python -m benchmarks.kills
    python -m benchmarks.kills --kills 200 --seed 1

It runs `videocrafter train smoke` with more and shorter steps, once undisturbed. Then it starts the same command,
kills it at a random moment and starts it again, until all kills have happened and the run is finished. A run that
finishes earlier is compared, and a new one begins. Kills cover the whole life of the process. Some wait for short
and rare phases: every sixth hits the publication of a stage, every sixth the writing of a checkpoint, and the last
the publication of the final folder. Exit status 1 if anything differs.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.report import Report, add_output_arguments, machine, positive, publish

PHASES = (
    "start-up",
    "stepping",
    "validation and samples",
    "saving",
    "publishing a stage",
    "change of stage",
    "publishing the final folder",
    "the end",
)
"""Phases that a kill can hit; "the end" is everything after the final folder is published."""

_RECIPE = "smoke"
# Short steps, so that everything happens often; intervals without small common multiples, so that events between
# steps occur in all orders.
_SETTINGS = (
    "stages.*.precision=fp32",
    "stages.*.task.world.height=32",
    "stages.*.task.world.width=32",
    "stages.*.task.batch_size=4",
    "stages.*.task.image_batch_size=8",
    "stages.*.task.num_clips=16",
    "stages.*.task.num_images=16",
    "stages.*.task.sampling_steps=1",
    "stages.*.log_every=1",
    "stages.*.checkpoint_every=2",
    "stages.*.validate_every=11",
    "stages.*.sample_every=7",
    "stages.*.checkpoint_seconds=0",
    "stages.*.keep_best=loss",
)
STAGE, CHECKPOINT, FINAL = "stages/.*.part", "checkpoints/.*.part", ".*.part"
"""Patterns of what exists only while it is written."""

# The parts of a run's folder that are compared.
_FOLDERS, _FILES = ("final", "stages", "samples"), ("config.json", "choices.json")
_PARTS = (*_FOLDERS, *_FILES, "checkpoints", "log.jsonl")
# Kills whose number modulo _AIMED_EVERY is a key wait for a pattern, and come within some seconds of it.
_AIMED_EVERY = 6
_AIMS = {0: (STAGE, 1.0), 3: (CHECKPOINT, 0.2)}
_SECONDS_OF_FINAL = 0.05
_TICK_S = 0.02
"""File times come from a clock that is behind by up to a tick of the kernel."""
_BEGUN, _PUBLISHED = "parameters trainable,", "Stage {} finished:"
# Share of the undisturbed run's work that should be done by the last kill; the rest runs without kills.
_SHARE_UNDER_FIRE = 0.8
_PATIENCE_S = 3600.0


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.kills", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=positive, default=50, help="number of kills (%(default)s)")
    parser.add_argument("--steps", type=positive, default=48, help="optimizer steps of each stage (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="seed for the moments of the kills (%(default)s)")
    parser.add_argument(
        "--folder", type=Path, help="folder for the runs, kept afterwards; default: a temporary folder"
    )
    parser.add_argument("--smoke", action="store_true", help="two kills of a shorter run")
    add_output_arguments(parser)
    return parser.parse_args(argv)


@dataclass(kw_only=True)
class Tally:
    """Counts and findings of the killed runs.

    Attributes:
        phases: number of kills in each phase.
        redone: steps that were logged but not yet in a checkpoint, and so were trained again.
        differences: differences from the undisturbed run.
    """

    phases: Counter[str] = field(default_factory=Counter)
    starts: int = 0
    runs: int = 0
    redone: int = 0
    differences: list[str] = field(default_factory=list)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    where = machine()
    # The training processes have their own group, so end them when this process is terminated.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    if given.smoke:
        given.kills, given.steps = 2, 4
    started = time.monotonic()
    with _work_folder(given.folder) as folder:
        whole = Training(folder / "run", given.steps)
        start_up_s, work_s = train_undisturbed(whole)
        whole.move("undisturbed")
        tally = train_under_fire(folder, whole, given, start_up_s, longest_work(given.kills, start_up_s, work_s))
        if tally.differences:
            kept = given.folder or Path(tempfile.mkdtemp(prefix="kills-"))
            print(f"the runs are kept in {kept}", file=sys.stderr)
            if given.folder is None:
                shutil.copytree(folder, kept, dirs_exist_ok=True)
        report = _report(given, tally, where, whole, time.monotonic() - started)
    publish(report, given)
    if tally.differences:
        sys.exit(1)


def _report(
    given: argparse.Namespace, tally: Tally, where: dict[str, object], whole: Training, seconds: float
) -> Report:
    rows: list[tuple[object, ...]] = [("kills", tally.phases.total())]
    rows += [(f"… in {phase}", tally.phases[phase]) for phase in PHASES]
    rows += [("starts of the same command", tally.starts), ("finished runs", tally.runs)]
    rows += [("steps trained again", tally.redone), ("equal", "NO" if tally.differences else "yes")]
    weights = len(list(whole.folder.glob("final/**/*.safetensors")))
    notes = [
        f"compared: all files of final (including {weights} weight files), stages and samples, all checkpoints "
        "(states value by value), the configuration, and the log without its timing"
    ]
    missed = [phase for phase in PHASES if not tally.phases[phase]]
    if missed:
        notes.append(f"no kill hit: {', '.join(missed)}")
    if tally.differences:
        notes += [f"DIFFERENT: {difference}" for difference in tally.differences[:20]]
    return Report(
        name="kills",
        title="Killed and started again",
        machine=where,
        settings={
            "recipe": _RECIPE,
            "steps": f"{len(whole.stages)} x {given.steps}",
            "seed": given.seed,
            "minutes": seconds / 60,
        },
        columns=("what", "number"),
        rows=rows,
        notes=notes,
    )


class Training:
    """A run's folder, and the command that trains into it.

    Args:
        folder: the run's folder; the output of its processes is written to a file next to it.
        steps: optimizer steps of each stage.
    """

    def __init__(self, folder: Path, steps: int) -> None:
        from videocrafter.training.recipes.by_name import RECIPES

        self.folder = folder
        self.stages = [stage.name for stage in RECIPES[_RECIPE]().stages]
        self._printed, self._started = folder.with_name(f"{folder.name}.txt"), time.time()
        settings = [*_SETTINGS, f"stages.*.num_steps={steps}"]
        self._command = [sys.executable, "-m", "videocrafter.cli.main", "train", _RECIPE, "--output", str(folder)]
        self._command += [word for setting in settings for word in ("--set", setting)]

    def start(self) -> subprocess.Popen[bytes]:
        """Start or resume the run in a process group of its own; its output replaces that of the previous process."""
        import videocrafter

        source = str(Path(videocrafter.__file__).parents[1])
        paths = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
        # The order of sums changes their last bits, so all processes use the same number of threads.
        environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
        self._started = time.time()
        with self._printed.open("wb") as printed:
            return subprocess.Popen(
                self._command, env=environment, stdout=printed, stderr=printed, start_new_session=True
            )

    def move(self, name: str) -> None:
        """Rename the finished run. All runs train in the same folder, because files contain its path."""
        self.folder = self.folder.rename(self.folder.with_name(name))

    @property
    def printed(self) -> str:
        """Output of the latest process."""
        return self._printed.read_text(encoding="utf-8", errors="replace")

    def is_writing(self, pattern: str) -> bool:
        """Whether the latest process is writing a match of the pattern, or was when it was killed."""
        with suppress(FileNotFoundError):
            if any(
                path.is_dir() and path.stat().st_mtime > self._started - _TICK_S for path in self.folder.glob(pattern)
            ):
                # Before its first step, a process deletes leftovers of others, which also changes their times.
                return pattern == FINAL or self.has_begun()
        return False

    def has_begun(self) -> bool:
        """Whether the latest process has reached its first step."""
        return _BEGUN in self.printed

    def log(self) -> list[dict[str, Any]]:
        """Entries of the log's complete lines."""
        entries = []
        with suppress(FileNotFoundError), (self.folder / "log.jsonl").open(encoding="utf-8") as file:
            for line in file:
                with suppress(ValueError):
                    entries.append(json.loads(line))
        return entries

    def has_half_lines(self) -> bool:
        """Whether the log contains incomplete lines, which `log` skips."""
        path = self.folder / "log.jsonl"
        return path.exists() and len(path.read_bytes().splitlines()) != len(self.log())

    def saved_step(self, stage: str) -> int:
        """Step of the newest checkpoint of a stage; 0 if there is none."""
        return max((int(path.name[-8:]) for path in self.checkpoints(stage)), default=0)

    def checkpoints(self, stage: str) -> list[Path]:
        """Complete checkpoints of a stage."""
        found = (self.folder / "checkpoints").glob(f"{stage}-step-*")
        return sorted(path for path in found if (path / "training_state" / "manifest.json").exists())


def longest_work(kills: int, start_up_s: float, work_s: float) -> float:
    """Return the latest moment of a kill, in seconds w after start-up, so that work is left until the last kill.

    Moments are uniform from 0 to start-up + w. A process then trains for w² / 2(start-up + w) seconds on average, and
    all of them together for the intended share of the work.
    """
    mean = _SHARE_UNDER_FIRE * work_s / kills
    return mean + math.sqrt(mean * mean + 2 * mean * start_up_s)


def train_undisturbed(whole: Training) -> tuple[float, float]:
    """Train without kills; return the seconds of start-up and of everything after it."""
    print("training undisturbed", file=sys.stderr)
    process, begun, started = whole.start(), None, time.monotonic()
    with _ended_with_us(process):
        while process.poll() is None:
            if begun is None and whole.has_begun():
                begun = time.monotonic()
            time.sleep(0.02)
    if process.returncode or begun is None:
        sys.exit(f"the undisturbed training failed:\n{whole.printed}")
    return begun - started, time.monotonic() - begun


def train_under_fire(
    folder: Path, whole: Training, given: argparse.Namespace, start_up_s: float, work_s: float
) -> Tally:
    """Train, kill at random moments and resume, until all kills have happened and the run is finished."""
    rng, tally = random.Random(given.seed), Tally()
    training = None
    while training is not None or tally.phases.total() < given.kills:
        if training is None:
            tally.runs += 1
            training = Training(folder / "run", given.steps)
        moment = _moment(rng, tally.phases.total() + 1, given.kills, start_up_s + work_s)
        tally.starts += 1
        started, process = time.monotonic(), training.start()
        with _ended_with_us(process):
            killed = _killed_at(process, training, moment)
        if killed and moment.kills:
            phase = find_phase(training)
            tally.phases[phase] += 1
            tally.redone += lost_steps(training)
            lived = time.monotonic() - started
            print(f"kill {tally.phases.total()} of {given.kills} after {lived:.1f} s: {phase}", file=sys.stderr)
        elif process.returncode == 0:
            training.move(f"killed-{tally.runs}")
            tally.differences += [f"{training.folder.name}: {found}" for found in differences(whole, training)]
            training = None
        else:
            what = "did not end" if killed else f"ended with status {process.returncode}"
            last = " / ".join(training.printed.strip().splitlines()[-3:])
            tally.differences.append(f"{training.folder.name}: start {tally.starts} {what}: {last}")
            return tally
    return tally


@dataclass(frozen=True, kw_only=True)
class _Moment:
    """Moment of a kill, in seconds after the process starts or after it begins to write something.

    Attributes:
        writes: pattern to wait for, if any.
        kills: False to let the process finish; the seconds are then only a time limit.
    """

    seconds: float
    writes: str | None = None
    kills: bool = True


def _moment(rng: random.Random, number: int, kills: int, longest_s: float) -> _Moment:
    if number > kills:
        return _Moment(seconds=_PATIENCE_S, kills=False)
    if number == kills:
        return _Moment(seconds=rng.uniform(0, _SECONDS_OF_FINAL), writes=FINAL)
    if number % _AIMED_EVERY in _AIMS:
        writes, longest_s = _AIMS[number % _AIMED_EVERY]
        return _Moment(seconds=rng.uniform(0, longest_s), writes=writes)
    return _Moment(seconds=rng.uniform(0, longest_s))


def _killed_at(process: subprocess.Popen[bytes], training: Training, moment: _Moment) -> bool:
    """Wait for the moment and kill the process; return False if it ended by itself before."""
    deadline = time.monotonic() + _PATIENCE_S
    while moment.writes is not None and not training.is_writing(moment.writes):
        if process.poll() is not None or time.monotonic() > deadline:
            break
        time.sleep(0.005)
    try:
        process.wait(moment.seconds)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def find_phase(training: Training) -> str:
    """Return the phase in which the latest process was killed, from its output and its files."""
    folder, lines = training.folder, training.printed.splitlines()
    if training.is_writing(FINAL):
        return "publishing the final folder"
    if not training.has_begun():
        return "the end" if (folder / "final").is_dir() else "start-up"
    if training.is_writing(STAGE):
        return "publishing a stage"
    # Lines about a stage; warnings may follow the last one.
    stage_lines = [line for line in lines if _BEGUN in line or " finished:" in line]
    if " finished:" in stage_lines[-1]:
        if _PUBLISHED.format(training.stages[-1]) not in stage_lines[-1]:
            return "change of stage"
        return "the end" if (folder / "final").is_dir() else "publishing the final folder"
    if _is_saving(folder):
        return "saving"
    return "validation and samples" if _is_validating(folder, training.log()) else "stepping"


def _is_saving(folder: Path) -> bool:
    checkpoints = [path for path in (folder / "checkpoints").glob("*-step-*") if path.is_dir()]
    # A checkpoint without a manifest was being deleted, which is part of saving the next one.
    being_deleted = any(not (path / "training_state" / "manifest.json").exists() for path in checkpoints)
    return being_deleted or any((folder / "checkpoints").glob(".*.part"))


def _is_validating(folder: Path, log: Sequence[dict[str, Any]]) -> bool:
    if not log or log[-1]["kind"] == "precision":
        return False
    stage, step = log[-1]["stage"], log[-1]["step"]
    config = next(one for one in json.loads((folder / "config.json").read_text())["stages"] if one["name"] == stage)
    is_last = step == config["num_steps"]
    if log[-1]["kind"] == "train" and (is_last or step % config["validate_every"] == 0):
        return True
    sheets = folder / "samples" / f"{stage}-step-{step:08d}"
    return (is_last or step % config["sample_every"] == 0) and not (sheets / "samples.png").exists()


def lost_steps(training: Training) -> int:
    """Number of logged steps that the next process trains again."""
    log = training.log()
    if not log:
        return 0
    stage = log[-1]["stage"]
    if (training.folder / "stages" / stage).is_dir():
        return 0
    return max(0, int(log[-1]["step"]) - training.saved_step(stage))


def differences(whole: Training, killed: Training) -> list[str]:
    """Return the differences between two finished runs."""
    # Parts that are missing in both would count as equal.
    found = [f"{whole.folder.name}/{part} is missing" for part in _PARTS if not (whole.folder / part).exists()]
    for part in _FOLDERS:
        found += _different_files(whole.folder / part, killed.folder / part)
    for file in _FILES:
        found += _different_files(whole.folder / file, killed.folder / file)
    tops = [{name for name in _names(one.folder, depth=1) if not _is_leftover(name)} for one in (whole, killed)]
    found += [f"{name} exists in one run only" for name in sorted(tops[0] ^ tops[1]) if name not in _PARTS]
    names = [_names(one.folder / "checkpoints", depth=1) for one in (whole, killed)]
    found += [f"checkpoints/{name} exists in one run only" for name in sorted(names[0] ^ names[1])]
    found += _different_files(whole.folder, killed.folder, pattern="checkpoints/*-best.json")
    for name in sorted(names[0] & names[1]):
        if not name.endswith(".json"):
            found += _different_checkpoints(whole.folder / "checkpoints" / name, killed.folder / "checkpoints" / name)
    found += [f"{killed.folder.name}/{name} was left behind" for name in sorted(_leftovers(killed.folder))]
    if _untimed(whole.log()) != _untimed(killed.log()):
        found.append("log.jsonl differs")
    found += [
        f"{one.folder.name}/log.jsonl has an incomplete line" for one in (whole, killed) if one.has_half_lines()
    ]
    return found


def _names(folder: Path, depth: int | None = None) -> set[str]:
    paths = folder.glob("*") if depth == 1 else folder.rglob("*")
    return {path.relative_to(folder).as_posix() for path in paths}


def _leftovers(folder: Path) -> set[str]:
    return {name for name in _names(folder) if _is_leftover(name)}


def _is_leftover(name: str) -> bool:
    return name.endswith((".part", ".old"))


def _different_files(one: Path, other: Path, pattern: str | None = None) -> list[str]:
    if one.is_file():
        return [] if other.is_file() and one.read_bytes() == other.read_bytes() else [f"{one.name} differs"]
    here, there = (
        {
            path.relative_to(folder).as_posix(): path.read_bytes()
            for path in folder.glob(pattern or "**/*")
            if path.is_file()
        }
        for folder in (one, other)
    )
    where = "" if pattern else f"{one.name}/"
    return [f"{where}{name} differs" for name in sorted(here.keys() | there) if here.get(name) != there.get(name)]


def _different_checkpoints(one: Path, other: Path) -> list[str]:
    import torch

    from tests.same_state import assert_same

    found = [
        difference
        for difference in _different_files(one, other)
        # The state is compared below; the manifest contains its checksum.
        if "/training_state/" not in difference
    ]
    states = [torch.load(path / "training_state" / "state.pt", weights_only=True) for path in (one, other)]
    for state in states:
        del state["seconds"]
    try:
        assert_same(*states)
    except AssertionError as error:
        found.append(f"{one.name}, {error} differs")
    return found


def _untimed(log: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    from videocrafter.training.tracking.log_keys import TIMING_KEYS

    return [{key: value for key, value in entry.items() if key not in TIMING_KEYS} for entry in log]


@contextmanager
def _work_folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is None:
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder)
        return
    if wanted.exists() and any(wanted.iterdir()):
        sys.exit(f"benchmarks.kills: error: --folder {wanted} is not empty; choose another one")
    wanted.mkdir(parents=True, exist_ok=True)
    yield wanted


@contextmanager
def _ended_with_us(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Kill the process on exit, because its own process group does not receive Ctrl-C."""
    try:
        yield
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


if __name__ == "__main__":
    main()

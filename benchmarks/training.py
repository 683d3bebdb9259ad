"""Measure samples per second of the miniature's training step (stage "high" of `tiny-t2v`) in variants.

    python -m benchmarks.training
    python -m benchmarks.training --compile --processes
    python -m benchmarks.training --variants plain encode+contiguous+sdpa contiguous+sdpa sdpa bf16

The baseline is the recipe's step in fp32: channels_last, attention as the package chooses it (unfused on CPUs),
latents encoded beforehand. The words of a variant's name change this: bf16, contiguous, explicit, sdpa, encode
(render and encode every clip within the step), compile; "again" changes nothing and shows the noise. "plain" is a
plain loop around diffusers' network. All variants take turns in one process. `--processes` also compares whole
processes, again in turns: one with two threads, two with one thread each that share every step through gloo, and both
with settings that let glibc keep freed memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.report import Report, add_report_arguments, available_cores, machine, positive, publish
from benchmarks.turns import COLUMNS, Readings, compare, take_turns, torch_threads

if TYPE_CHECKING:
    from videocrafter.training.config import StageConfig

ROOT = Path(__file__).parents[1]
ONE_PROCESS = "one process, two threads"
TWO_PROCESSES = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
KEEP_MEMORY = {
    "MALLOC_TRIM_THRESHOLD_": str(2**30),
    "MALLOC_TOP_PAD_": str(2**26),
    "MALLOC_MMAP_THRESHOLD_": str(2**25),
}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.training", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--variants", nargs="+", metavar="WORDS", help="variants to measure, such as bf16+sdpa")
    parser.add_argument("--compile", action="store_true", help="also measure torch.compile, which takes minutes")
    parser.add_argument("--processes", action="store_true", help="also compare one process with two")
    parser.add_argument("--steps", type=positive, default=2, help="optimizer steps per turn (%(default)s)")
    parser.add_argument("--warm-up", type=positive, default=2, help="steps before the first turn (%(default)s)")
    parser.add_argument("--threads", type=positive, default=available_cores(), help="default: all (%(default)s)")
    parser.add_argument("--stage", default="high", help="stage of tiny-t2v (%(default)s)")
    parser.add_argument("--parts", help="model to take autoencoder and text encoder from; default: random weights")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    add_report_arguments(parser, repeats=7)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.worker:
        work(given)
        return
    where = machine()
    from benchmarks.training_step import BASELINE, measured_stage, save_random_parts

    with tempfile.TemporaryDirectory() as folder:
        silence()
        given.parts = given.parts or save_random_parts(Path(folder))
        stage = measured_stage(given.parts, smoke=given.smoke, name=given.stage)
        with torch_threads(given.threads):
            turns, waits = measure_variants(given, stage, Path(folder))
        rows = compare(turns, BASELINE)
        if given.processes:
            together = measure_processes(given)
            rows += compare(together, ONE_PROCESS)
            turns = {**turns, **together}
    settings = {
        "clips per pass": stage.task.batch_size,  # type: ignore[attr-defined]
        "passes per step": stage.optimizer.accumulate,
        "steps per turn": given.steps,
        "threads": given.threads,
        "rounds": given.repeats,
    }
    publish(
        Report(
            name="training",
            title=f"Training step of tiny-t2v, stage {given.stage}",
            machine=where,
            settings=settings,
            columns=COLUMNS,
            rows=rows,
            notes=[
                f"ratios are to {BASELINE!r}, of processes to {ONE_PROCESS!r}; higher is faster",
                "waits for batches: " + ", ".join(f"{name} {share:.2%}" for name, share in waits.items()),
            ],
            turns=turns,
        ),
        given,
    )


def measure_variants(
    given: argparse.Namespace, stage: StageConfig, folder: Path
) -> tuple[dict[str, list[Readings]], dict[str, float]]:
    """Samples per second of the baseline and every variant in turns, and the share of a step spent on batches."""
    from benchmarks.plain_loop import PlainLoop
    from benchmarks.training_step import BASELINE, PLAIN, TrainingStep, default_variants, variant
    from videocrafter.training.parallel.processes import Processes

    names = [BASELINE, *(given.variants or default_variants(with_compile=given.compile))]
    try:
        chosen = {name: variant(name) for name in names if name != PLAIN}
    except ValueError as error:
        sys.exit(f"benchmarks.training: error: {error}")
    steps = {name: TrainingStep(stage, one, folder, Processes("cpu")) for name, one in chosen.items()}
    plain = {PLAIN: PlainLoop(stage).run} if PLAIN in names else {}
    runs: dict[str, Callable[[int], Readings]] = {**{name: step.run for name, step in steps.items()}, **plain}
    for name, run in runs.items():
        print(f"warming up: {name}", file=sys.stderr)
        run(given.warm_up)
    turns = take_turns({name: partial(run, given.steps) for name, run in runs.items()}, given.repeats)
    return turns, {name: step.data_wait_share for name, step in steps.items()}


def measure_processes(given: argparse.Namespace) -> dict[str, list[Readings]]:
    """Samples per second of the baseline in separate processes, started in turns."""
    variants: dict[str, Callable[[], Readings]] = {
        ONE_PROCESS: partial(launch, given, [], threads=2, environment={}),
        "one process, two threads, keeps memory": partial(launch, given, [], threads=2, environment=KEEP_MEMORY),
        "two processes, one thread each": partial(launch, given, TWO_PROCESSES, threads=1, environment={}),
        "two processes, keep memory": partial(launch, given, TWO_PROCESSES, threads=1, environment=KEEP_MEMORY),
    }
    return take_turns(variants, given.repeats)


def launch(
    given: argparse.Namespace, launcher: Sequence[str], threads: int, environment: Mapping[str, str]
) -> Readings:
    """Run the worker in a new process, or in those that the launcher starts, and return the readings it prints."""
    import videocrafter

    source = str(Path(videocrafter.__file__).parents[1])
    paths = os.pathsep.join([source, str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    # More steps than in a turn, because starting a process is expensive.
    steps = given.steps if given.smoke else 5 * given.steps
    options = ["--worker", "--parts", str(given.parts), "--threads", str(threads), "--steps", str(steps)]
    options += ["--warm-up", str(given.warm_up), "--stage", given.stage] + (["--smoke"] if given.smoke else [])
    done = subprocess.run(
        [sys.executable, *launcher, "-m", "benchmarks.training", *options],
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads), **environment},
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        sys.exit(f"a measured process failed:\n{done.stderr}")
    readings: Readings = json.loads(done.stdout.splitlines()[-1])
    return readings


def work(given: argparse.Namespace) -> None:
    """Train the baseline in this process, alone or with others, and print the readings."""
    from benchmarks.training_step import BASELINE, TrainingStep, measured_stage, variant
    from videocrafter.training.parallel.processes import Processes

    silence()
    with tempfile.TemporaryDirectory() as folder, torch_threads(given.threads):
        processes = Processes("cpu")
        stage = measured_stage(given.parts, smoke=given.smoke, name=given.stage)
        step = TrainingStep(stage, variant(BASELINE), Path(folder), processes)
        step.run(given.warm_up)
        processes.wait()
        readings = step.run(given.steps)
    if processes.is_main:
        print(json.dumps(readings))


def silence() -> None:
    """Turn off the progress bars of other libraries."""
    from videocrafter.cli.quiet_libraries import silence_libraries

    silence_libraries()


if __name__ == "__main__":
    main()

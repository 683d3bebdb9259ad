"""Measure the time for one video: warm, by phase, and cold, as a fresh `videocrafter generate`.

    python -m benchmarks.generation
    python -m benchmarks.generation --image examples/ladybug.png
    python -m benchmarks.generation --model outputs/t2v/final --threads 1 2

Warm is a second call of a loaded pipeline with the model's default settings, for each number of threads in turn. Cold
is a new process from start to end, including the output file. Its import time is measured in a separate process,
because measuring takes time too. The libraries' files may be in the system's cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.report import Report, add_report_arguments, available_cores, machine, positive, publish
from benchmarks.turns import COLUMNS, Readings, compare, paired_ratio, take_turns, torch_threads

WARM_BUDGET_S, COLD_BUDGET_S, HELP_BUDGET_S = 1.0, 4.0, 0.25
WHOLE, TIMED, HELP = "cold: generate", "cold: generate, imports timed", "cold: --help"

# Times every outermost import, including imports on first use.
_TIMED_IMPORTS = """
import builtins, importlib, json, sys, time

clock = {"depth": 0, "seconds": 0.0}

def timed(load):
    def call(*arguments, **options):
        clock["depth"] += 1
        start = time.perf_counter()
        try:
            return load(*arguments, **options)
        finally:
            clock["depth"] -= 1
            if not clock["depth"]:
                clock["seconds"] += time.perf_counter() - start
    return call

builtins.__import__ = timed(builtins.__import__)
importlib.import_module = timed(importlib.import_module)
try:
    from videocrafter.cli.main import main
    main()
finally:
    print(json.dumps(clock["seconds"]), file=sys.stderr)
"""


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.generation", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = available_cores()
    parser.add_argument("--model", default="tiny-t2v-fast", help="a model's name or a pipeline folder (%(default)s)")
    parser.add_argument("--image", type=Path, help="input image; without one, text to video is measured")
    parser.add_argument("--prompt", default="a rocket flying up over a blue sky", help="(%(default)s)")
    parser.add_argument(
        "--threads",
        type=positive,
        nargs="+",
        default=sorted({1, cores}),
        help="numbers of threads to compare; default: 1 and all cores",
    )
    parser.add_argument(
        "--cold-repeats", type=int, default=5, help="new processes of each kind; 0 for none (%(default)s)"
    )
    add_report_arguments(parser, repeats=9)
    given = parser.parse_args(argv)
    from videocrafter.presets import resolve_model

    try:
        given.folder = resolve_model(given.model, "t2v" if given.image is None else "i2v")
    except ValueError as error:
        parser.error(str(error))
    return given


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    where = machine()
    settings, warm = measure_warm(given)
    baseline = next(iter(warm))
    rows, notes = compare(warm, baseline), [f"warm ratios are to {baseline!r}; lower is faster"]
    best = min(median([one["total, s"] for one in rounds]) for rounds in warm.values())
    notes.append(_against("a warm video", best, WARM_BUDGET_S))
    cold = measure_cold(given) if given.cold_repeats > 0 else {}
    if cold:
        rows += compare(cold, WHOLE)
        notes += cold_notes(cold)
    publish(
        Report(
            name="generation",
            title="One video",
            machine=where,
            settings=settings | {"warm rounds": given.repeats, "cold rounds": given.cold_repeats},
            columns=COLUMNS,
            rows=rows,
            notes=notes,
            turns=warm | cold,
        ),
        given,
    )


def measure_warm(given: argparse.Namespace) -> tuple[dict[str, object], dict[str, list[Readings]]]:
    """Return the model's default settings, and the seconds of each phase for each number of threads."""
    from videocrafter.cli.quiet_libraries import silence_libraries
    from videocrafter.media.image_file import read_image
    from videocrafter.pipelines.loading import load_pipeline

    silence_libraries()
    pipeline = load_pipeline(given.folder)
    pipeline.set_progress_bar_config(disable=True)
    inputs: dict[str, Any] = {"prompt": given.prompt, "seeds": 0}
    if given.image is not None:
        inputs["image"] = read_image(given.image)
    if given.smoke:
        inputs["num_inference_steps"] = 2

    def one_video(threads: int) -> Readings:
        with torch_threads(threads):
            start = time.perf_counter()
            output = pipeline(**inputs)
            total = time.perf_counter() - start
        return {"total, s": total} | {f"{phase}, s": seconds for phase, seconds in output.seconds.items()}

    variants = {f"warm, threads: {threads}": partial(one_video, threads) for threads in given.threads}
    for measure in variants.values():
        measure()
    defaults = pipeline.generation_defaults
    settings = {
        "model": given.model,
        "frames": defaults.num_frames,
        "size": f"{defaults.width}x{defaults.height}",
        "steps": inputs.get("num_inference_steps", defaults.num_inference_steps),
        "guidance": defaults.guidance_scale,
    }
    return settings, take_turns(variants, given.repeats)


def measure_cold(given: argparse.Namespace) -> dict[str, list[Readings]]:
    """Measure whole processes: the command, the command with its imports timed, and --help."""
    command = [sys.executable, "-m", "videocrafter.cli.main"]
    with tempfile.TemporaryDirectory() as folder:
        request = ["generate", given.prompt, "--model", str(given.folder), "--seed", "0", "--device", "cpu"]
        request += ["--overwrite", "--output", str(Path(folder) / "video.mp4")]
        request += [] if given.image is None else ["--image", str(given.image)]
        request += ["--steps", "2"] if given.smoke else []
        threads = max(given.threads)
        variants: dict[str, Callable[[], Readings]] = {
            WHOLE: lambda: process_seconds([*command, *request], threads),
            TIMED: lambda: process_seconds([sys.executable, "-c", _TIMED_IMPORTS, *request], threads, imports=True),
            HELP: lambda: process_seconds([*command, "--help"], threads),
        }
        return take_turns(variants, given.cold_repeats)


def process_seconds(command: Sequence[str], threads: int, *, imports: bool = False) -> Readings:
    """Return the wall-clock seconds of a process and, with `imports`, those on its last line of stderr."""
    import videocrafter

    source = str(Path(videocrafter.__file__).parents[1])
    paths = os.pathsep.join([source, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}
    start = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, encoding="utf-8", check=False)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{' '.join(command[-12:])} failed:\n{done.stderr}")
    readings = {"total, s": seconds}
    if imports:
        readings["imports, s"] = json.loads(done.stderr.splitlines()[-1])
    return readings


def cold_notes(cold: dict[str, list[Readings]]) -> list[str]:
    """Compare the cold times with their budgets, and state the share of the imports."""
    medians = {name: median([one["total, s"] for one in rounds]) for name, rounds in cold.items()}
    share = paired_ratio([one["imports, s"] for one in cold[TIMED]], [one["total, s"] for one in cold[TIMED]])
    return [
        f"cold ratios are to {WHOLE!r}; imports take {100 * share:.0f} % of it",
        _against("a cold video", medians[WHOLE], COLD_BUDGET_S),
        _against("--help", medians[HELP], HELP_BUDGET_S),
    ]


def _against(what: str, seconds: float, budget: float) -> str:
    return f"{what} takes {seconds:.2g} s; the budget is {budget:g} s"


if __name__ == "__main__":
    main()

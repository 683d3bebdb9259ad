"""How much faster the miniature trains than in a plain loop around diffusers' network, and what each trick gives.

    python -m benchmarks.training_baseline
    python -m benchmarks.training_baseline --stage settle --repeats 9

The plain loop has no tricks: fp32, plain layout, fused attention as diffusers chooses it, AdamW as torch makes it;
text encoder and autoencoder run in every pass. Then the package's own loop and network with as few tricks as
possible, and one more in each row: kept latents, channels_last, written-out attention, and bf16, which counts on if
it gains 5 % here. These take turns in one process. Whole processes follow, also in turns: the plain loop, the package
with all tricks so far, that with settings that let the C library keep its memory, and two of those with one thread
each.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from benchmarks.report import Report, add_report_arguments, available_cores, machine, positive, publish
from benchmarks.training import KEEP_MEMORY, TWO_PROCESSES, in_batches, launch, silence
from benchmarks.turns import COLUMNS, Readings, compare, paired_ratio, take_turns, torch_threads

PLAIN = "plain loop"
PLAIN_PROCESS = "plain loop, a process of its own"
LADDER: Mapping[str, str] = {
    "VideoUNet in the package's loop": "encode+contiguous+sdpa",
    "+ kept latents": "contiguous+sdpa",
    "+ channels_last": "sdpa",
    "+ attention written out": "baseline",
    "+ bf16": "bf16",
}
"""The variant of `training_step.py` in each row; each has one trick more than the row above."""

TARGET = 2.0
# As in training, where precision=auto decides.
_BF16_IS_WORTH = 1.05
_BEFORE_BF16, _BF16 = list(LADDER)[-2:]


def ladder() -> Mapping[str, str]:
    """The rows that make sense here: a CPU without instructions for bf16 would only show how slowly it emulates."""
    from videocrafter.training.parallel.precision import emulates_bf16

    return {name: words for name, words in LADDER.items() if name != _BF16 or not emulates_bf16()}


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.training_baseline", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stage", choices=("high", "settle"), default="high", help="of tiny-t2v (%(default)s)")
    parser.add_argument("--steps", type=positive, default=2, help="optimizer steps per turn (%(default)s)")
    parser.add_argument("--warm-up", type=positive, default=2, help="steps before the first turn (%(default)s)")
    parser.add_argument("--threads", type=positive, default=available_cores(), help="default: all (%(default)s)")
    parser.add_argument("--parts", help="model whose autoencoder and text encoder are used; default: random weights")
    parser.add_argument("--no-processes", action="store_true", help="leave out the whole processes, which take long")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    add_report_arguments(parser, repeats=5)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    given = arguments(argv)
    if given.worker:
        work(given)
        return
    where = machine()
    from benchmarks.training_step import measured_stage, save_random_parts

    with tempfile.TemporaryDirectory() as folder:
        silence()
        given.parts = given.parts or save_random_parts(Path(folder))
        with torch_threads(given.threads):
            turns, sizes, waits = measure_ladder(given, Path(folder))
        rows = compare(turns, PLAIN)
        gain = _ratio(turns, _BF16, _BEFORE_BF16) if _BF16 in turns else None
        last = best = _BF16 if gain is not None and gain >= _BF16_IS_WORTH else _BEFORE_BF16
        ratio = _ratio(turns, last, PLAIN)
        if not given.no_processes:
            together = measure_processes(given, LADDER[last])
            rows += compare(together, PLAIN_PROCESS)
            turns = {**turns, **together}
            ratio, best = max((_ratio(together, name, PLAIN_PROCESS), name) for name in together)
    stage = measured_stage(str(given.parts), smoke=given.smoke, name=given.stage)
    publish(
        Report(
            name="training_baseline",
            title=f"Training against a plain loop, tiny-t2v, stage {given.stage}",
            machine=where,
            settings={
                "clips per pass": stage.task.batch_size,  # type: ignore[attr-defined]
                "passes per step": stage.optimizer.accumulate,
                **sizes,
                "steps per turn": given.steps,
                "threads": given.threads,
                "rounds": given.repeats,
            },
            columns=COLUMNS,
            rows=rows,
            notes=[
                f"ratios are to {PLAIN!r}, of processes to {PLAIN_PROCESS!r}; higher is faster",
                _about_bf16(gain),
                f"the fastest, {best!r}: {ratio:.3g} times the plain loop; the target is {TARGET:g}",
                in_batches(waits),
            ],
            turns=turns,
        ),
        given,
    )


def _about_bf16(gain: float | None) -> str:
    if gain is None:
        return "bf16 is left out: this CPU has no instructions for it, and would emulate them"
    used = "" if gain >= _BF16_IS_WORTH else "not "
    return f"bf16 takes training to {gain:.3g} of fp32's speed, so it is {used}used in the processes"


def measure_ladder(
    given: argparse.Namespace, folder: Path
) -> tuple[dict[str, list[Readings]], dict[str, str], dict[str, float]]:
    """Samples per second of the plain loop and of each row of the ladder, in turns.

    Also the networks' sizes, and the share of a step that each row of the ladder spends on getting batches.
    """
    from benchmarks.plain_loop import PlainLoop, num_parameters
    from benchmarks.training_step import TrainingStep, measured_stage, variant
    from videocrafter.training.parallel.processes import Processes

    stage = measured_stage(given.parts, smoke=given.smoke, name=given.stage)
    steps = {name: TrainingStep(stage, variant(words), folder, Processes("cpu")) for name, words in ladder().items()}
    plain = PlainLoop(stage)
    variants: dict[str, Callable[[int], Readings]] = {
        PLAIN: plain.run,
        **{name: it.run for name, it in steps.items()},
    }
    for name, run in variants.items():
        print(f"warming up: {name}", file=sys.stderr)
        run(given.warm_up)
    turns = take_turns({name: partial(run, given.steps) for name, run in variants.items()}, given.repeats)
    ours = steps[_BEFORE_BF16].num_parameters
    sizes = {"parameters": f"{ours / 1e6:.2f} M against {num_parameters(plain.network) / 1e6:.2f} M"}
    return turns, sizes, {name: step.data_wait_share for name, step in steps.items()}


def measure_processes(given: argparse.Namespace, variant: str) -> dict[str, list[Readings]]:
    """Samples per second of whole processes, started in turns."""
    best = partial(launch, given, variant=variant)
    variants: dict[str, Callable[[], Readings]] = {
        PLAIN_PROCESS: partial(launch, given, [], given.threads, {}, script="training_baseline"),
        "all of these tricks, a process of its own": partial(best, [], given.threads, {}),
        "+ keeps memory": partial(best, [], given.threads, KEEP_MEMORY),
        "+ two processes, one thread each": partial(best, TWO_PROCESSES, 1, KEEP_MEMORY),
    }
    return take_turns(variants, given.repeats)


def work(given: argparse.Namespace) -> None:
    """Train the plain loop in this process and print what it reached."""
    from benchmarks.plain_loop import PlainLoop
    from benchmarks.training_step import measured_stage

    silence()
    with torch_threads(given.threads):
        loop = PlainLoop(measured_stage(given.parts, smoke=given.smoke, name=given.stage))
        loop.run(given.warm_up)
        print(json.dumps(loop.run(given.steps)))


def _ratio(turns: Mapping[str, Sequence[Readings]], name: str, baseline: str) -> float:
    return paired_ratio(*([one["samples/s"] for one in turns[which]] for which in (name, baseline)))


if __name__ == "__main__":
    main()

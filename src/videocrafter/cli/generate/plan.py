"""`videocrafter plan generate`: memory and time of a generation on a device, and the settings that fit."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from videocrafter.cli.errors import bad_input
from videocrafter.cli.generate.naming import naming_options
from videocrafter.cli.planned_device import parse_device, parse_flops

if TYPE_CHECKING:
    from videocrafter.generation.memory_plan import GenerationPlan, PlannedRun

_GIB = 2**30


def plan_generate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Model name, pipeline folder or checkpoint file.")],
    device: Annotated[
        str | None,
        typer.Option(help="Memory of the GPU, such as 8GB; without a GPU, cpu:16GB. Default: this computer's."),
    ] = None,
    num_frames: Annotated[int | None, typer.Option("--frames", help="Default: the model's.")] = None,
    height: Annotated[int | None, typer.Option(help="In pixels; default: the model's.")] = None,
    width: Annotated[int | None, typer.Option(help="In pixels; default: the model's.")] = None,
    num_inference_steps: Annotated[int | None, typer.Option("--steps", help="Default: the model's.")] = None,
    guidance_scale: Annotated[float | None, typer.Option("--guidance", help="Default: the model's.")] = None,
    batch_size: Annotated[int, typer.Option(help="Videos generated at once.")] = 1,
    dtype: Annotated[
        str | None, typer.Option(help="Precision. Default: bfloat16 on a GPU, float32 on a CPU.")
    ] = None,
    flops: Annotated[
        str | None,
        typer.Option(
            help="Peak FLOP/s, from the data sheet, such as 165T. Default: 312T (an A100) for a GPU, 0.25T for a CPU."
        ),
    ] = None,
    utilisation: Annotated[float, typer.Option(help="Share of the peak FLOP/s that is achieved.")] = 0.4,
    json_: Annotated[bool, typer.Option("--json", metavar="", help="Print JSON, with memory in bytes.")] = False,
) -> None:
    """Compute the memory and time of one generation, and the settings that fit. Nothing is loaded or downloaded."""
    with bad_input(), naming_options():
        if not 0 < utilisation <= 1:
            raise ValueError(f"--utilisation is {utilisation:g}; give a share above 0, at most 1")
        reserved = _reserved()
        machine = parse_device(device, 1, reserved)
        name = dtype or ("bfloat16" if machine.kind == "gpu" else "float32")
        sampling = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}
        size = {"num_frames": num_frames, "height": height, "width": width, "batch_size": batch_size}
        peak = None if flops is None else parse_flops(flops)
        run = _planned(model, size, sampling, machine.kind, name, peak, utilisation)
        usable = machine.memory - reserved[machine.kind]
    if json_:
        typer.echo(_as_json(run, usable))
    else:
        _show(run, model, name, machine.memory, usable)
        # A batch of several videos needs as many from the one prompt of the command.
        batch = {"num_videos": batch_size, "batch_size": batch_size} if batch_size > 1 else {}
        _advise(run, _command(model, name), {**size, "batch_size": None, **sampling, **batch}, usable)


def _planned(
    model: str,
    size: Mapping[str, Any],
    sampling: Mapping[str, Any],
    kind: Any,
    dtype: str,
    peak: float | None,
    utilisation: float,
) -> PlannedRun:
    from videocrafter.cli.quiet_libraries import silence_libraries

    silence_libraries()
    from videocrafter.generation.hardware import choose_dtype
    from videocrafter.generation.low_memory import USUAL_PEAK, planned_run, size_of_model
    from videocrafter.generation.request import GenerateOptions, PromptRow, check_options

    given = {name: value for name, value in sampling.items() if value is not None}
    rows = (PromptRow(prompt="a prompt"),) * size["batch_size"]
    options = GenerateOptions(output=Path("video.mp4"), rows=rows, sampling=given, **size)
    check_options(options)
    rate = (USUAL_PEAK[kind] if peak is None else peak) * utilisation
    return planned_run(options, size_of_model(model), kind, choose_dtype(dtype), rate)


def _reserved() -> Mapping[str, int]:
    from videocrafter.generation.memory_plan import RESERVED

    return RESERVED


def _as_json(run: PlannedRun, usable: int) -> str:
    from videocrafter.generation.memory_plan import worth_showing

    workload = asdict(run.workload)
    del workload["saving"]
    plans = [
        {
            "settings": asdict(plan.saving),
            "exact": plan.saving.is_exact,
            "bytes": plan.need.total,
            "seconds": plan.seconds,
            "fits": plan.need.total <= usable,
        }
        for plan in worth_showing(run.plans())
    ]
    flops = run.operations.total(branches_apart=False)
    return json.dumps({"workload": workload, "flops": flops, "usable": usable, "plans": plans}, indent=2)


def _show(run: PlannedRun, model: str, dtype: str, memory: int, usable: int) -> None:
    from rich.console import Console
    from rich.table import Table

    from videocrafter.generation.memory_plan import worth_showing

    console = Console(highlight=False)
    work, operations = run.workload, run.operations

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    where = (
        f"{'a GPU' if run.kind == 'gpu' else 'a CPU'} with {memory / _GIB:.1f} GiB, {usable / _GIB:.1f} GiB usable"
    )
    videos = f"{work.num_videos} x " if work.num_videos > 1 else ""
    say(f"{model} in {dtype}: {videos}{work.num_frames} frames of {work.width}x{work.height}, on {where}")
    total = operations.total(branches_apart=False)
    shown = f"{total / 1e12:,.0f}" if total > 1e13 else f"{total / 1e12:.2g}"
    say(f"{shown} TFLOP; times at {run.rate / 1e12:.3g} TFLOP/s, without loading the model")
    plans = worth_showing(run.plans())
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for heading in ("fits", "memory", "time", "saves memory by"):
        table.add_column(heading, justify="right" if heading in ("memory", "time") else "left")
    for plan in plans:
        fits = "yes" if plan.need.total <= usable else "no"
        table.add_row(fits, f"{plan.need.total / _GIB:.2f} GiB", _duration(plan.seconds), _ways(plan))
    console.print(table)


def _command(model: str, dtype: str) -> str:
    """Return the command without the settings of the workload."""
    from videocrafter.generation.low_memory import task_of_model

    image = " --image IMAGE" if task_of_model(model) == "i2v" else ""
    return f'videocrafter generate "PROMPT"{image} --output video.mp4 --model {shlex.quote(model)} --dtype {dtype}'


def _advise(run: PlannedRun, command: str, settings: Mapping[str, Any], usable: int) -> None:
    """Print the command of the fastest plan that fits, or of smaller sizes; `settings` are those that were given."""
    fastest = run.fastest(usable)
    if fastest is not None:
        saving = "" if fastest.saving.saves_nothing else " --low-memory"
        typer.echo(f"Fastest that fits: {command}{_as_options(settings)}{saving}")
        return
    fitting = [changes for changes, plan in run.smaller() if plan.need.total <= usable]
    typer.echo("Nothing fits at this size." if fitting else "Nothing fits, whatever the size; use a smaller model.")
    for changes in fitting[:3]:
        typer.echo(f"  {command}{_as_options({**settings, **changes})} --low-memory")


_OPTIONS: Mapping[str, str] = {
    "num_frames": "--frames",
    "height": "--height",
    "width": "--width",
    "num_inference_steps": "--steps",
    "guidance_scale": "--guidance",
    "num_videos": "--num-videos",
    "batch_size": "--batch-size",
}


def _as_options(settings: Mapping[str, Any]) -> str:
    return "".join(f" {_OPTIONS[name]} {value}" for name, value in settings.items() if value is not None)


def _ways(plan: GenerationPlan) -> str:
    return "nothing: all weights on the device" if plan.saving.saves_nothing else str(plan.saving)


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.2g} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"

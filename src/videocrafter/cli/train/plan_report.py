"""A run's plan as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from videocrafter.training.planning.plan import RunPlan, StagePlan, days

if TYPE_CHECKING:
    from videocrafter.training.planning.stage_memory import Moment
    from videocrafter.training.planning.suggestions import Advice, Outcome

_GIB = 2**30
_FEW = 3
# From data sheets: an A100 in bf16 and in float32; and one or two cores of a CPU.
_USUAL_PEAK = {("gpu", "bf16"): 312e12, ("gpu", "fp32"): 19.5e12, ("cpu", "bf16"): 2e11, ("cpu", "fp32"): 2e11}
_SHORT = {"optimizer step": "optimizer steps", "making samples": "samples", "saving a checkpoint": "saving"}
_PARTS = {
    "trained": "trained networks",
    "frozen": "frozen encoders",
    "gradients": "gradients",
    "optimizer": "optimizer state",
    "average": "EMA weights",
    "data": "cached data",
    "working": "activations, temporary",
}


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Operations per second.

    Attributes:
        peak: peak of each device by its data sheet; None assumes a typical device for the stage's precision.
        utilisation: share of the peak that training achieves.
    """

    peak: float | None
    utilisation: float

    def peak_for(self, plan: RunPlan, stage: StagePlan) -> float:
        """Peak of each device in a stage."""
        return _USUAL_PEAK[plan.machine.kind, stage.precision] if self.peak is None else self.peak

    def days(self, plan: RunPlan, stage: StagePlan) -> float:
        """Days for a stage."""
        return days(stage.flops, plan.machine, self.peak_for(plan, stage) * self.utilisation)


def as_json(plan: RunPlan, advice: Sequence[Advice], speed: Speed) -> str:
    """Return memory in bytes, operations, days and advice as JSON."""
    by_stage = {one.stage: one for one in advice}
    stages = [
        {
            **asdict(stage),
            "memory": {
                "peak": _moment(stage.memory.peak),
                "moments": [_moment(moment) for moment in stage.memory.moments],
                "main_memory": dict(stage.memory.main_memory),
            },
            "flops": stage.flops,
            "days": speed.days(plan, stage),
            "flops_per_s": speed.peak_for(plan, stage),
            "fits": plan.fits(stage),
            "advice": asdict(by_stage[stage.name]) if stage.name in by_stage else None,
        }
        for stage in plan.stages
    ]
    whole = {
        "recipe": plan.recipe,
        "start": plan.start,
        "start_is_assumed": plan.assumed,
        "device": {**asdict(plan.machine), "usable": plan.machine.usable},
        "utilisation": speed.utilisation,
        "stages": stages,
        "flops": plan.flops,
        "days": sum(speed.days(plan, stage) for stage in plan.stages),
    }
    return json.dumps(whole, indent=2)


def _moment(moment: Moment) -> dict[str, Any]:
    return {**asdict(moment), "total": moment.total}


def show(plan: RunPlan, advice: Sequence[Advice], speed: Speed) -> None:
    """Print the plan and the advice as tables."""
    console = Console(highlight=False)
    machine = plan.machine
    what = "GPU" if machine.kind == "gpu" else "process"
    console.print(
        f"{plan.recipe} on {machine.count} {what}{'' if machine.count == 1 else 's' if what == 'GPU' else 'es'} with "
        f"{size(machine.memory)}, of which {size(machine.usable)} are available for training",
        markup=False,
        soft_wrap=True,
    )
    if plan.start is not None:
        hint = " (assumed; choose another with --init)" if plan.assumed else ""
        console.print(f"start: {plan.start}{hint}", markup=False, soft_wrap=True)
    console.print(plan_table(plan, speed))
    console.print(_about_days(plan, speed), markup=False, soft_wrap=True)
    for one in advice:
        _show_advice(console, plan, one)


def plan_table(plan: RunPlan, speed: Speed) -> Table:
    """Return a table with a column for each stage."""
    stages = plan.stages
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0) if len(stages) <= _FEW else (0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for stage in stages:
        table.add_column(stage.name, justify="right", overflow="fold")
    rows: dict[str, list[str]] = {
        "trainable parameters": [count(stage.learning) for stage in stages],
        "frozen parameters": [count(stage.resting) for stage in stages],
        "frozen encoders": [count(stage.frozen) for stage in stages],
        "precision": [stage.precision + (", sharded" if stage.sharded else "") for stage in stages],
        "samples per step": [f"{stage.samples_per_step:g}" for stage in stages],
    }
    for name, cells in rows.items():
        table.add_row(name, *cells)
    table.add_section()
    table.add_row("peak memory during", *(stage.memory.peak.name for stage in stages))
    for part, words in _PARTS.items():
        sizes = [getattr(stage.memory.peak, part) for stage in stages]
        if any(sizes):
            table.add_row(f"  {words}", *(gib(one) for one in sizes))
    table.add_row("  total (GiB)", *(gib(stage.memory.peak.total) for stage in stages))
    table.add_row("fits", *("yes" if plan.fits(stage) else "NO" for stage in stages))
    for name in [key for key in _SHORT if _has(plan, key)]:
        table.add_row(f"GiB in {_SHORT[name]}", *(_at(stage, name) for stage in stages))
    if any(stage.memory.main_memory for stage in stages):
        waiting = [sum(stage.memory.main_memory.values()) for stage in stages]
        table.add_row("GiB of main memory", *(gib(one) for one in waiting))
    table.add_section()
    table.add_row("FLOPs per step", *(f"{stage.flops_per_step:.3g}" for stage in stages))
    table.add_row("steps", *(f"{stage.num_steps:,}" for stage in stages))
    table.add_row("FLOPs", *(f"{stage.flops:.3g}" for stage in stages))
    table.add_row("time", *(duration(speed.days(plan, stage)) for stage in stages))
    return table


def _has(plan: RunPlan, name: str) -> bool:
    return any(moment.name == name for stage in plan.stages for moment in stage.memory.moments)


def _at(stage: StagePlan, name: str) -> str:
    found = [moment.total for moment in stage.memory.moments if moment.name == name]
    return gib(found[0]) if found else "–"


def _about_days(plan: RunPlan, speed: Speed) -> str:
    peaks = sorted({speed.peak_for(plan, stage) for stage in plan.stages})
    total = sum(speed.days(plan, stage) for stage in plan.stages)
    shown = " and ".join(f"{peak / 1e12:g}" for peak in peaks)
    return (
        f"Total: {plan.flops:.3g} FLOPs, {duration(total)} at {speed.utilisation:.0%} of {shown} TFLOP/s per device, "
        "without data loading, validation and samples."
    )


def _show_advice(console: Console, plan: RunPlan, advice: Advice) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), title=f"{advice.stage}: single settings")
    table.title_justify = "left"
    table.add_column("setting", overflow="fold")
    for heading in ("peak", "FLOPs"):
        table.add_column(heading, justify="right")
    table.add_column("drawback")
    prefix = f"stages.{advice.stage}."
    for one in advice.alone:
        settings = "\n".join(setting.removeprefix(prefix) for setting in one.settings)
        table.add_row(settings, size(one.peak) + (" fits" if one.fits else ""), f"×{one.work:.2f}", one.costs)
    console.print()
    console.print(table)

    def say(text: str) -> None:
        console.print(text, markup=False, soft_wrap=True)

    if advice.together is not None:
        say(f"{advice.stage} fits, in {size(advice.together.peak)}{_main_memory(advice.together)}, with")
        say(f"  {_options(advice.together)}")
    else:
        say(f"{advice.stage}: no combination of these settings fits in {size(plan.machine.usable)}.")
    if advice.more_devices is not None:
        more = advice.more_devices
        say(f"It fits on {more.count} such devices, in {size(more.peak)} on each{_main_memory(more)}, with")
        say(f"  --gpus {more.count} {_options(more)}")
    if advice.as_lora is not None:
        lora = advice.as_lora
        fits = "fits" if lora.fits else "does not fit either"
        say(f"A LoRA on the same clips (recipe lora) {fits}: it needs {size(lora.peak)}.")


def _main_memory(outcome: Outcome) -> str:
    return f" and {size(outcome.main_memory)} of main memory" if outcome.main_memory else ""


def _options(outcome: Outcome) -> str:
    return " ".join(f"--set {setting}" for setting in outcome.settings)


def size(num_bytes: float) -> str:
    """Format bytes as GiB or MiB."""
    return f"{num_bytes / _GIB:.1f} GiB" if num_bytes >= _GIB / 10 else f"{num_bytes / 2**20:.0f} MiB"


def gib(num_bytes: float) -> str:
    """Format bytes as a number of GiB, for a table."""
    return f"{num_bytes / _GIB:.2f}"


def count(number: int) -> str:
    """Format a number in millions."""
    return f"{number / 1e6:,.1f} M" if number else "–"


def duration(number: float) -> str:
    """Format days as days, hours or minutes."""
    if number >= 1:
        return f"{number:,.1f} days"
    hours = 24 * number
    return f"{hours:.1f} h" if hours >= 1 else f"{60 * hours:.0f} min"

"""Which precision trains faster on this device: measured, not guessed.

bf16 matrix work is several times faster than fp32 on some CPUs and several times slower on others, so
"auto" times a few real steps of the task in both; only CPUs that have no instructions for bf16 are spared the
minutes that it would take them. The choice is part of the run's state, so that a resumed run uses the same
arithmetic, on whatever machine it goes on.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch

from videocrafter.training.config import Precision, SettingsError
from videocrafter.training.randomness import make_generator, seed_global_generators
from videocrafter.training.task import Batch, ReadsInOrder, Task

ChosenPrecision = Literal["fp32", "bf16", "fp16"]
DTYPES: dict[ChosenPrecision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

_NUM_TIMED_BATCHES = 3
_NUM_REPEATS = 2
# bf16 must gain something to be worth its rounding.
_SPEEDUP_NEEDED = 1.05


@dataclass(frozen=True, kw_only=True)
class PrecisionChoice:
    """The precision of a stage, and the measured seconds per step where both were timed."""

    precision: ChosenPrecision
    fp32_seconds: float | None = None
    bf16_seconds: float | None = None


def autocast(device: torch.device, precision: ChosenPrecision) -> AbstractContextManager[object]:
    """Context in which the forward pass runs."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def choose_precision(
    wanted: Precision, task: Task, device: torch.device, micro_step: int = 0, *, fits: bool = True
) -> PrecisionChoice:
    """Settle `wanted` for `task` on `device`. Weights, buffers and gradients are left as they were.

    Args:
        micro_step: the first pass of a step that this process makes.
        fits: whether the task can be timed before its networks are sharded. If not, "auto" is bf16 on a GPU.

    Raises:
        SettingsError: bf16 is wanted and the device has none.
    """
    has_bf16 = device.type != "cuda" or torch.cuda.is_bf16_supported()
    if wanted == "bf16" and not has_bf16:
        raise SettingsError("precision is 'bf16', which this GPU does not support; use 'fp16', 'fp32' or 'auto'")
    if wanted != "auto":
        return PrecisionChoice(precision=wanted)
    if not has_bf16 or (device.type == "cpu" and (not fits or emulates_bf16())):
        return PrecisionChoice(precision="fp32")
    if not fits:
        return PrecisionChoice(precision="bf16")
    # Layers such as batch norm update buffers in the forward pass.
    buffers = [buffer for module in task.modules().values() for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    # Data that can only be read in order must not be read beyond the first pass of training.
    num_batches = 1 if isinstance(task, ReadsInOrder) else _NUM_TIMED_BATCHES
    fp32_seconds, bf16_seconds = _time_both(
        [task.batch(step, micro_step) for step in range(num_batches)], task, device
    )
    for buffer, value in zip(buffers, before, strict=True):
        buffer.copy_(value)
    faster = fp32_seconds / bf16_seconds >= _SPEEDUP_NEEDED
    return PrecisionChoice(
        precision="bf16" if faster else "fp32", fp32_seconds=fp32_seconds, bf16_seconds=bf16_seconds
    )


def emulates_bf16() -> bool:
    """Whether this CPU is known to have no instructions for bf16, so that it can only be slower than fp32."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    # Not public; a torch without them says nothing, and then it is measured.
    checks = [getattr(torch.cpu, name, None) for name in names]
    return all(check is not None and not check() for check in checks)


def _time_both(batches: Sequence[Batch], task: Task, device: torch.device) -> tuple[float, float]:
    """Mean seconds of a forward and backward pass in fp32 and in bf16.

    Batches differ (images, clips), so several are timed. Each is timed twice and its shorter time counts,
    which leaves warm-up and hiccups out. The precisions take turns, so that a busy machine slows both.
    """
    totals = {"fp32": 0.0, "bf16": 0.0}
    precisions: tuple[ChosenPrecision, ...] = ("fp32", "bf16")
    for step, batch in enumerate(batches):
        times: dict[str, list[float]] = {"fp32": [], "bf16": []}
        for _ in range(_NUM_REPEATS):
            for precision in precisions:
                times[precision].append(_seconds_of_pass(task, batch, step, device, precision))
        for precision in precisions:
            totals[precision] += min(times[precision]) / len(batches)
    return totals["fp32"], totals["bf16"]


def _seconds_of_pass(task: Task, batch: Batch, step: int, device: torch.device, precision: ChosenPrecision) -> float:
    seed_global_generators("precision", step)
    generator = make_generator(device, "precision", step)
    _synchronize(device)
    start = time.perf_counter()
    with autocast(device, precision):
        loss, _ = task.loss(batch, generator)
    torch.autograd.backward(loss)
    _synchronize(device)
    seconds = time.perf_counter() - start
    for parameter in task.parameter_groups():
        parameter.grad = None
    return seconds


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

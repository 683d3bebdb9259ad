"""Precision of a stage: fp32, bf16 or fp16, or the faster of fp32 and bf16 as measured on the device.

bf16 matrix products are several times faster than fp32 on some CPUs and several times slower on others. "auto"
therefore times a few real passes of the task in both, except on CPUs without bf16 instructions, where timing would
take minutes. The choice is stored with the run, so that it is resumed with the same arithmetic on any machine.
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
# A smaller gain is not worth bf16's rounding.
_SPEEDUP_NEEDED = 1.05


@dataclass(frozen=True, kw_only=True)
class PrecisionChoice:
    """The precision of a stage, with the seconds per pass if both were timed."""

    precision: ChosenPrecision
    fp32_seconds: float | None = None
    bf16_seconds: float | None = None


def autocast(device: torch.device, precision: ChosenPrecision) -> AbstractContextManager[object]:
    """Return the autocast context for a forward pass."""
    if precision == "fp32":
        return nullcontext()
    return torch.autocast(device.type, dtype=DTYPES[precision])


def choose_precision(
    wanted: Precision, task: Task, device: torch.device, micro_step: int = 0, *, fits: bool = True
) -> PrecisionChoice:
    """Choose the precision of `task` on `device`. Weights, buffers and gradients are left unchanged.

    Args:
        micro_step: this process's first micro step of a step.
        fits: whether the task can be timed before its networks are sharded. If not, "auto" means bf16 on a GPU.

    Raises:
        SettingsError: bf16 is requested and the device does not support it.
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
    # Layers such as batch norm update their buffers in the forward pass.
    buffers = [buffer for module in task.modules().values() for buffer in module.buffers()]
    before = [buffer.clone() for buffer in buffers]
    # Sequential data must not be read beyond the first pass of training.
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
    """Whether this CPU is known to lack bf16 instructions, which makes bf16 slower than fp32."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return False
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    # These functions are private; if torch lacks them, the precisions are timed.
    checks = [getattr(torch.cpu, name, None) for name in names]
    return all(check is not None and not check() for check in checks)


def _time_both(batches: Sequence[Batch], task: Task, device: torch.device) -> tuple[float, float]:
    """Return the mean seconds of a forward and backward pass in fp32 and in bf16.

    Batches differ (images, clips), so several are timed. The shorter of two timings counts, which excludes warm-up
    and hiccups. The precisions alternate, so that load on the machine affects both.
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
    for parameter in task.trainable_parameters():
        parameter.grad = None
    return seconds


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

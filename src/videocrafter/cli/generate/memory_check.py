"""Check that memory is large enough before a model is loaded, and suggest settings that would fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from videocrafter.cli.generate.request import GenerateOptions
from videocrafter.pipelines.generation_memory import (
    MemoryNeed,
    Workload,
    available_memory,
    count_parameters,
    memory_need,
    network_configs,
    size_multiple,
)
from videocrafter.pipelines.model_folder import read_model_index
from videocrafter.pipelines.settings import GenerationDefaults

if TYPE_CHECKING:
    import torch

_NUM_SUGGESTIONS = 3
_HALF = 2
_Change = tuple[dict[str, Any], str]
"""New values of a workload, and the options that select them."""


def check_memory(options: GenerateOptions, folder: Path, device: torch.device, dtype: torch.dtype) -> None:
    """Raise ValueError, with settings that would fit, if the model in `folder` does not fit on `device`.

    The estimate is a lower bound, so nothing that fits is refused. Nothing is checked if the system does not report
    its available memory.
    """
    available = available_memory(device)
    if options.ignore_memory or available is None:
        return
    try:
        _check_memory(options, folder, device, dtype, available)
    except (TypeError, ArithmeticError, LookupError) as error:
        raise ValueError(
            f"a configuration in {folder} is damaged ({error}); copy or convert the model again"
        ) from error


def _check_memory(
    options: GenerateOptions, folder: Path, device: torch.device, dtype: torch.dtype, available: int
) -> None:
    unet, vae = network_configs(folder)
    num_parameters = count_parameters(folder)
    defaults = GenerationDefaults.from_config(read_model_index(folder).get("defaults"))
    workload = _workload(options, defaults, dtype.itemsize)

    def need(workload: Workload) -> MemoryNeed:
        return memory_need(unet, vae, num_parameters, workload)

    needed = need(workload)
    if needed.total <= available:
        return
    fitting = [
        (changed, text)
        for changed, text in _smaller(workload, size_multiple(unet, vae))
        if need(replace(workload, **changed)).total <= available
    ]
    raise ValueError(
        f"generation needs about {_text(needed.total)} of memory (weights {_text(needed.weights)},"
        f" {workload.width}x{workload.height} with {workload.num_frames} frames"
        f"{f' x {workload.num_videos} videos' if workload.num_videos > 1 else ''}"
        f" {_text(needed.total - needed.weights)}), but {device} has {_text(available)} left; {_advice(fitting)};"
        " --ignore-memory skips this check"
    )


def _workload(options: GenerateOptions, defaults: GenerationDefaults, element_bytes: int) -> Workload:
    def given(value: Any, default: Any) -> Any:
        return default if value is None else value

    return Workload(
        num_videos=min(options.batch_size, options.num_outputs),
        branches=defaults.with_changes(options.sampling).num_branches,
        num_frames=given(options.num_frames, defaults.num_frames),
        height=max(1, given(options.height, defaults.height)),
        width=max(1, given(options.width, defaults.width)),
        window=given(options.window, defaults.num_frames),
        element_bytes=element_bytes,
    )


def _smaller(workload: Workload, multiple: int) -> Iterator[_Change]:
    """Yield changes that need less memory, the smallest first, with the options that select them."""

    def scaled(pixels: int, share: float) -> int:
        return max(multiple, int(pixels * share) // multiple * multiple)

    batch: list[_Change] = [({}, "")]
    precision, length, size = list(batch), list(batch), list(batch)
    if workload.num_videos > 1:
        batch.append(({"num_videos": 1}, "--batch-size 1"))
    if workload.element_bytes > _HALF:
        precision.append(({"element_bytes": _HALF}, "--dtype bfloat16"))
    for share in (0.75, 0.5, 0.25):
        height, width = scaled(workload.height, share), scaled(workload.width, share)
        size.append(({"height": height, "width": width}, f"--height {height} --width {width}"))
        frames = max(1, int(workload.num_frames * share))
        length.append(({"num_frames": frames}, f"--frames {frames}"))
    combined = itertools.product(batch, precision, size, length)
    for parts in sorted(combined, key=_severity):
        changes: dict[str, Any] = {}
        for change, _ in parts:
            changes |= change
        if changes:
            yield changes, " ".join(text for _, text in parts if text)


def _severity(parts: Sequence[_Change]) -> tuple[int, list[bool]]:
    """Sort key: few changes before many, then those that lower quality least."""
    return sum(bool(text) for _, text in parts), [not text for _, text in parts]


def _advice(fitting: list[_Change]) -> str:
    """Describe the first few changes, without those that contain an earlier one."""
    chosen: list[_Change] = []
    for changes, text in fitting:
        if len(chosen) < _NUM_SUGGESTIONS and not any(set(fewer) <= set(changes) for fewer, _ in chosen):
            chosen.append((changes, text))
    if not chosen:
        return "no smaller setting fits: use a device with more memory, or a smaller model"
    return f"these would fit: {', or '.join(text for _, text in chosen)}"


def _text(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 / 10 else f"{num_bytes / 2**20:.0f} MiB"

"""Check that memory is large enough before a model is loaded, and suggest settings that would fit."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from videocrafter.generation.errors import NotEnoughMemoryError
from videocrafter.generation.request import GenerateOptions
from videocrafter.pipelines.generation_memory import (
    MemoryNeed,
    Workload,
    available_memory,
    count_parameters,
    memory_need,
    network_configs,
    size_multiple,
)
from videocrafter.pipelines.memory_settings import MemorySettings
from videocrafter.pipelines.model_folder import read_model_index
from videocrafter.pipelines.settings import GenerationDefaults

if TYPE_CHECKING:
    from videocrafter.generation.mode import Pipeline

_NUM_SUGGESTIONS = 3
_HALF = 2
_CLEARLY_LESS = 0.75
USABLE_SHARE = 0.9
"""Share of the available memory that a plan may use; the estimate is a lower bound."""
_Change = tuple[dict[str, Any], dict[str, Any]]
"""New values of a workload, and the settings of a request that select them."""


@dataclass(frozen=True, kw_only=True)
class MemoryEstimate:
    """The memory that a run needs at least, and that a device has.

    Attributes:
        workload: what was estimated.
        need: bytes for the weights and in total.
        available: bytes, or None if the system does not report them.
        fitting: settings that would fit, the mildest changes first; empty if the run fits as it is.
        fits_saving: whether the run does not fit as it is, but does with exact ways to save memory.
    """

    workload: Workload
    need: MemoryNeed
    available: int | None
    fitting: Sequence[Mapping[str, Any]] = ()
    fits_saving: bool = False

    @property
    def fits(self) -> bool:
        """Whether the run is expected to fit."""
        return self.available is None or self.need.total <= self.available


def check_memory(
    options: GenerateOptions,
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
    pipeline: Pipeline | None = None,
) -> None:
    """Raise NotEnoughMemoryError, with settings that would fit, if the model in `folder` does not fit on `device`.

    The estimate is a lower bound, so nothing that fits is refused. Nothing is checked if the system does not report
    its available memory.

    Args:
        options: the run.
        folder: its model.
        device: where it runs.
        dtype: of the weights.
        pipeline: the one that is loaded already; the run uses its weights or replaces them, so they count as free.
    """
    available = memory_for(device, pipeline)
    if options.ignore_memory or available is None:
        return
    estimate = estimate_memory(options, folder, available, dtype)
    if estimate.fits:
        return
    needed, workload = estimate.need, estimate.workload
    raise NotEnoughMemoryError(
        f"generation needs about {size_in_words(needed.total)} of memory (weights {size_in_words(needed.weights)},"
        f" {workload.width}x{workload.height} with {workload.num_frames} frames"
        f"{f' x {workload.num_videos} videos' if workload.num_videos > 1 else ''}"
        f" {size_in_words(needed.total - needed.weights)}), but {device} has {size_in_words(available)} left;"
        f" {_advice(estimate, several=options.devices > 1)}",
        estimate.fitting,
        is_estimate=True,
    )


def out_of_memory(options: GenerateOptions, folder: Path, dtype: torch.dtype) -> NotEnoughMemoryError:
    """Return the error of a run whose device ran out of memory, with settings that need clearly less."""
    text = "the device ran out of memory"
    try:
        needed = estimate_memory(options, folder, None, dtype).need.total
        fitting = estimate_memory(options, folder, int(needed * _CLEARLY_LESS), dtype).fitting
    except (ValueError, OSError):  # the model changed meanwhile
        fitting = ()
    if not fitting:
        return NotEnoughMemoryError(f"{text}; close other programs, or use a smaller model")
    return NotEnoughMemoryError(f"{text}; these need less: {_listed(fitting)}", fitting)


def memory_for(device: torch.device, pipeline: Pipeline | None) -> int | None:
    """Return the bytes that a run can use on a device, with those of a loaded pipeline; None if unknown."""
    available = available_memory(device)
    if available is None or pipeline is None:
        return available
    networks = [one for one in pipeline.components.values() if isinstance(one, torch.nn.Module)]
    weights = (tensor for network in networks for tensor in network.parameters())
    return available + sum(one.nbytes for one in weights if one.device.type == device.type)


def estimate_memory(
    options: GenerateOptions, folder: Path, available: int | None, dtype: torch.dtype
) -> MemoryEstimate:
    """Estimate the memory of a run from the files of the model, without loading it.

    Raises ValueError if the model's configuration is damaged.
    """
    try:
        return _estimate(options, folder, available, dtype)
    except (TypeError, ArithmeticError, LookupError) as error:
        raise ValueError(
            f"a configuration in {folder} is damaged ({error}); copy or convert the model again"
        ) from error


def _estimate(options: GenerateOptions, folder: Path, available: int | None, dtype: torch.dtype) -> MemoryEstimate:
    unet, vae = network_configs(folder)
    parameters = count_parameters(folder)
    defaults = GenerationDefaults.from_config(read_model_index(folder).get("defaults"))
    workload = requested_workload(options, defaults, dtype.itemsize)

    def need(workload: Workload) -> MemoryNeed:
        return memory_need(unet, vae, parameters, workload)

    estimate = MemoryEstimate(workload=workload, need=need(workload), available=available)
    if available is None or estimate.fits:
        return estimate
    fitting = [
        settings
        for changed, settings in smaller_workloads(workload, size_multiple(unet, vae))
        if need(replace(workload, **changed)).total <= available
    ]
    saving = MemorySettings(frames_at_once=1, branches_apart=True, offload="all")
    fits_saving = need(replace(workload, saving=saving)).total <= USABLE_SHARE * available
    return replace(estimate, fitting=mildest(fitting), fits_saving=fits_saving)


def requested_workload(options: GenerateOptions, defaults: GenerationDefaults, element_bytes: int) -> Workload:
    """Return the size of the largest batch of a run."""

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


def smaller_workloads(workload: Workload, multiple: int) -> Iterator[_Change]:
    """Yield changes that need less memory, the smallest first, with the settings that select them."""

    def scaled(pixels: int, share: float) -> int:
        return max(multiple, int(pixels * share) // multiple * multiple)

    batch: list[_Change] = [({}, {})]
    precision, length, size = list(batch), list(batch), list(batch)
    if workload.num_videos > 1:
        batch.append(({"num_videos": 1}, {"batch_size": 1}))
    if workload.element_bytes > _HALF:
        precision.append(({"element_bytes": _HALF}, {"dtype": "bfloat16"}))
    for share in (0.75, 0.5, 0.25):
        smaller = {"height": scaled(workload.height, share), "width": scaled(workload.width, share)}
        size.append((smaller, smaller))
        shorter = {"num_frames": max(1, int(workload.num_frames * share))}
        length.append((shorter, shorter))
    combined = itertools.product(batch, precision, size, length)
    for parts in sorted(combined, key=_severity):
        changes: dict[str, Any] = {}
        settings: dict[str, Any] = {}
        for change, selected in parts:
            changes |= change
            settings |= selected
        if changes:
            yield changes, settings


def _severity(parts: Sequence[_Change]) -> tuple[int, list[bool]]:
    """Sort key: few changes before many, then those that lower quality least."""
    return sum(bool(settings) for _, settings in parts), [not settings for _, settings in parts]


def mildest(fitting: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the first few changes, without those that contain an earlier one."""
    chosen: list[Mapping[str, Any]] = []
    for settings in fitting:
        if len(chosen) < _NUM_SUGGESTIONS and not any(set(fewer) <= set(settings) for fewer in chosen):
            chosen.append(settings)
    return chosen


def _advice(estimate: MemoryEstimate, *, several: bool) -> str:
    if estimate.fits_saving and not several:
        same = "`low_memory` makes the same video more slowly with less"
        return f"{same}; these would fit: {_listed(estimate.fitting)}" if estimate.fitting else same
    if not estimate.fitting:
        return "no smaller setting fits: use a device with more memory, or a smaller model"
    return f"these would fit: {_listed(estimate.fitting)}"


def _listed(fitting: Sequence[Mapping[str, Any]]) -> str:
    ways = (" ".join(f"`{name}` {value}" for name, value in settings.items()) for settings in fitting)
    return ", or ".join(ways)


def size_in_words(num_bytes: int) -> str:
    """Return a number of bytes as text, such as "1.5 GiB"."""
    return f"{num_bytes / 2**30:.1f} GiB" if num_bytes >= 2**30 / 10 else f"{num_bytes / 2**20:.0f} MiB"

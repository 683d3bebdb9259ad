"""Choose how a run saves memory: the fastest settings that fit on a device, exact ones before approximate ones."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from videocrafter.generation.memory_check import smaller_workloads
from videocrafter.generation.operations import Operations
from videocrafter.pipelines.generation_memory import (
    MemoryNeed,
    Parameters,
    Workload,
    frames_per_pass,
    memory_need,
    size_multiple,
)
from videocrafter.pipelines.memory_settings import OFFLOADS, MemorySettings

_GIB = 2**30
RESERVED: Mapping[str, int] = {"gpu": _GIB, "cpu": _GIB // 2}
"""Bytes that a plan leaves free: for the driver and workspaces on a GPU, for Python and the libraries on a CPU."""
TRANSFER_RATE: Mapping[str, float] = {"gpu": 12e9, "cpu": 1e9}
"""Assumed bytes per second of offloaded weights: over PCIe to a GPU, from a disk to main memory."""

Kind = Literal["gpu", "cpu"]


@dataclass(frozen=True, kw_only=True)
class GenerationPlan:
    """A way to run a workload.

    Attributes:
        saving: how memory is saved.
        need: bytes on the device.
        seconds: estimated time of one batch, without loading.
    """

    saving: MemorySettings
    need: MemoryNeed
    seconds: float


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """A workload of a model on a kind of device.

    Attributes:
        unet, vae: configs of the networks.
        parameters: sizes of the networks.
        workload: one batch; its own `saving` is not used.
        kind: "gpu" or "cpu".
        operations: of one batch.
        rate: floating-point operations per second that the device achieves.
    """

    unet: Mapping[str, Any]
    vae: Mapping[str, Any]
    parameters: Parameters
    workload: Workload
    kind: Kind
    operations: Operations
    rate: float

    def plans(self) -> list[GenerationPlan]:
        """Return all plans: exact ones before approximate ones, each from the fastest to the slowest.

        Of two that take the same time, the one that decodes more frames at once comes first.
        """
        most = min(frames_per_pass(self.vae, self.workload), self.workload.num_frames)
        every = [self._plan(saving) for saving in candidates(self.workload, most)]
        return sorted(
            every, key=lambda plan: (not plan.saving.is_exact, plan.seconds, -(plan.saving.frames_at_once or most))
        )

    def fastest(self, usable: int) -> GenerationPlan | None:
        """Return the fastest plan within this many bytes, an exact one if there is one; None if nothing fits."""
        return next((plan for plan in self.plans() if plan.need.total <= usable), None)

    def smaller(self) -> Iterator[tuple[Mapping[str, Any], GenerationPlan]]:
        """Yield changes of size, the mildest first, with the exact plan that then needs least memory."""
        for changed, settings in smaller_workloads(self.workload, size_multiple(self.unet, self.vae)):
            if "dtype" not in settings:
                run = replace(self, workload=replace(self.workload, **changed))
                exact = (plan for plan in run.plans() if plan.saving.is_exact)
                yield settings, min(exact, key=lambda plan: plan.need.total)

    def _plan(self, saving: MemorySettings) -> GenerationPlan:
        workload = replace(self.workload, saving=saving)
        need = memory_need(self.unet, self.vae, self.parameters, workload)
        return GenerationPlan(saving=saving, need=need, seconds=self._seconds(saving))

    def _seconds(self, saving: MemorySettings) -> float:
        apart = saving.branches_apart
        computing = self.operations.total(branches_apart=apart) / self.rate
        size, rate = self.workload.element_bytes, TRANSFER_RATE[self.kind]
        once = 0.0 if saving.offload == "none" else self.parameters.others * size / rate
        if saving.offload != "all":
            return computing + once
        moving = self.operations.passes(branches_apart=apart) * self.parameters.denoiser * size / rate
        # A GPU computes while the next layer arrives.
        return once + (max(computing, moving) if self.kind == "gpu" else computing + moving)


def candidates(workload: Workload, most_frames: int) -> Iterator[MemorySettings]:
    """Yield the settings that can make a difference for a workload, the default first.

    Args:
        most_frames: frames that are decoded together by default.
    """
    frames = [most_frames, *(count for count in (4, 2, 1) if count < most_frames)]
    apart = (False, True) if workload.branches > 1 else (False,)
    for fp8, tiled, offload, is_apart, count in itertools.product(
        (False, True), (False, True), OFFLOADS, apart, frames
    ):
        # Layers that are offloaded take little memory whatever their type is, and tiles are for single frames.
        if (fp8 and offload == "all") or (tiled and count > 1):
            continue
        yield MemorySettings(
            frames_at_once=None if count == most_frames else count,
            branches_apart=is_apart,
            offload=offload,
            fp8_weights=fp8,
            tiled_decoding=tiled,
        )


def worth_showing(plans: Sequence[GenerationPlan]) -> list[GenerationPlan]:
    """Return the plans that need less memory than all plans before them."""
    shown: list[GenerationPlan] = []
    for plan in plans:
        if not shown or plan.need.total < shown[-1].need.total:
            shown.append(plan)
    return shown

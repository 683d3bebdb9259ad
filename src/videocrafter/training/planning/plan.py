"""A run's plan: for each stage what it holds in memory, what it computes, and how long that takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch

from videocrafter.training.config import RecipeConfig, SettingsError, StageConfig
from videocrafter.training.parallel.processes import check_shared
from videocrafter.training.planning.measure import Conditions, StageMeasure, measure
from videocrafter.training.planning.meter import DeviceKind
from videocrafter.training.planning.stage_memory import Share, StageMemory, stage_memory
from videocrafter.training.planning.stages import stage_work
from videocrafter.training.planning.start import USUAL_START, Start, named_start, size_of
from videocrafter.training.planning.work import StageWork
from videocrafter.training.video.frozen_networks import settle_weights
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

_GIB = 2**30
RESERVED: Mapping[DeviceKind, int] = {"gpu": int(1.5 * _GIB), "cpu": int(0.75 * _GIB)}
"""Bytes of a device that are left alone: for the driver, for libraries and what they work in, for gaps; on a CPU for
Python and the libraries."""
_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where a run is to train.

    Attributes:
        kind: of each device.
        memory: of each device, in bytes.
        count: devices, with a process for each.
    """

    kind: DeviceKind
    memory: int
    count: int = 1

    @property
    def usable(self) -> int:
        """Bytes that training may take."""
        return self.memory - RESERVED[self.kind]


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """What a stage needs.

    Attributes:
        name, num_steps: of the stage.
        precision: that passes are computed in.
        sharded: whether the large networks are shared out over the processes.
        passes_per_step, samples_per_step: over all processes; samples on average.
        learning: numbers that learn.
        resting: numbers of the same networks that do not.
        frozen: numbers in the networks before them.
        memory: of a process.
        flops_per_step: over all processes, without validation and samples.
    """

    name: str
    num_steps: int
    precision: str
    sharded: bool
    passes_per_step: int
    samples_per_step: float
    learning: int
    resting: int
    frozen: int
    memory: StageMemory
    flops_per_step: float

    @property
    def flops(self) -> float:
        """Of the whole stage."""
        return self.flops_per_step * self.num_steps


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """What a run needs.

    Attributes:
        recipe: its name.
        start: what it was planned to start from, in words; None from nothing.
        assumed: whether that start was not asked for.
    """

    recipe: str
    start: str | None
    assumed: bool
    machine: Machine
    stages: tuple[StagePlan, ...]

    @property
    def flops(self) -> float:
        """Of the whole run."""
        return sum(stage.flops for stage in self.stages)

    def fits(self, stage: StagePlan) -> bool:
        """Whether a stage's peak is within the device."""
        return stage.memory.peak.total <= self.machine.usable


def days(flops: float, machine: Machine, speed: float) -> float:
    """Days for so many operations.

    Args:
        speed: operations per second that each device really does.
    """
    return flops / (machine.count * speed) / _SECONDS_PER_DAY


class Planner:
    """Plans runs; what the same passes take is found once."""

    def __init__(self) -> None:
        self._measured: dict[object, StageMeasure] = {}
        self._works: dict[object, StageWork] = {}
        self._planned: dict[object, tuple[StagePlan, Start | None]] = {}

    def plan(self, recipe: RecipeConfig, machine: Machine) -> RunPlan:
        """What a run needs on a machine.

        Raises:
            ValueError: the recipe's settings do not go together, with the machine, or with its start; one line.
        """
        name = recipe.init
        assumed = name is None and any(isinstance(stage.task, ClipDiffusionTaskConfig) for stage in recipe.stages)
        if assumed:
            name = USUAL_START
        start = first = None if name is None else named_start(name)
        stages = []
        for stage in recipe.stages:
            try:
                planned, leaves = self._stage(stage, start, machine)
            except ValueError as error:
                raise ValueError(f"stage {stage.name!r} cannot be planned: {error}") from error
            stages.append(planned)
            start = leaves or start
        described = None if first is None else first.described
        return RunPlan(recipe=recipe.name, start=described, assumed=assumed, machine=machine, stages=tuple(stages))

    def _stage(self, stage: StageConfig, start: Start | None, machine: Machine) -> tuple[StagePlan, Start | None]:
        if isinstance(stage.task, ClipDiffusionTaskConfig):
            # A plan for CPUs is one for CPUs like this machine's.
            device = torch.device("cpu" if machine.kind == "cpu" else "cuda")
            stage = replace(stage, task=settle_weights(stage.task, device))
        key = (stage, repr(start), machine.kind, machine.count)
        if key not in self._planned:
            self._planned[key] = self._new_stage(stage, start, machine)
        return self._planned[key]

    def _new_stage(self, stage: StageConfig, start: Start | None, machine: Machine) -> tuple[StagePlan, Start | None]:
        check_shared(stage.optimizer.accumulate, machine.count)
        work = self._work(stage, start)
        share = _share(stage, work, machine)
        taken = self._taken(stage, start, share)
        per_pass = sum(
            one.share * (taken.passes[one.name].flops + taken.encoding[one.name].flops) for one in work.passes
        )
        trained = [p for module in work.trained.values() for p in module.parameters()]
        learning = sum(parameter.numel() for parameter in trained if parameter.requires_grad)
        planned = StagePlan(
            name=stage.name,
            num_steps=stage.num_steps,
            precision="bf16" if share.bf16 else "fp32",
            sharded=share.sharded,
            passes_per_step=stage.optimizer.accumulate,
            samples_per_step=work.samples_per_pass * stage.optimizer.accumulate,
            learning=learning,
            resting=sum(parameter.numel() for parameter in trained) - learning,
            frozen=sum(size_of(module) for module in work.frozen.values()),
            memory=stage_memory(stage, work, taken, share),
            flops_per_step=per_pass * stage.optimizer.accumulate,
        )
        return planned, work.leaves

    def _taken(self, stage: StageConfig, start: Start | None, share: Share) -> StageMeasure:
        conditions = Conditions(
            kind=share.kind,
            bf16=share.bf16,
            # What is shared out has its gradients reduced at once, and none is there as a whole.
            accumulates=share.accumulates or share.sharded,
            gathered_bf16=share.sharded and share.bf16,
            offloads=stage.offload_activations and share.kind == "gpu",
        )
        key = (_computed(stage, start), conditions)
        if key not in self._measured:
            # Networks of its own, because measuring changes them.
            self._measured[key] = measure(stage_work(stage, start), conditions)
        return self._measured[key]

    def _work(self, stage: StageConfig, start: Start | None) -> StageWork:
        key = _computed(stage, start)
        if key not in self._works:
            self._works[key] = stage_work(stage, start)
        return self._works[key]


def _computed(stage: StageConfig, start: Start | None) -> object:
    """What a stage's passes depend on, whatever its optimizer."""
    looks = (bool(stage.sample_every), bool(stage.validate_every), stage.num_steps, stage.optimizer.accumulate)
    return stage.task, looks, repr(start)


def _share(stage: StageConfig, work: StageWork, machine: Machine) -> Share:
    sharded = stage.parallel.sharding == "full" and machine.count > 1 and bool(work.shardable)
    if sharded:
        _check_sharding(stage)
    return Share(
        kind=machine.kind,
        count=machine.count,
        sharded=sharded,
        bf16=stage.precision in ("bf16", "fp16") or (stage.precision == "auto" and machine.kind == "gpu"),
        accumulates=stage.optimizer.accumulate // machine.count > 1,
    )


def _check_sharding(stage: StageConfig) -> None:
    """As training refuses it when it makes its optimizer."""
    wrong = {
        "compile": stage.compile,
        "optimizer.name muon": stage.optimizer.name == "muon",
        "optimizer.name adamw8bit": stage.optimizer.name == "adamw8bit",
        "optimizer.offload": stage.optimizer.offload,
    }
    for setting, is_set in wrong.items():
        if is_set:
            raise SettingsError(f"{setting} and parallel.sharding do not go together; leave one out")

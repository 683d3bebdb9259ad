"""The plan of a run: memory, operations and time of each stage."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn

from videocrafter.training.config import RecipeConfig, SettingsError, StageConfig
from videocrafter.training.parallel.processes import check_shared
from videocrafter.training.planning.measure import ComputeSettings, StageMeasure, measure
from videocrafter.training.planning.meter import DeviceKind
from videocrafter.training.planning.stage_memory import Share, StageMemory, stage_memory
from videocrafter.training.registry import stage_work, usual_start
from videocrafter.training.video.planned_start import PlannedStart, named_start
from videocrafter.training.video.work import StageWork

_GIB = 2**30
RESERVED: Mapping[DeviceKind, int] = {"gpu": int(1.5 * _GIB), "cpu": int(0.75 * _GIB)}
"""Bytes of a device that a plan leaves free: on a GPU for the driver, library workspaces and fragmentation; on a CPU
for Python and the libraries."""
_SECONDS_PER_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class Machine:
    """The devices that a run is to train on.

    Attributes:
        kind: kind of each device.
        memory: bytes of each device.
        count: number of devices, each with one process.
    """

    kind: DeviceKind
    memory: int
    count: int = 1

    @property
    def usable(self) -> int:
        """Bytes of a device that training may use."""
        return self.memory - RESERVED[self.kind]


@dataclass(frozen=True, kw_only=True)
class StagePlan:
    """The needs of a stage.

    Attributes:
        name, num_steps: of the stage.
        precision: precision of the passes.
        sharded: whether the large networks are sharded over the processes.
        passes_per_step, samples_per_step: over all processes; samples on average.
        learning: trainable parameters.
        resting: frozen parameters of the same networks.
        frozen: parameters of the frozen encoders.
        memory: memory of one process.
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
        """Operations of the whole stage."""
        return self.flops_per_step * self.num_steps


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """The needs of a run.

    Attributes:
        recipe: name of the recipe.
        start: description of the start; None for new networks.
        assumed: whether the start is assumed because none was named.
    """

    recipe: str
    start: str | None
    assumed: bool
    machine: Machine
    stages: tuple[StagePlan, ...]

    @property
    def flops(self) -> float:
        """Operations of the whole run."""
        return sum(stage.flops for stage in self.stages)

    def fits(self, stage: StagePlan) -> bool:
        """Whether a stage's peak memory fits in the device."""
        return stage.memory.peak.total <= self.machine.usable


def days(flops: float, machine: Machine, speed: float) -> float:
    """Return the days that a number of operations takes.

    Args:
        speed: operations per second that each device achieves.
    """
    return flops / (machine.count * speed) / _SECONDS_PER_DAY


class Planner:
    """Plans runs, and measures the same computation only once."""

    def __init__(self) -> None:
        self._starts: dict[str, PlannedStart] = {}
        self._measured: dict[object, StageMeasure] = {}
        self._works: dict[object, StageWork] = {}
        self._planned: dict[object, tuple[StagePlan, PlannedStart | None]] = {}

    def plan(self, recipe: RecipeConfig, machine: Machine) -> RunPlan:
        """Return the needs of a run on a machine.

        Raises:
            ValueError: the recipe's settings do not fit together, the machine, or the start; one line.
        """
        assumed = next(filter(None, (usual_start(stage.task) for stage in recipe.stages)), None)
        name = assumed if recipe.init is None else recipe.init
        start = first = None if name is None else self._start(name)
        stages = []
        for stage in recipe.stages:
            try:
                planned, leaves = self._stage(stage, start, machine)
            except ValueError as error:
                raise ValueError(f"stage {stage.name!r} cannot be planned: {error}") from error
            except RuntimeError as error:
                # Networks of one pipeline whose configs contradict each other fail where their tensors meet.
                if start is None:
                    raise
                reason = " ".join(str(error).split())[:200]
                raise ValueError(
                    f"stage {stage.name!r} cannot be planned: the networks of {start.described} do not fit together"
                    f" ({reason}); use an intact copy of that folder"
                ) from error
            stages.append(planned)
            start = leaves or start
        return RunPlan(
            recipe=recipe.name,
            start=None if first is None else first.described,
            assumed=recipe.init is None and assumed is not None,
            machine=machine,
            stages=tuple(stages),
        )

    def _start(self, name: str) -> PlannedStart:
        if name not in self._starts:
            self._starts[name] = named_start(name)
        return self._starts[name]

    def _stage(
        self, stage: StageConfig, start: PlannedStart | None, machine: Machine
    ) -> tuple[StagePlan, PlannedStart | None]:
        key = (stage, start, machine.kind, machine.count)
        if key not in self._planned:
            self._planned[key] = self._new_stage(stage, start, machine)
        return self._planned[key]

    def _new_stage(
        self, stage: StageConfig, start: PlannedStart | None, machine: Machine
    ) -> tuple[StagePlan, PlannedStart | None]:
        check_shared(stage.optimizer.accumulate, machine.count)
        work = self._work(stage, start, machine.kind)
        share = _share(stage, work, machine)
        measured = self._measure(stage, start, share)
        per_pass = sum(
            one.share * (measured.passes[one.name].flops + measured.encoding[one.name].flops) for one in work.passes
        )
        trainable = sum(parameter.numel() for parameter in work.task.trainable_parameters())
        planned = StagePlan(
            name=stage.name,
            num_steps=stage.num_steps,
            precision="bf16" if share.bf16 else "fp32",
            sharded=share.sharded,
            passes_per_step=stage.optimizer.accumulate,
            samples_per_step=work.samples_per_pass * stage.optimizer.accumulate,
            learning=trainable,
            resting=sum(_size(module) for module in work.trained.values()) - trainable,
            frozen=sum(_size(module) for module in work.frozen.values()),
            memory=stage_memory(stage, work, measured, share),
            flops_per_step=per_pass * stage.optimizer.accumulate,
        )
        return planned, work.leaves

    def _measure(self, stage: StageConfig, start: PlannedStart | None, share: Share) -> StageMeasure:
        settings = ComputeSettings(
            kind=share.kind,
            bf16=share.bf16,
            # Gradients of sharded networks are reduced at once and never exist as a whole.
            accumulates=share.accumulates or share.sharded,
            gathered_bf16=share.sharded and share.bf16,
            offloads=stage.offload_activations and share.kind == "gpu",
        )
        key = (_computed(stage, start), settings)
        if key not in self._measured:
            # With new networks, because measuring changes them.
            self._measured[key] = measure(stage_work(stage, start, _device(share.kind)), settings)
        return self._measured[key]

    def _work(self, stage: StageConfig, start: PlannedStart | None, kind: DeviceKind) -> StageWork:
        key = (_computed(stage, start), kind)
        if key not in self._works:
            self._works[key] = stage_work(stage, start, _device(kind))
        return self._works[key]


def _computed(stage: StageConfig, start: PlannedStart | None) -> object:
    """All that a stage's passes depend on, whatever its optimizer."""
    schedule = (bool(stage.sample_every), bool(stage.validate_every), stage.num_steps, stage.optimizer.accumulate)
    return stage.task, schedule, start


def _device(kind: DeviceKind) -> torch.device:
    # A plan for CPUs assumes CPUs like this machine's.
    return torch.device("cpu" if kind == "cpu" else "cuda")


def _size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


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
    """Refuse the settings that training refuses when it builds the optimizer."""
    wrong = {
        "compile": stage.compile,
        "optimizer.name muon": stage.optimizer.name == "muon",
        "optimizer.name adamw8bit": stage.optimizer.name == "adamw8bit",
        "optimizer.offload": stage.optimizer.offload,
    }
    for setting, is_set in wrong.items():
        if is_set:
            raise SettingsError(f"{setting} and parallel.sharding cannot be combined; leave one out")

"""Bytes that one process holds at each moment of a stage: in a pass, in an optimizer step, while making samples."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

from torch import nn

from videocrafter.training.config import StageConfig
from videocrafter.training.optim.optimizer import hidden_matrices
from videocrafter.training.parallel.processes import BUCKET_ELEMENTS
from videocrafter.training.parallel.sharding import blocks
from videocrafter.training.planning import optimizer_memory
from videocrafter.training.planning.measure import StageMeasure
from videocrafter.training.planning.meter import DeviceKind
from videocrafter.training.planning.optimizer_memory import Weights
from videocrafter.training.video.work import StageWork

_FLOAT, _HALF = 4, 2
_BUCKET = _FLOAT * BUCKET_ELEMENTS


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What lies on the device at one moment, in bytes.

    Attributes:
        name: of the moment.
        trained, frozen: weights and buffers of the networks that learn, and of those that do not.
        gradients, optimizer, average: of what learns.
        data: what is kept of the data.
        working: activations and whatever else comes and goes.
    """

    name: str
    trained: int = 0
    frozen: int = 0
    gradients: int = 0
    optimizer: int = 0
    average: int = 0
    data: int = 0
    working: int = 0

    @property
    def total(self) -> int:
        """All of it."""
        return sum(getattr(self, one.name) for one in fields(self) if one.name != "name")


@dataclass(frozen=True, kw_only=True)
class StageMemory:
    """The moments of a stage, and what waits in main memory beside a GPU, by its kind."""

    moments: tuple[Moment, ...]
    main_memory: Mapping[str, int]

    @property
    def peak(self) -> Moment:
        """The moment at which the most is held."""
        return max(self.moments, key=lambda moment: moment.total)

    @property
    def working(self) -> int:
        """The most that comes and goes in a pass."""
        return max(moment.working for moment in self.moments if moment.name.startswith("pass"))


@dataclass(frozen=True, kw_only=True)
class Share:
    """How a stage is divided among processes.

    Attributes:
        kind: of device.
        count: processes, each with a device of its own.
        sharded: whether the large networks' weights are shared out.
        bf16: whether passes are computed in bfloat16.
        accumulates: whether a process makes several passes per step.
    """

    kind: DeviceKind
    count: int
    sharded: bool
    bf16: bool
    accumulates: bool


def stage_memory(stage: StageConfig, work: StageWork, taken: StageMeasure, share: Share) -> StageMemory:
    """The moments of a stage.

    Args:
        taken: what its passes take.
    """
    on_gpu, parts = share.kind == "gpu", list(_parts(stage, work, share))
    here = [part for part in parts if not part.away]
    learning = [part for part in here if part.learns]
    near, far = _optimized(stage, learning, offloads=stage.optimizer.offload and on_gpu)
    averaged = _FLOAT * sum(part.weights.size for part in learning) if stage.ema_decay else 0
    frozen = sum(_bytes(module) for module in work.frozen.values())
    frozen_stay = work.frozen_stay or (not on_gpu and bool(work.samples))
    held = Moment(
        name="",
        trained=sum(part.size for part in here),
        frozen=frozen if frozen_stay else 0,
        optimizer=optimizer_memory.moments(stage.optimizer, near),
        average=0 if on_gpu and stage.ema_device == "cpu" else averaged,
        data=work.data_bytes,
    )
    gradients = sum(part.size for part in learning)
    gathered = sum(_gathered(work.trained[name], stage, share) for name in work.shardable) if share.sharded else 0
    moments = [*_passes(work, taken, share, held, gradients, gathered)]
    stepping = max(optimizer_memory.working(stage.optimizer, near), _averaging(learning, share))
    moments.append(replace(held, name="optimizer step", gradients=gradients, working=stepping))
    if taken.samples:
        most = max(one.peak for one in taken.samples.values())
        moments.append(replace(held, name="making samples", frozen=frozen, working=most + gathered))
    whole = _whole(stage, work) if share.sharded else 0
    if whole and not on_gpu:
        moments.append(replace(held, name="saving a checkpoint", working=whole))
    away = [part for part in parts if part.away]
    main = {
        "sharded weights, gradients, moments, averages": _all_of(stage, away),
        "moments, and copies of weights and gradients": _offloaded(stage, far),
        "averages": averaged - held.average,
        "activations": max(one.waiting for one in taken.passes.values()),
        "a checkpoint of whole weights": whole if on_gpu else 0,
    }
    return StageMemory(moments=tuple(moments), main_memory={name: size for name, size in main.items() if size})


def _passes(
    work: StageWork, taken: StageMeasure, share: Share, held: Moment, gradients: int, gathered: int
) -> Iterator[Moment]:
    earlier = gradients if share.accumulates else 0
    for one in work.passes:
        if one.encoders:
            peak = taken.encoding[one.name].peak
            yield replace(held, name=f"encoding {one.name}", gradients=earlier, working=peak)
        peak = taken.passes[one.name].peak + gathered + (one.held if share.kind == "cpu" else 0)
        # Where gradients were not there before, they are in the peak.
        made = 0 if earlier or share.sharded else min(gradients, peak)
        there = earlier or (gradients if share.sharded else made)
        yield replace(held, name=f"pass over {one.name}", gradients=there, working=peak - made)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A parameter or buffer, as far as this process has it; `away` in main memory beside a GPU."""

    weights: Weights
    size: int
    learns: bool
    sharded: bool
    away: bool


def _parts(stage: StageConfig, work: StageWork, share: Share) -> Iterator[_Part]:
    learning = {
        f"{name}.{key}": parameter
        for name, module in work.trained.items()
        for key, parameter in module.named_parameters()
        if parameter.requires_grad
    }
    matrices = {id(one) for one in hidden_matrices(work.trained, learning)}
    for name, module in work.trained.items():
        sharded = share.sharded and name in work.shardable
        for tensor in (*module.parameters(), *module.buffers()):
            split = sharded and isinstance(tensor, nn.Parameter) and tensor.ndim > 0
            shape = (-(-tensor.shape[0] // share.count), *tensor.shape[1:]) if split else tuple(tensor.shape)
            weights = Weights(shape=shape, is_matrix=id(tensor) in matrices)
            yield _Part(
                weights=weights,
                size=weights.size * tensor.element_size(),
                learns=tensor.requires_grad,
                sharded=split,
                away=split and stage.parallel.cpu_offload and share.kind == "gpu",
            )


def _optimized(
    stage: StageConfig, learning: Iterable[_Part], *, offloads: bool
) -> tuple[list[Weights], list[Weights]]:
    """What is updated on the device, and what in main memory: all that is AdamW's."""
    near: list[Weights] = []
    far: list[Weights] = []
    for part in learning:
        is_muons = stage.optimizer.name == "muon" and part.weights.is_matrix
        goes = offloads and not is_muons and stage.optimizer.name != "adamw8bit"
        (far if goes else near).append(part.weights)
    return near, far


def _offloaded(stage: StageConfig, far: Sequence[Weights]) -> int:
    return optimizer_memory.moments(stage.optimizer, far) + 2 * _FLOAT * sum(one.size for one in far)


def _all_of(stage: StageConfig, parts: Sequence[_Part]) -> int:
    learning = [part.weights for part in parts if part.learns]
    copies = 2 if stage.ema_decay else 1
    learned = optimizer_memory.moments(stage.optimizer, learning) + _FLOAT * copies * sum(w.size for w in learning)
    return sum(part.size for part in parts) + learned


def _averaging(learning: Sequence[_Part], share: Share) -> int:
    """Gradients that processes send each other at once, flattened and put together."""
    whole = [part.size for part in learning if not part.sharded]
    if share.count == 1 or not whole:
        return 0
    return 2 * max(min(_BUCKET, sum(whole)), max(whole))


def _gathered(network: nn.Module, stage: StageConfig, share: Share) -> int:
    """Weights that this process gathers from the others, and gradients on their way to them (FSDP2)."""
    own = blocks(network)
    number = _HALF if share.bf16 else _FLOAT
    sizes = [sum(parameter.numel() for parameter in block.parameters()) for block in own]
    around = sum(parameter.numel() for parameter in network.parameters()) - sum(sizes)
    largest = max(sizes, default=0)
    # One block at work and the next one on its way; or all of them, where they are kept for the backward pass.
    weights = number * (2 * largest if stage.parallel.reshard_after_forward else sum(sizes) + largest)
    # A block's gradients, and two blocks' in float32, one being made ready while the other is sent.
    gradients = number * largest + 2 * _FLOAT * largest
    return weights + gradients + 2 * _FLOAT * around


def _whole(stage: StageConfig, work: StageWork) -> int:
    """Bytes of all that a checkpoint holds of the sharded networks, which the main process gathers."""
    learning = [
        Weights(shape=tuple(parameter.shape))
        for name in work.shardable
        for parameter in work.trained[name].parameters()
        if parameter.requires_grad
    ]
    numbers = sum(one.size for one in learning)
    return optimizer_memory.moments(stage.optimizer, learning) + _FLOAT * numbers * (2 if stage.ema_decay else 1)


def _bytes(module: nn.Module) -> int:
    tensors = (*module.parameters(), *module.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

"""Memory of one process at each moment of a stage: in a pass, in an optimizer step, while making samples."""

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
    """Bytes on the device at one moment.

    Attributes:
        name: name of the moment.
        trained, frozen: weights and buffers of the trained networks, and of the frozen encoders.
        gradients, optimizer, average: gradients, optimizer state and EMA weights of the trainable parameters.
        data: data kept on the device.
        working: activations and other temporary tensors.
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
        """The sum."""
        return sum(getattr(self, one.name) for one in fields(self) if one.name != "name")


@dataclass(frozen=True, kw_only=True)
class StageMemory:
    """The moments of a stage, and the bytes that a GPU's process keeps in main memory, by kind."""

    moments: tuple[Moment, ...]
    main_memory: Mapping[str, int]

    @property
    def peak(self) -> Moment:
        """The moment of the peak memory."""
        return max(self.moments, key=lambda moment: moment.total)

    @property
    def working(self) -> int:
        """Peak bytes of temporary tensors in a pass."""
        return max(moment.working for moment in self.moments if moment.name.startswith("pass"))


@dataclass(frozen=True, kw_only=True)
class Share:
    """Division of a stage among processes.

    Attributes:
        kind: kind of device.
        count: number of processes, each with its own device.
        sharded: whether the weights of the large networks are sharded.
        bf16: whether passes are computed in bfloat16.
        accumulates: whether a process makes several passes per step.
    """

    kind: DeviceKind
    count: int
    sharded: bool
    bf16: bool
    accumulates: bool


def stage_memory(stage: StageConfig, work: StageWork, measured: StageMeasure, share: Share) -> StageMemory:
    """Return the moments of a stage.

    Args:
        measured: costs of its passes and samples.
    """
    on_gpu, parts = share.kind == "gpu", list(_parts(stage, work, share))
    here = [part for part in parts if not part.away]
    trainable = [part for part in here if part.trainable]
    near, far = _optimized(stage, trainable, offloads=stage.optimizer.offload and on_gpu)
    averaged = _FLOAT * sum(part.weights.size for part in trainable) if stage.ema_decay else 0
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
    gradients = sum(part.size for part in trainable)
    gathered = sum(_gathered(work.trained[name], stage, share) for name in work.shardable) if share.sharded else 0
    moments = [*_passes(work, measured, share, held, gradients, gathered)]
    stepping = max(optimizer_memory.working(stage.optimizer, near), _averaging(trainable, share))
    moments.append(replace(held, name="optimizer step", gradients=gradients, working=stepping))
    if measured.samples:
        most = max(one.peak for one in measured.samples.values())
        moments.append(replace(held, name="making samples", frozen=frozen, working=most + gathered))
    whole = _whole(stage, work) if share.sharded else 0
    if whole and not on_gpu:
        moments.append(replace(held, name="saving a checkpoint", working=whole))
    away = [part for part in parts if part.away]
    main = {
        "sharded weights, gradients, moments, averages": _all_of(stage, away),
        "moments, and copies of weights and gradients": _offloaded(stage, far),
        "averages": averaged - held.average,
        "activations": max(one.waiting for one in measured.passes.values()),
        "a checkpoint of whole weights": whole if on_gpu else 0,
    }
    return StageMemory(moments=tuple(moments), main_memory={name: size for name, size in main.items() if size})


def _passes(
    work: StageWork, measured: StageMeasure, share: Share, held: Moment, gradients: int, gathered: int
) -> Iterator[Moment]:
    earlier = gradients if share.accumulates else 0
    for one in work.passes:
        if one.encoders:
            peak = measured.encoding[one.name].peak
            yield replace(held, name=f"encoding {one.name}", gradients=earlier, working=peak)
        peak = measured.passes[one.name].peak + gathered + (one.held if share.kind == "cpu" else 0)
        # Gradients that did not exist before the pass are part of its measured peak.
        created = 0 if earlier or share.sharded else min(gradients, peak)
        existing = earlier or (gradients if share.sharded else created)
        yield replace(held, name=f"pass over {one.name}", gradients=existing, working=peak - created)


@dataclass(frozen=True, kw_only=True)
class _Part:
    """This process's shard of a parameter or buffer; `away` if it is in main memory instead of on the GPU."""

    weights: Weights
    size: int
    trainable: bool
    sharded: bool
    away: bool


def _parts(stage: StageConfig, work: StageWork, share: Share) -> Iterator[_Part]:
    trainable = {
        f"{name}.{key}": parameter
        for name, module in work.trained.items()
        for key, parameter in module.named_parameters()
        if parameter.requires_grad
    }
    matrices = {id(one) for one in hidden_matrices(work.trained, trainable)}
    for name, module in work.trained.items():
        sharded = share.sharded and name in work.shardable
        for tensor in (*module.parameters(), *module.buffers()):
            split = sharded and isinstance(tensor, nn.Parameter) and tensor.ndim > 0
            shape = (-(-tensor.shape[0] // share.count), *tensor.shape[1:]) if split else tuple(tensor.shape)
            weights = Weights(shape=shape, is_matrix=id(tensor) in matrices)
            yield _Part(
                weights=weights,
                size=weights.size * tensor.element_size(),
                trainable=tensor.requires_grad,
                sharded=split,
                away=split and stage.parallel.cpu_offload and share.kind == "gpu",
            )


def _optimized(
    stage: StageConfig, trainable: Iterable[_Part], *, offloads: bool
) -> tuple[list[Weights], list[Weights]]:
    """Split the weights into those updated on the device and those in main memory (all of AdamW's)."""
    near: list[Weights] = []
    far: list[Weights] = []
    for part in trainable:
        is_muons = stage.optimizer.name == "muon" and part.weights.is_matrix
        goes = offloads and not is_muons and stage.optimizer.name != "adamw8bit"
        (far if goes else near).append(part.weights)
    return near, far


def _offloaded(stage: StageConfig, far: Sequence[Weights]) -> int:
    return optimizer_memory.moments(stage.optimizer, far) + 2 * _FLOAT * sum(one.size for one in far)


def _all_of(stage: StageConfig, parts: Sequence[_Part]) -> int:
    trainable = [part.weights for part in parts if part.trainable]
    copies = 2 if stage.ema_decay else 1
    state = optimizer_memory.moments(stage.optimizer, trainable) + _FLOAT * copies * sum(w.size for w in trainable)
    return sum(part.size for part in parts) + state


def _averaging(trainable: Sequence[_Part], share: Share) -> int:
    """Bytes of the flattened bucket of gradients that processes average at once."""
    whole = [part.size for part in trainable if not part.sharded]
    if share.count == 1 or not whole:
        return 0
    return 2 * max(min(_BUCKET, sum(whole)), max(whole))


def _gathered(network: nn.Module, stage: StageConfig, share: Share) -> int:
    """Bytes of weights gathered from the other processes, and of gradients before they are reduced (FSDP2)."""
    own = blocks(network)
    number = _HALF if share.bf16 else _FLOAT
    sizes = [sum(parameter.numel() for parameter in block.parameters()) for block in own]
    around = sum(parameter.numel() for parameter in network.parameters()) - sum(sizes)
    largest = max(sizes, default=0)
    # The block that is computed and the next one, which is prefetched; or all, if kept for the backward pass.
    weights = number * (2 * largest if stage.parallel.reshard_after_forward else sum(sizes) + largest)
    # One block's gradients, and two blocks' in float32: one is prepared while the other is sent.
    gradients = number * largest + 2 * _FLOAT * largest
    return weights + gradients + 2 * _FLOAT * around


def _whole(stage: StageConfig, work: StageWork) -> int:
    """Bytes of the sharded networks' part of a checkpoint, which rank 0 gathers."""
    trainable = [
        Weights(shape=tuple(parameter.shape))
        for name in work.shardable
        for parameter in work.trained[name].parameters()
        if parameter.requires_grad
    ]
    numbers = sum(one.size for one in trainable)
    return optimizer_memory.moments(stage.optimizer, trainable) + _FLOAT * numbers * (2 if stage.ema_decay else 1)


def _bytes(module: nn.Module) -> int:
    tensors = (*module.parameters(), *module.buffers())
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

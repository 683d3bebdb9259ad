"""The passes of a stage, run on tensors without content: the bytes that they take at most, and their operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from videocrafter.training.planning.meter import ComputeAs, DeviceKind, Meter, checkpointing_as, tensors_of
from videocrafter.training.planning.work import Call, Pass, StageWork


@dataclass(frozen=True, kw_only=True)
class Conditions:
    """How passes are computed.

    Attributes:
        kind: of device.
        bf16: within autocast to bfloat16.
        accumulates: whether gradients of earlier passes of the step are there.
        gathered_bf16: whether the weights come in bfloat16 already, as those that are sharded do.
        offloads: whether what the forward pass keeps waits in main memory.
    """

    kind: DeviceKind
    bf16: bool
    accumulates: bool = False
    gathered_bf16: bool = False
    offloads: bool = False


@dataclass(frozen=True, kw_only=True)
class Taken:
    """What one computation takes.

    Attributes:
        peak: bytes beside weights and data, and beside gradients that were there before.
        flops: two for each multiplication with its addition.
        waiting: bytes in main memory meanwhile.
    """

    peak: int = 0
    flops: float = 0.0
    waiting: int = 0


@dataclass(frozen=True, kw_only=True)
class StageMeasure:
    """What a stage's computations take: passes and the encoding before them by kind of pass, samples by part."""

    passes: Mapping[str, Taken]
    encoding: Mapping[str, Taken] = field(default_factory=dict)
    samples: Mapping[str, Taken] = field(default_factory=dict)


def measure(work: StageWork, conditions: Conditions) -> StageMeasure:
    """Run everything once. The networks may be of other types afterwards, so take ones of its own."""
    encoding = {one.name: _together(work, one.encoders.values(), conditions) for one in work.passes}
    # Looking at samples is done in float32, but for sharded weights.
    plain = Conditions(kind=conditions.kind, bf16=conditions.gathered_bf16)
    samples = {name: _call(work, call, plain) for name, call in work.samples.items()}
    if conditions.gathered_bf16:
        for name in work.shardable:
            work.trained[name].to(torch.bfloat16)
    if work.checkpointed:
        again = checkpointing_as(conditions.kind, bf16=conditions.bf16)
        work.trained["unet"].enable_gradient_checkpointing(again)  # type: ignore[operator]
    passes = {one.name: _pass(work, one, conditions) for one in work.passes}
    return StageMeasure(passes=passes, encoding=encoding, samples=samples)


def _networks(work: StageWork) -> list[nn.Module]:
    return [*work.trained.values(), *work.frozen.values()]


def _pass(work: StageWork, one: Pass, conditions: Conditions) -> Taken:
    networks = _networks(work)
    learning = [p for network in networks for p in network.parameters() if p.requires_grad]
    for network in work.trained.values():
        network.train(any(parameter.requires_grad for parameter in network.parameters()))
    for parameter in learning:
        parameter.grad = torch.empty_like(parameter) if conditions.accumulates else None
    waiting = _Waiting()
    with Meter(tensors_of(networks)) as meter:
        with (
            ComputeAs(conditions.kind, bf16=conditions.bf16),
            waiting.room() if conditions.offloads else nullcontext(),
        ):
            loss = one.loss()
        loss.backward()
    for parameter in learning:
        parameter.grad = None
    return Taken(peak=meter.peak, flops=meter.flops, waiting=waiting.most)


def _call(work: StageWork, call: Call, conditions: Conditions) -> Taken:
    for network in _networks(work):
        network.eval()
    known = Meter(tensors_of(_networks(work)))
    with torch.no_grad(), known as meter, ComputeAs(conditions.kind, bf16=conditions.bf16):
        call.run()
    return Taken(peak=meter.peak + call.held, flops=meter.flops * call.times)


def _together(work: StageWork, calls: Iterable[Call], conditions: Conditions) -> Taken:
    """One after the other. The frozen networks run in their own type."""
    found = [_call(work, call, Conditions(kind=conditions.kind, bf16=False)) for call in calls]
    return Taken(peak=max((one.peak for one in found), default=0), flops=sum(one.flops for one in found))


class _Waiting:
    """Counts what autograd keeps and would send to main memory, instead of keeping it."""

    def __init__(self) -> None:
        self.most = self._now = 0

    @contextmanager
    def room(self) -> Iterator[None]:
        """What is kept within leaves the device until the backward pass asks for it."""
        with torch.autograd.graph.saved_tensors_hooks(self._leave, self._come_back):
            yield

    def _leave(self, kept: Tensor) -> tuple[torch.Size, torch.dtype]:
        self._now += kept.numel() * kept.element_size()
        self.most = max(self.most, self._now)
        return kept.shape, kept.dtype

    def _come_back(self, left: tuple[torch.Size, torch.dtype]) -> Tensor:
        made = torch.empty(left[0], dtype=left[1], device="meta")
        self._now -= made.numel() * made.element_size()
        return made

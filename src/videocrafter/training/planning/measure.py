"""Measure the passes of a stage on the meta device: peak memory and floating-point operations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from videocrafter.models.unet import VideoUNet
from videocrafter.training.planning.meter import ComputeAs, DeviceKind, Meter, checkpointing_as, tensors_of
from videocrafter.training.video.work import Call, Pass, StageWork


@dataclass(frozen=True, kw_only=True)
class ComputeSettings:
    """Conditions under which passes are computed.

    Attributes:
        kind: kind of device.
        bf16: compute within autocast to bfloat16.
        accumulates: gradients of earlier passes of the step already exist.
        gathered_bf16: the weights arrive in bfloat16 already, as sharded ones do.
        offloads: activations saved for the backward pass wait in main memory.
    """

    kind: DeviceKind
    bf16: bool
    accumulates: bool = False
    gathered_bf16: bool = False
    offloads: bool = False


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The cost of one computation.

    Attributes:
        peak: bytes, without weights, data and gradients that existed before.
        flops: two for each multiplication with its addition.
        waiting: bytes that wait in main memory meanwhile.
    """

    peak: int = 0
    flops: float = 0.0
    waiting: int = 0


@dataclass(frozen=True, kw_only=True)
class StageMeasure:
    """The costs of a stage: passes and their encoding by kind of pass, samples by part."""

    passes: Mapping[str, Measured]
    encoding: Mapping[str, Measured] = field(default_factory=dict)
    samples: Mapping[str, Measured] = field(default_factory=dict)


def measure(work: StageWork, settings: ComputeSettings) -> StageMeasure:
    """Run everything once. This may change the networks' types, so pass a work that nothing else uses."""
    encoding = {one.name: _together(work, one.encoders.values(), settings) for one in work.passes}
    # Samples are made in float32, except with sharded weights.
    plain = ComputeSettings(kind=settings.kind, bf16=settings.gathered_bf16)
    samples = {name: _call(work, call, plain) for name, call in work.samples.items()}
    if settings.gathered_bf16:
        for name in work.shardable:
            # Not the network's own `to`, with which diffusers warns about the precision.
            nn.Module.to(work.trained[name], torch.bfloat16)
    again = work.checkpointed(checkpointing_as(settings.kind, bf16=settings.bf16))
    for network in work.trained.values():
        if isinstance(network, VideoUNet) and network.is_gradient_checkpointing:
            network.enable_gradient_checkpointing(again)
    passes = {one.name: _pass(work, one, settings) for one in work.passes}
    return StageMeasure(passes=passes, encoding=encoding, samples=samples)


def _networks(work: StageWork) -> list[nn.Module]:
    return [*work.trained.values(), *work.frozen.values()]


def _pass(work: StageWork, one: Pass, settings: ComputeSettings) -> Measured:
    trainable = work.task.trainable_parameters()
    for network in work.trained.values():
        network.train(any(parameter.requires_grad for parameter in network.parameters()))
    for parameter in trainable:
        parameter.grad = torch.empty_like(parameter) if settings.accumulates else None
    waiting = _Waiting()
    with Meter(tensors_of(_networks(work))) as meter:
        with (
            ComputeAs(settings.kind, bf16=settings.bf16),
            waiting.room() if settings.offloads else nullcontext(),
        ):
            loss = one.loss()
        loss.backward()
    for parameter in trainable:
        parameter.grad = None
    return Measured(peak=meter.peak, flops=meter.flops, waiting=waiting.most)


def _call(work: StageWork, call: Call, settings: ComputeSettings) -> Measured:
    for network in _networks(work):
        network.eval()
    known = Meter(tensors_of(_networks(work)))
    with torch.no_grad(), known as meter, ComputeAs(settings.kind, bf16=settings.bf16):
        call.run()
    return Measured(peak=meter.peak + call.held, flops=meter.flops * call.times)


def _together(work: StageWork, calls: Iterable[Call], settings: ComputeSettings) -> Measured:
    """Measure calls one after the other, in the frozen networks' own type."""
    found = [_call(work, call, ComputeSettings(kind=settings.kind, bf16=False)) for call in calls]
    return Measured(peak=max((one.peak for one in found), default=0), flops=sum(one.flops for one in found))


class _Waiting:
    """Counts the bytes that autograd saves and activation offloading moves to main memory, and drops the tensors."""

    def __init__(self) -> None:
        self.most = self._now = 0

    @contextmanager
    def room(self) -> Iterator[None]:
        """Within the context, saved tensors leave the device until the backward pass needs them."""
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

"""The networks of distillation: student, teacher and fake score.

`CopiedNetworks` are whole networks, for full fine-tuning; `adapter_networks.py` has LoRAs on one frozen network.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from videocrafter.models.unet import VideoUNet


class StudentNetworks(Protocol):
    """The networks of distillation. All are called like a `VideoUNet`."""

    def student(self, *inputs: Any) -> Tensor:
        """Call the student."""

    def teacher(self, *inputs: Any) -> Tensor:
        """Call the frozen teacher."""

    def fake(self, *inputs: Any) -> Tensor:
        """Call the fake score; for "matching" only."""

    def modules(self) -> Mapping[str, nn.Module]:
        """Networks in addition to the student's own, by name."""

    def trained(self) -> dict[str, nn.Parameter]:
        """The student's trainable parameters by name."""

    def averaged(self, average: WeightAverage, *inputs: Any) -> Tensor:
        """Call the student with averaged parameters."""


class WeightAverage(nn.Module):
    """An exponential moving average of parameters, as buffers, so that it is saved with a run.

    Args:
        parameters: by name; the average starts as a copy.
        decay: in (0, 1).
    """

    def __init__(self, parameters: Mapping[str, nn.Parameter], decay: float) -> None:
        super().__init__()
        self._decay = decay
        # Not an attribute that is a mapping of parameters: nn.Module has one of that name.
        self._averaged = dict(parameters)
        for name, parameter in parameters.items():
            self.register_buffer(_buffer(name), parameter.detach().clone())

    @torch.no_grad()
    def restart(self) -> None:
        """Set the average to the parameters as they are."""
        for name, parameter in self._averaged.items():
            self.get_buffer(_buffer(name)).copy_(parameter)

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the parameters by one step."""
        for name, parameter in self._averaged.items():
            self.get_buffer(_buffer(name)).lerp_(parameter, 1 - self._decay)

    def values(self) -> dict[str, Tensor]:
        """Return the averages by the names of the parameters."""
        return {name: self.get_buffer(_buffer(name)) for name in self._averaged}


def _buffer(name: str) -> str:
    return name.replace(".", "/")


class CopiedNetworks:
    """Student, teacher and fake score as whole networks, for full fine-tuning.

    Args:
        student: trained in part or in whole.
        teacher: frozen here.
        with_fake: whether to add a fake score: a copy of the teacher that is trained like the student.
    """

    def __init__(self, student: VideoUNet, teacher: VideoUNet, *, with_fake: bool) -> None:
        self._student, self._teacher = student, teacher.requires_grad_(False).eval()
        self._fake = _like(teacher, student) if with_fake else None

    def student(self, *inputs: Any) -> Tensor:
        """Call the student."""
        return call_network(self._student, *inputs)

    def teacher(self, *inputs: Any) -> Tensor:
        """Call the frozen teacher."""
        return call_network(self._teacher, *inputs)

    def fake(self, *inputs: Any) -> Tensor:
        """Call the fake score."""
        assert self._fake is not None
        return call_network(self._fake, *inputs)

    def modules(self) -> Mapping[str, nn.Module]:
        """The teacher, and the fake score if there is one."""
        return {"teacher": self._teacher, **({} if self._fake is None else {"fake_score": self._fake})}

    def trained(self) -> dict[str, nn.Parameter]:
        """The student's trainable parameters by name."""
        return {name: one for name, one in self._student.named_parameters() if one.requires_grad}

    def averaged(self, average: WeightAverage, *inputs: Any) -> Tensor:
        """Call the student with averaged parameters."""
        return call_network(self._student, *inputs, parameters=average.values())


def call_network(network: VideoUNet, *inputs: Any, parameters: Mapping[str, Tensor] | None = None) -> Tensor:
    """Call a network in its own precision.

    Args:
        inputs: noisy latents, timesteps, text, fps and image tokens, as for `VideoUNet`.
        parameters: take the place of its own, by name.
    """
    noisy, time_B, text, fps, image = inputs
    dtype = network.dtype
    image = None if image is None else image.to(dtype)
    given = (noisy.to(dtype), time_B, text.to(dtype), fps, image)
    if parameters is not None:
        prediction: Tensor = torch.func.functional_call(network, dict(parameters), given)
        return prediction
    called: Tensor = network(*given)
    return called


def _like(network: VideoUNet, trained: VideoUNet) -> VideoUNet:
    """Return a copy of a network in which the same parameters are trained, in the same precision."""
    made = copy.deepcopy(network)
    # Not the network's own `to`, with which diffusers warns about the precision.
    nn.Module.to(made, next(trained.parameters()).dtype)
    for mine, theirs in zip(made.parameters(), trained.parameters(), strict=True):
        mine.requires_grad_(theirs.requires_grad)
    return made

"""The three phases of a generation: encode, sample, decode."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from torch import Tensor

from videocrafter.pipelines.denoising import Conditions
from videocrafter.pipelines.output import OutputType
from videocrafter.pipelines.settings import VideoRequest
from videocrafter.pipelines.step_end import StepEnd

AfterStep = Callable[[int, Tensor], Tensor]
"""Called after every step with (step index, latents); returns the latents to continue with."""


@dataclass(frozen=True, kw_only=True)
class EncodedRequest:
    """A request with its encoded conditions, ready for sampling."""

    request: VideoRequest
    conditional: Conditions
    unconditional: Conditions | None
    on_step_end: StepEnd = field(default_factory=StepEnd)


class Phases(Protocol):
    """The three phases, which a `DerivedPipeline` replaces with its own."""

    def encode(self, request: VideoRequest, image: Any) -> tuple[Conditions, Conditions | None]:
        """Return the conditions of both branches; the second is None without guidance."""

    def sample(self, encoded: EncodedRequest) -> Tensor:
        """Return latents [N, C, T, h, w]."""

    def decode(self, request: VideoRequest, latents: Tensor, output_type: OutputType) -> Any:
        """Return frames in the form of `output_type`."""

"""State of the calls of a pipeline, which callbacks read and change as in diffusers.

diffusers keeps it in attributes of the pipeline (`_guidance_scale`, `_interrupt`), which two threads would overwrite.
Here each call has its own. The attributes remain, as properties: inside a call they are those of this call, elsewhere
those of the latest call, so that any thread can interrupt it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import Any

from videocrafter.pipelines.plain_numbers import plain_number
from videocrafter.pipelines.sampling_settings import SamplingSettings


@dataclass
class Call:
    """State of one call of a pipeline.

    Attributes:
        sampling: settings of the steps to come; a callback may change them.
        num_timesteps: how often the network's prediction is used, as `callback_on_step_end` counts.
        is_interrupted: whether to skip the remaining steps.
        cross_attention_kwargs: as passed by the caller.
    """

    sampling: SamplingSettings
    num_timesteps: int = 0
    is_interrupted: bool = False
    cross_attention_kwargs: Mapping[str, Any] | None = None
    _owner: int = field(default=0, repr=False)  # not the pipeline itself, which the cycle would keep in memory


_RUNNING: ContextVar[tuple[Call, ...]] = ContextVar("running calls, the innermost last", default=())


class CallStateMixin:
    """diffusers' properties of a call, for a pipeline."""

    generation_defaults: Any
    _latest_call: Call | None = None

    @contextmanager
    def begin_call(
        self, sampling: SamplingSettings, cross_attention_kwargs: Mapping[str, Any] | None = None
    ) -> Iterator[Call]:
        """Make a new call the current one of this thread within the context, and the latest one of the pipeline."""
        call = Call(sampling=sampling, cross_attention_kwargs=cross_attention_kwargs, _owner=id(self))
        self._latest_call = call
        token = _RUNNING.set((*_RUNNING.get(), call))
        try:
            yield call
        finally:
            _RUNNING.reset(token)

    @property
    def running_call(self) -> Call | None:
        """The innermost call of this pipeline that runs in this thread, or None."""
        return next((call for call in reversed(_RUNNING.get()) if call._owner == id(self)), None)

    @property
    def current_call(self) -> Call | None:
        """The running call of this thread, otherwise the latest call; None before the first."""
        return self.running_call or self._latest_call

    def _sampling(self) -> SamplingSettings:
        call = self.current_call
        return self.generation_defaults.sampling if call is None else call.sampling

    @property
    def guidance_scale(self) -> float:
        """Guidance scale of the current call; before the first, the recommended one."""
        return self._sampling().guidance_scale

    @property
    def guidance_rescale(self) -> float:
        """Guidance rescale of the current call."""
        return self._sampling().guidance_rescale

    @property
    def do_classifier_free_guidance(self) -> bool:
        """Whether the next step of the current call has an unconditional branch."""
        return self._sampling().needs_unconditional

    @property
    def num_timesteps(self) -> int:
        """Number of steps of the current call, as `callback_on_step_end` counts them; 0 before the first."""
        call = self.current_call
        return 0 if call is None else call.num_timesteps

    @property
    def interrupt(self) -> bool:
        """Whether the current call was asked to stop (`pipeline._interrupt = True`)."""
        call = self.current_call
        return call is not None and call.is_interrupted

    @property
    def cross_attention_kwargs(self) -> Mapping[str, Any] | None:
        """`cross_attention_kwargs` of the current call."""
        call = self.current_call
        return None if call is None else call.cross_attention_kwargs

    @property
    def _interrupt(self) -> bool:
        return self.interrupt

    @_interrupt.setter
    def _interrupt(self, value: bool) -> None:
        call = self.current_call
        if call is not None:
            call.is_interrupted = bool(value)

    @property
    def _num_timesteps(self) -> int:
        return self.num_timesteps

    @property
    def _guidance_scale(self) -> float:
        return self.guidance_scale

    @_guidance_scale.setter
    def _guidance_scale(self, value: float) -> None:
        """Set the scale from the next step on; 1 or below turns text and image guidance off, as in diffusers."""
        scale = plain_number("_guidance_scale", value)
        self._change(guidance_scale=scale, **({} if scale > 1 else {"image_guidance_scale": None}))

    @property
    def _guidance_rescale(self) -> float:
        return self.guidance_rescale

    @_guidance_rescale.setter
    def _guidance_rescale(self, value: float) -> None:
        self._change(guidance_rescale=plain_number("_guidance_rescale", value))

    def _change(self, **settings: Any) -> None:
        call = self.current_call
        if call is not None:
            call.sampling = replace(call.sampling, **settings)

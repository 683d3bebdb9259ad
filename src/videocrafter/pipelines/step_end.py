"""`callback_on_step_end` with diffusers' contract: which tensors a callback sees, and what it may change.

A callback is called with (pipeline, step, timestep, tensors) and returns the tensors to continue with, or None. It
may also set `pipeline._guidance_scale` and `pipeline._interrupt`. diffusers' own callbacks work, such as
`SDCFGCutoffCallback`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback
from torch import Tensor

from videocrafter.pipelines.call_state import Call
from videocrafter.pipelines.denoising import Conditions, StepChange

StepEndCallback = Callable[[Any, int, Any, dict[str, Any]], Mapping[str, Any] | None]
"""diffusers' convention: called with (pipeline, step, timestep, tensors); may return new ones."""

DEFAULT_INPUTS = ("latents", "denoised")
_HALVES = {"prompt_embeds": "text", "image_embeds": "image"}


@dataclass(frozen=True, kw_only=True)
class StepEnd:
    """A callback with the names of the tensors that it wants.

    Attributes:
        callback: the caller's, or None.
        inputs: names of the tensors that it is given.
    """

    callback: StepEndCallback | None = None
    inputs: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, callback: StepEndCallback | None, tensor_inputs: Sequence[str] | None, allowed: Sequence[str]
    ) -> StepEnd:
        """Check the arguments of a call. diffusers' own callbacks name the tensors that they need themselves.

        Raises ValueError for a callback that cannot be called, or a tensor that the pipeline does not have.
        """
        if callback is None:
            return cls()
        if not callable(callback):
            raise ValueError(f"callback_on_step_end must be callable, but is {callback!r}")
        if isinstance(callback, PipelineCallback | MultiPipelineCallbacks):
            tensor_inputs = callback.tensor_inputs
        if isinstance(tensor_inputs, str):
            raise ValueError(f"callback_on_step_end_tensor_inputs must be a list, but is {tensor_inputs!r}")
        inputs = DEFAULT_INPUTS if tensor_inputs is None else tuple(dict.fromkeys(tensor_inputs))
        unknown = [name for name in inputs if name not in allowed]
        if unknown:
            raise ValueError(
                f"callback_on_step_end_tensor_inputs names {unknown[0]!r}; this pipeline has {', '.join(allowed)}"
            )
        return cls(callback=callback, inputs=inputs)

    @property
    def wants_estimate(self) -> bool:
        """Whether the callback is given "denoised", the estimate of the final latents."""
        return "denoised" in self.inputs


class StepEndHook:
    """Calls the callback after each step of one sampling loop, and turns what it changes into a `StepChange`.

    Args:
        pipeline: passed to the callback.
        call: the current call, whose settings the callback may change.
        step_end: the callback.
        conditional, unconditional: the conditions of the first step.
    """

    def __init__(
        self,
        pipeline: Any,
        call: Call,
        step_end: StepEnd,
        conditional: Conditions,
        unconditional: Conditions | None,
    ) -> None:
        self.pipeline = pipeline
        self.call = call
        self.step_end = step_end
        self.conditional = conditional
        self.unconditional = unconditional
        self.sampling = call.sampling

    def after_step(self, index: int, timestep: Tensor, latents: Tensor, denoised: Tensor | None) -> StepChange:
        """Return what to change before the next step.

        Raises ValueError for something else than a mapping, for tensors of another shape, and for guidance that is
        turned on after sampling began without it.
        """
        conditional, unconditional = self.conditional, self.unconditional
        if self.step_end.callback is not None:
            tensors = self._tensors(latents, denoised)
            returned = self.step_end.callback(self.pipeline, index, timestep, tensors)
            latents = self._apply(returned, latents)
        sampling = self.call.sampling
        if sampling.needs_unconditional and self.unconditional is None:
            raise ValueError(
                "guidance cannot be turned on while sampling: there is no unconditional branch; begin with a"
                " guidance_scale above 1"
            )
        changes_network = (
            sampling != self.sampling
            or self.conditional is not conditional
            or self.unconditional is not unconditional
        )
        self.sampling = sampling
        return StepChange(
            latents=latents,
            conditional=self.conditional if changes_network else None,
            unconditional=self.unconditional if sampling.needs_unconditional else None,
            settings=sampling,
            stop=self.call.is_interrupted,
        )

    def _tensors(self, latents: Tensor, denoised: Tensor | None) -> dict[str, Tensor | None]:
        """Return the tensors for the callback. Of embeddings it is given copies, so that changes can be seen."""
        guided = self.unconditional if self.sampling.needs_unconditional else None
        values: dict[str, Tensor | None] = {"latents": latents, "denoised": denoised}
        for name, part in _HALVES.items():
            own = getattr(self.conditional, part)
            null = None if guided is None else getattr(guided, part)
            values[name] = None if own is None else torch.cat([own] if null is None else [null, own])
        values["negative_prompt_embeds"] = None if guided is None else guided.text.clone()
        return {name: values[name] for name in self.step_end.inputs}

    def _apply(self, returned: Any, latents: Tensor) -> Tensor:
        """Take over what the callback returned; return the latents. As in diffusers, other names are ignored."""
        if returned is None:
            returned = {}
        if not isinstance(returned, Mapping):
            raise ValueError(
                f"callback_on_step_end must return a dict of tensors or None, but returned {type(returned).__name__}"
            )
        null = None if self.unconditional is None else self.unconditional.text
        for name, part in _HALVES.items():
            if returned.get(name) is not None:
                self._replace(name, part, returned[name])
        text = returned.get("negative_prompt_embeds")
        if text is not None and self.unconditional is not None and null is not None:
            text = _checked("negative_prompt_embeds", text, null)
            # Unchanged, it must not undo a change in the first half of prompt_embeds.
            if not torch.equal(text, null):
                self.unconditional = replace(self.unconditional, text=text)
        changed = returned.get("latents")
        return latents if changed is None else _checked("latents", changed, latents)

    def _replace(self, name: str, part: str, value: Any) -> None:
        """Replace the tokens of one kind: of the videos, or of both branches, the unconditional one first."""
        own = getattr(self.conditional, part)
        count = len(own)
        if _is_row(value, own[-1:]) and count > 1:
            # diffusers' cut-off callbacks take the last row to drop the unconditional branch, also from a batch.
            return
        if self.unconditional is not None and isinstance(value, Tensor) and value.shape[:1] == (2 * count,):
            null = getattr(self.unconditional, part)
            both = _checked(name, value, torch.cat([null, own]))
            if not torch.equal(both[:count], null):
                self.unconditional = replace(self.unconditional, **{part: both[:count]})
            value = both[count:]
        value = _checked(name, value, own)
        if not torch.equal(value, own):
            self.conditional = replace(self.conditional, **{part: value})


def _is_row(value: Any, row: Tensor) -> bool:
    if not isinstance(value, Tensor) or value.shape != row.shape:
        return False
    return torch.equal(value.to(row), row)


def _checked(name: str, value: Any, like: Tensor) -> Tensor:
    """Return a tensor that a callback returned, in the dtype and on the device of the one that it replaces."""
    if not isinstance(value, Tensor) or value.shape != like.shape:
        given = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
        raise ValueError(f"callback_on_step_end returned {name} of {given}; expected a tensor {list(like.shape)}")
    return value.to(like)

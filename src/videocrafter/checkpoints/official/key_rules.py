"""Rules that map a tensor of an official checkpoint to parameters of our networks, and back.

A rule names a tensor on both sides and how it changes: not at all, by trailing axes of size 1, or by stacking several
of our parameters into one tensor. Both directions follow from the same rule, so a round trip is bit-identical.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One official tensor and the matching parameters of our network.

    Attributes:
        official: key in an official checkpoint, prefix included.
        own: names in our network's state dict. Several names split the official tensor's first axis into equal
            parts, in this order (OpenCLIP stores query, key and value as one matrix).
        unit_axes: number of trailing axes of size 1 that only the official tensor has. A convolution with kernel
            size 1 is a linear layer here (`[o, i, 1]`: 1, `[o, i, 1, 1]`: 2), and a convolution over frames has one
            spatial axis fewer (`[o, i, 3, 1, 1]`: 1).
    """

    official: str
    own: tuple[str, ...]
    unit_axes: int = 0

    def to_own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return our parameters by name, as views of the official tensor in `tensors`.

        Works on the meta device too. Raises ValueError for a shape that does not fit the rule.
        """
        key = self.official
        tensor = tensors[key]
        ending = tuple(tensor.shape[max(tensor.ndim - self.unit_axes, 0) :])
        if ending != (1,) * self.unit_axes:
            raise ValueError(
                f"{key} has shape {tuple(tensor.shape)}; expected {self.unit_axes} trailing axes of size 1"
            )
        tensor = tensor.reshape(tensor.shape[: tensor.ndim - self.unit_axes])
        if len(self.own) == 1:
            return {self.own[0]: tensor}
        if tensor.ndim == 0 or tensor.shape[0] % len(self.own):
            raise ValueError(
                f"{key} has shape {tuple(tensor.shape)}; expected a first axis of {len(self.own)} equal parts"
            )
        return dict(zip(self.own, tensor.chunk(len(self.own)), strict=True))

    def to_official(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the official tensor by key, built from our parameters in `tensors`.

        Raises ValueError if parameters that share one official tensor differ in shape.
        """
        parts = [tensors[name] for name in self.own]
        if len({part.shape for part in parts}) != 1:
            shapes = ", ".join(str(tuple(part.shape)) for part in parts)
            raise ValueError(f"{', '.join(self.own)} have shapes {shapes}; expected equal shapes")
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        return {self.official: tensor.reshape(*tensor.shape, *[1] * self.unit_axes)}


def tensor_rules(
    official: str, own: str, names: Iterable[tuple[str, str]], *, unit_axes: int = 0
) -> tuple[Rule, ...]:
    """Return a rule for each (official, own) pair of tensor names below the two prefixes."""
    return tuple(
        Rule(official=f"{official}{name}", own=(f"{own}{own_name}",), unit_axes=unit_axes) for name, own_name in names
    )


def module_rules(
    official: str, own: str, names: Iterable[tuple[str, str]], *, weight_axes: int = 0
) -> tuple[Rule, ...]:
    """Return two rules, for weight and bias, for each (official, own) pair of modules below the two prefixes."""
    made: list[Rule] = []
    for name, own_name in names:
        made += tensor_rules(official, own, ((f"{name}.weight", f"{own_name}.weight"),), unit_axes=weight_axes)
        made += tensor_rules(official, own, ((f"{name}.bias", f"{own_name}.bias"),))
    return tuple(made)


def with_prefix(prefix: str, rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules with a prefix added to every official key."""
    return tuple(replace(rule, official=f"{prefix}{rule.official}") for rule in rules)

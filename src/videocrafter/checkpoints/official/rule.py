"""How tensors of an official checkpoint become parameters of ours, and back: one rule for each official tensor.

A rule is data. It names the tensor on both sides and says what changes: nothing, axes of size 1 at the end, or
one tensor that holds several of ours on top of each other. Both directions follow from it, so what goes there
and back is identical bit by bit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One official tensor and the parameter or parameters that it is.

    Attributes:
        official: key in an official checkpoint, prefix included.
        own: names in the state dict of our part. Several share the official tensor's first axis in equal parts,
            in this order (OpenCLIP keeps query, key and value in one matrix).
        unit_axes: how many axes of size 1 the official tensor has at its end that ours lacks. A convolution
            over nothing but its own place is a linear layer (`[o, i, 1]`: 1, `[o, i, 1, 1]`: 2), and one over
            frames alone needs no third axis (`[o, i, 3, 1, 1]`: 1).
    """

    official: str
    own: tuple[str, ...]
    unit_axes: int = 0

    def to_own(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The parameters, by our names, as views; `tensors` holds the official tensor under its key.

        Works on the meta device too. Raises ValueError for a shape that the rule does not fit.
        """
        key = self.official
        tensor = tensors[key]
        ending = tuple(tensor.shape[max(tensor.ndim - self.unit_axes, 0) :])
        if ending != (1,) * self.unit_axes:
            raise ValueError(
                f"{key} has shape {tuple(tensor.shape)}, but must end in {self.unit_axes} axes of size 1"
            )
        tensor = tensor.reshape(tensor.shape[: tensor.ndim - self.unit_axes])
        if len(self.own) == 1:
            return {self.own[0]: tensor}
        if tensor.ndim == 0 or tensor.shape[0] % len(self.own):
            raise ValueError(
                f"{key} has shape {tuple(tensor.shape)}, but its first axis must hold {len(self.own)} equal parts"
            )
        return dict(zip(self.own, tensor.chunk(len(self.own)), strict=True))

    def to_official(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The official tensor, by its key; `tensors` holds the parameters under our names.

        Raises ValueError if parameters that share one official tensor differ in shape.
        """
        parts = [tensors[name] for name in self.own]
        if len({part.shape for part in parts}) != 1:
            shapes = ", ".join(str(tuple(part.shape)) for part in parts)
            raise ValueError(f"{self.own[0]} and its neighbours have shapes {shapes}; they must be equal")
        tensor = parts[0] if len(parts) == 1 else torch.cat(parts)
        return {self.official: tensor.reshape(*tensor.shape, *[1] * self.unit_axes)}


def tensor_rules(
    official: str, own: str, names: Iterable[tuple[str, str]], *, unit_axes: int = 0
) -> tuple[Rule, ...]:
    """A rule for each (official, own) pair of tensor names below the two prefixes."""
    return tuple(
        Rule(official=f"{official}{name}", own=(f"{own}{own_name}",), unit_axes=unit_axes) for name, own_name in names
    )


def module_rules(
    official: str, own: str, names: Iterable[tuple[str, str]], *, weight_axes: int = 0
) -> tuple[Rule, ...]:
    """Two rules, weight and bias, for each (official, own) pair of module names below the two prefixes."""
    made: list[Rule] = []
    for name, own_name in names:
        made += tensor_rules(official, own, ((f"{name}.weight", f"{own_name}.weight"),), unit_axes=weight_axes)
        made += tensor_rules(official, own, ((f"{name}.bias", f"{own_name}.bias"),))
    return tuple(made)


def with_prefix(prefix: str, rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """The same rules with a prefix before every official key."""
    return tuple(replace(rule, official=f"{prefix}{rule.official}") for rule in rules)

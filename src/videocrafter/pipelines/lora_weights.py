"""Weights of LoRAs: one number, or one per network, or one per layer."""

from __future__ import annotations

from collections.abc import Mapping

from videocrafter.checkpoints.lora.target_layers import NETWORKS

NetworkWeight = float | Mapping[str, float] | None
AdapterWeight = float | Mapping[str, NetworkWeight] | None
"""Weight of a LoRA; see `VideoLoraMixin.set_adapters`."""


def network_weight(weight: AdapterWeight, part: str) -> NetworkWeight:
    """Return the weight of a LoRA in one network."""
    if not isinstance(weight, Mapping):
        return weight
    unknown = sorted(set(weight) - set(NETWORKS))
    if unknown:
        raise ValueError(f"weights can be set for {' and '.join(NETWORKS)}, but not for {unknown[0]!r}")
    return weight.get(part)


def layer_weight(weight: NetworkWeight, layer: str) -> float:
    """Return the weight of a LoRA in one layer, 1 if it has none."""
    if isinstance(weight, Mapping):
        weight = next((value for prefix, value in weight.items() if layer.startswith(prefix)), None)
    if isinstance(weight, Mapping):
        raise ValueError(
            f"a weight per layer must be a number, but is {weight!r}; use a longer name, as 'down_stages.1'"
        )
    return 1.0 if weight is None else weight

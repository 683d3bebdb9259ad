"""LoRA training: the layers that get a LoRA, and its size (Hu et al. 2021)."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

LoraLayers = Literal["attention", "temporal", "spatial", "all"]

_PROJECTIONS = r"(?:to_q|to_k|to_v|to_out)"
_PATTERNS: dict[str, str] = {
    "attention": rf".*\.{_PROJECTIONS}",
    "temporal": rf"(?:.*\.temporal|temporal_in)\..*\.{_PROJECTIONS}",
    "spatial": rf".*\.spatial\..*\.{_PROJECTIONS}",
    "all": rf".*\.(?:{_PROJECTIONS}|linear_in|linear_out|proj_in|proj_out)",
}
LORA_NAME = "default"


@dataclass(frozen=True, kw_only=True)
class LoraTraining:
    """Settings of a LoRA of the frozen video network.

    Attributes:
        rank: rank of each layer's update.
        alpha: the update is multiplied by alpha / rank; None takes the rank, so that changing the rank does not
            require another learning rate.
        dropout: dropout of the LoRA's inputs in training.
        layers: "attention" adapts the projections of all attention layers; "temporal" those over time (motion);
            "spatial" those within frames (appearance); "all" also the MLPs and the transformers' own projections.
    """

    rank: int = 16
    alpha: float | None = None
    dropout: float = 0.0
    layers: LoraLayers = "attention"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ValueError(f"lora.rank is {self.rank}; it must be 1 or more")
        if self.alpha is not None and not self.alpha > 0:
            raise ValueError(f"lora.alpha is {self.alpha}; it must be above 0, or none for the rank")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"lora.dropout is {self.dropout}; expected a share in [0, 1)")
        if self.layers not in _PATTERNS:
            raise ValueError(f"lora.layers is {self.layers!r}, expected one of {', '.join(_PATTERNS)}")


def add_lora(network: nn.Module, config: LoraTraining, name: str = LORA_NAME) -> None:
    """Add a trainable LoRA in float32 to a frozen network; it is zero at first, and the only active one.

    Its down-projections are drawn from torch's global generator.
    """
    from peft import LoraConfig

    alpha = config.rank if config.alpha is None else config.alpha
    device = next(network.parameters()).device
    # For a plan: peft leaves a second LoRA of a network on the meta device elsewhere.
    with device if device.type == "meta" else nullcontext(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        network.add_adapter(  # type: ignore[operator]  # of diffusers' PeftAdapterMixin
            LoraConfig(
                r=config.rank,
                lora_alpha=alpha,  # type: ignore[arg-type]  # peft takes floats too
                lora_dropout=config.dropout,
                target_modules=_PATTERNS[config.layers],
            ),
            adapter_name=name,
        )
    for parameter in network.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(torch.float32)

"""The LoRAs of one network, through peft."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from peft import LoraConfig, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from videocrafter.checkpoints.lora.lora_file import LoraLayer


def shapes(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """Return the weight shape of every linear layer and convolution, by its name without LoRAs."""
    return {
        name.removesuffix(".base_layer"): tuple(module.weight.shape)
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and ".lora_" not in name
    }


def add_adapter(network: Any, layers: Mapping[str, LoraLayer], name: str) -> None:
    """Add a LoRA to a network and activate it next to the active ones."""
    loaded = getattr(network, "peft_config", {})
    active = dict.fromkeys(
        one for layer in tuners(network).values() for one in layer.active_adapters if one in loaded
    )
    rank = Counter(layer.rank for layer in layers.values()).most_common(1)[0][0]
    alpha = Counter(layer.alpha for layer in layers.values()).most_common(1)[0][0]
    biases = _biases(network, layers)
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # floats work too
        rank_pattern={_exactly(key): layer.rank for key, layer in layers.items() if layer.rank != rank},
        alpha_pattern={_exactly(key): layer.alpha for key, layer in layers.items() if layer.alpha != alpha},
        target_modules=sorted(layers),
        lora_bias=bool(biases),
        inference_mode=True,
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Already found a `peft_config` attribute")
        warnings.filterwarnings("ignore", message="`lora_bias=True` was passed")
        network.add_adapter(config, adapter_name=name)
    state: dict[str, Tensor] = {}
    for key, layer in layers.items():
        state |= {f"{key}.lora_A.weight": layer.down, f"{key}.lora_B.weight": layer.up}
        if biases:
            state[f"{key}.lora_B.bias"] = biases.get(key, torch.zeros(len(layer.up)))
    with torch.no_grad():
        result: Any = set_peft_model_state_dict(network, state, adapter_name=name)
    if result.unexpected_keys:
        raise RuntimeError(f"peft rejected {len(result.unexpected_keys)} of a LoRA's tensors")
    network.set_adapter([*active, name])


def _biases(network: nn.Module, layers: Mapping[str, LoraLayer]) -> dict[str, Tensor]:
    """Return the biases of a LoRA by layer, before scaling; a bias of the layer itself becomes a difference."""
    own = {
        name.removesuffix(".base_layer"): module.bias
        for name, module in network.named_modules()
        if isinstance(module, (nn.Linear, nn.Conv2d)) and module.bias is not None
    }
    biases: dict[str, Tensor] = {}
    for key, layer in layers.items():
        bias = torch.zeros(len(layer.up)) if layer.bias is None else layer.bias.float()
        if layer.base_bias is not None and layer.alpha:
            before = own[key].detach().float().cpu() if key in own else torch.zeros(len(layer.up))
            bias = bias + (layer.base_bias.float() - before) * layer.rank / layer.alpha
        if layer.bias is not None or layer.base_bias is not None:
            biases[key] = bias
    return biases


def _exactly(layer: str) -> str:
    """Return a peft pattern that matches this layer only."""
    return f"^{layer}"


def tuners(network: nn.Module) -> dict[str, Any]:
    """Return peft's layers by name."""
    return {name: module for name, module in network.named_modules() if isinstance(module, BaseTunerLayer)}


def settings(config: LoraConfig, part: str, state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return the settings of an adapter in the form of diffusers' header."""
    names = ("r", "lora_alpha", "rank_pattern", "alpha_pattern", "use_rslora", "use_dora", "lora_bias")
    settings = {f"{part}.{name}": getattr(config, name) for name in names}
    return {**settings, f"{part}.target_modules": sorted({key.rpartition(".lora_")[0] for key in state})}

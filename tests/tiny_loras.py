"""Random LoRAs for the networks of `tests/tiny_sd.py`, in every file format, and a reference merge."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.tiny_models import tiny_pipeline
from videocrafter.checkpoints.lora.lora_file import LoraLayer
from videocrafter.pipelines.few_step_settings import with_few_steps

Layers = Mapping[str, LoraLayer]


def random_lora(
    network: nn.Module, wanted: Callable[[str], bool] = lambda _: True, seed: int = 0, strength: float = 0.3
) -> dict[str, LoraLayer]:
    """Return a LoRA of all wanted linear layers and convolutions, with different ranks and alphas."""
    generator = torch.Generator().manual_seed(seed)
    layers = {}
    for index, (name, module) in enumerate(network.named_modules()):
        if isinstance(module, (nn.Linear, nn.Conv2d)) and wanted(name):
            out, *rest = module.weight.shape
            rank = 1 + index % 3
            down = strength * torch.randn(rank, *rest, generator=generator)
            up = strength * torch.randn(out, rank, *[1] * (len(rest) - 1), generator=generator)
            layers[name] = LoraLayer(down=down, up=up, alpha=(0.5, 1.0, 4.0, float(rank))[index % 4])
    return layers


def with_alpha_as_rank(layers: Layers) -> dict[str, LoraLayer]:
    """Return the LoRA with alpha equal to the rank, for formats that do not store alpha."""
    return {name: LoraLayer(down=one.down, up=one.up, alpha=float(one.rank)) for name, one in layers.items()}


@torch.no_grad()
def merge(network: nn.Module, layers: Layers, weight: float = 1.0) -> None:
    """Add a LoRA to a network's weights by definition, as a reference for every loader."""
    for name, layer in layers.items():
        target = network.get_submodule(name).weight
        change = (layer.up.flatten(1) @ layer.down.flatten(1)).reshape(target.shape)
        target.add_(weight * layer.alpha / layer.rank * change)


def as_kohya(layers: Layers, prefix: str = "lora_unet_") -> dict[str, Tensor]:
    """Return kohya's format: names with underscores, alpha as a tensor."""
    state: dict[str, Tensor] = {}
    for name, layer in layers.items():
        key = prefix + name.replace(".", "_")
        state |= {f"{key}.lora_down.weight": layer.down, f"{key}.lora_up.weight": layer.up}
        state[f"{key}.alpha"] = torch.tensor(layer.alpha)
    return state


def as_peft(layers: Layers, prefix: str = "unet.", adapter: str = "") -> dict[str, Tensor]:
    """Return the format that diffusers writes today."""
    return _pairs(layers, prefix, f".lora_A{adapter}.weight", f".lora_B{adapter}.weight")


def as_lora_down(layers: Layers, prefix: str = "unet.") -> dict[str, Tensor]:
    """Return an earlier format of diffusers."""
    return _pairs(layers, prefix, ".lora.down.weight", ".lora.up.weight")


def as_processors(layers: Layers, prefix: str = "unet.") -> dict[str, Tensor]:
    """Return the oldest format of diffusers, for attention layers only."""
    renamed = {}
    for name, layer in layers.items():
        attention, _, projection = name.rpartition(".to_")
        renamed[f"{attention}.processor.to_{projection.removesuffix('.0')}"] = layer
    return _pairs(renamed, prefix, "_lora.down.weight", "_lora.up.weight")


def as_text_layers(layers: Layers) -> dict[str, Tensor]:
    """Return an earlier format of diffusers for the text encoder."""
    prefix = "text_encoder.text_model."
    return _pairs(layers, prefix, ".lora_linear_layer.down.weight", ".lora_linear_layer.up.weight")


def adapter_config(layers: Layers, network: str = "unet") -> dict[str, Any]:
    """Return diffusers' header, with one alpha for most layers and a pattern for the others."""
    common = next(iter(layers.values()))
    others = {name: one.alpha for name, one in layers.items() if one.alpha != common.alpha}
    return {f"{network}.r": common.rank, f"{network}.lora_alpha": common.alpha, f"{network}.alpha_pattern": others}


def _pairs(layers: Layers, prefix: str, down: str, up: str) -> dict[str, Tensor]:
    state: dict[str, Tensor] = {}
    for name, layer in layers.items():
        state |= {f"{prefix}{name}{down}": layer.down, f"{prefix}{name}{up}": layer.up}
    return state


def layers_of_student(pipeline: Any) -> dict[str, torch.Tensor]:
    """A LoRA of one layer of the network."""
    name, layer = next(
        (name, one) for name, one in pipeline.unet.named_modules() if name.endswith("to_q") and "temporal" not in name
    )
    out_features, in_features = layer.weight.shape[:2]
    return {
        f"unet.{name}.lora_A.weight": torch.randn(2, in_features),
        f"unet.{name}.lora_B.weight": torch.randn(out_features, 2),
    }


def save_student(folder: Path, *times: int) -> Path:
    """Write a LoRA that was distilled for these timesteps."""
    pipeline = tiny_pipeline(False)
    pipeline.load_lora_weights(layers_of_student(pipeline))
    with_few_steps(pipeline, times)
    return pipeline.save_lora(folder, few_steps=True)

"""LoRA files as they are found: diffusers' layouts, old and new, and kohya's, read into one form.

A LoRA adds `up @ down * (alpha / rank)` to the weight of a layer (Hu et al. 2021). Formats differ in how they call
the layer and both matrices, and in where they keep alpha.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from videocrafter.checkpoints.official.checkpoint_file import open_checkpoint_file
from videocrafter.presets import LORA_FILE

ADAPTER_METADATA = "lora_adapter_metadata"
"""Where diffusers keeps alpha, as JSON in the header of a safetensors file."""

_DOWN = re.compile(r"(.+?)(?:\.lora_A(?:\.[^.]+)?|\.lora_down|[._]lora\.down|\.lora_linear_layer\.down)\.weight")
_UP = re.compile(r"(.+?)(?:\.lora_B(?:\.[^.]+)?|\.lora_up|[._]lora\.up|\.lora_linear_layer\.up)\.weight")
_ALPHA = re.compile(r"(.+?)(?:[._]lora|\.lora_linear_layer)?\.alpha")
# What changes the meaning of a layer's matrices, or stands in their place.
_OTHER = re.compile(
    r"(.+?)\.(dora_scale|lora_magnitude_vector.*|lora_mid.*|lora_B(?:\..+)?\.bias|hada_.+|lokr_.+|oft_.+|diff.*|w_norm)"
)
_OTHER_KINDS = {"hada_": "a LoHa", "lokr_": "a LoKr", "oft_": "an OFT", "dora_scale": "a DoRA", "lora_mag": "a DoRA"}


@dataclass(frozen=True, kw_only=True)
class LoraLayer:
    """What a LoRA adds to one layer.

    Attributes:
        down: `[rank, in, ...]`, with the kernel of a convolution.
        up: `[out, rank, ...]`.
        alpha: strength; the change is multiplied by alpha / rank.
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """Width of the bottleneck."""
        return self.down.shape[0]


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """The content of a LoRA file.

    Attributes:
        name: for messages.
        layers: by the layer's name as the file has it, prefix of the network included.
        others: names of layers that the file changes in a way that is not supported.
    """

    name: str
    layers: Mapping[str, LoraLayer]
    others: tuple[str, ...] = ()


def read_lora(source: str | os.PathLike[str] | Mapping[str, Tensor]) -> LoraFile:
    """Read a LoRA from a file, a folder that holds one, or a state dict.

    Alpha comes from the file's `alpha` tensors (kohya) or from its header (diffusers), and is the rank without
    either. The file is opened as one that nobody vouches for (`official_file.py`).

    Raises:
        ValueError: missing, damaged, or something else than a LoRA; one line that says what.
    """
    if isinstance(source, Mapping):
        return parse_lora(source, name="the given state dict")
    path = find_lora_file(Path(source))
    tensors = open_checkpoint_file(path).tensors
    return parse_lora(tensors, name=str(path), adapter_config=_adapter_config(path))


def find_lora_file(path: Path) -> Path:
    """The LoRA file that a path means. Raises ValueError for a folder with none or several, and for no path."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(f"there is no LoRA at {path}; give a .safetensors file, or a folder that holds one")
    if (path / LORA_FILE).is_file():
        return path / LORA_FILE
    found = sorted(path.glob("*.safetensors"))
    if len(found) != 1:
        names = ", ".join(one.name for one in found[:3]) or "none"
        raise ValueError(
            f"the folder {path} holds no {LORA_FILE} and not one .safetensors file but {len(found)} ({names});"
            " give the file itself"
        )
    return found[0]


def parse_lora(
    tensors: Mapping[str, Tensor], *, name: str, adapter_config: Mapping[str, Any] | None = None
) -> LoraFile:
    """Sort the tensors of a LoRA into layers.

    Args:
        adapter_config: diffusers' header: peft's settings of each network under `unet.` and `text_encoder.`.

    Raises:
        ValueError: there is no complete layer.
    """
    found = {
        kind: {match[1]: one for key, one in tensors.items() if one.numel() and (match := pattern.fullmatch(key))}
        for kind, pattern in (("down", _DOWN), ("up", _UP), ("alpha", _ALPHA))
    }
    down, up, alphas = found["down"], found["up"], found["alpha"]
    strange = {match[1] for key in tensors if (match := _OTHER.fullmatch(key))}
    complete = [module for module in down if module in up and module not in strange and _is_pair(down, up, module)]
    if not complete:
        raise ValueError(f"{name} cannot be used as a LoRA: {_what_else(tensors)}")
    layers = {}
    for module in complete:
        rank = down[module].shape[0]
        given = alphas.get(module)
        alpha = _configured_alpha(module, rank, adapter_config or {}) if given is None else float(given.flatten()[0])
        layers[module] = LoraLayer(down=down[module], up=up[module], alpha=alpha)
    others = (set(down) | set(up) | strange) - set(complete)
    return LoraFile(name=name, layers=layers, others=tuple(sorted(others)))


def _is_pair(down: Mapping[str, Tensor], up: Mapping[str, Tensor], module: str) -> bool:
    ranks = [matrix.shape[axis] for matrix, axis in ((down[module], 0), (up[module], 1)) if matrix.ndim >= 2]
    return len(ranks) == 2 and ranks[0] == ranks[1] > 0


def _adapter_config(path: Path) -> dict[str, Any]:
    """The settings that diffusers keeps in the header of a safetensors file; empty for other files."""
    with path.open("rb") as file:
        if file.read(9)[8:] != b"{":
            return {}
    with safe_open(path, framework="pt") as opened:
        text = (opened.metadata() or {}).get(ADAPTER_METADATA)
    if text is None:
        return {}
    try:
        config = json.loads(text)
    except json.JSONDecodeError as error:
        raise ValueError(f"{path} is damaged: its header's {ADAPTER_METADATA} is no JSON ({error})") from error
    return config if isinstance(config, dict) else {}


def _configured_alpha(module: str, rank: int, config: Mapping[str, Any]) -> float:
    from peft.utils.other import get_pattern_key

    network, _, layer = module.partition(".")
    if f"{network}.lora_alpha" not in config:
        return float(rank)
    try:
        alpha = float(config[f"{network}.lora_alpha"])
        pattern = config.get(f"{network}.alpha_pattern") or {}
        alpha = float(pattern.get(get_pattern_key(list(pattern), layer), alpha))
    except (TypeError, ValueError, AttributeError, re.error) as error:
        raise ValueError(f"the LoRA's header is damaged: no alpha can be read for {module} ({error})") from error
    # Rank-stabilised LoRA divides by the root of the rank.
    return alpha * math.sqrt(rank) if config.get(f"{network}.use_rslora") else alpha


def _what_else(tensors: Mapping[str, Tensor]) -> str:
    for mark, kind in _OTHER_KINDS.items():
        if any(f".{mark}" in key for key in tensors):
            return f"it seems to be {kind}, which is not supported; give a plain LoRA"
    if any(key.startswith(("model.diffusion_model.", "cond_stage_model.", "first_stage_model.")) for key in tensors):
        return "it seems to be a whole checkpoint; convert it with `videocrafter convert`"
    first = ", ".join(list(tensors)[:3])
    return f"none of its {len(tensors)} tensors belongs to a LoRA layer ({first}, ...)"

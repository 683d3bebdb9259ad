"""Read LoRA files in diffusers' old and new formats and in kohya's format.

A LoRA adds `up @ down * (alpha / rank)` to the weight of a layer (Hu et al. 2021). The formats differ in the names of
layers and matrices, and in where they store alpha.
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

from videocrafter.checkpoints.checkpoint_file import open_checkpoint_file
from videocrafter.presets import LORA_FILE

ADAPTER_METADATA = "lora_adapter_metadata"
"""Header entry of a safetensors file in which diffusers stores alpha, as JSON."""

_DOWN = re.compile(r"(.+?)(?:\.lora_A(?:\.[^.]+)?|\.lora_down|[._]lora\.down|\.lora_linear_layer\.down)\.weight")
_UP = re.compile(r"(.+?)(?:\.lora_B(?:\.[^.]+)?|\.lora_up|[._]lora\.up|\.lora_linear_layer\.up)\.weight")
_ALPHA = re.compile(r"(.+?)(?:[._]lora|\.lora_linear_layer)?\.alpha")
# Tensors of other methods, which change the meaning of a layer's matrices or replace them.
_OTHER = re.compile(
    r"(.+?)\.(dora_scale|lora_magnitude_vector.*|lora_mid.*|lora_B(?:\..+)?\.bias|hada_.+|lokr_.+|oft_.+|diff.*|w_norm)"
)
_OTHER_KINDS = {"hada_": "a LoHa", "lokr_": "a LoKr", "oft_": "an OFT", "dora_scale": "a DoRA", "lora_mag": "a DoRA"}


@dataclass(frozen=True, kw_only=True)
class LoraLayer:
    """The update of one layer.

    Attributes:
        down: `[rank, in, ...]`, with kernel axes for a convolution.
        up: `[out, rank, ...]`.
        alpha: strength; the update is scaled by alpha / rank.
    """

    down: Tensor
    up: Tensor
    alpha: float

    @property
    def rank(self) -> int:
        """Rank of the update."""
        return self.down.shape[0]


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """The content of a LoRA file.

    Attributes:
        name: name of the file in messages.
        layers: by the layer's name in the file, including the prefix of the network.
        unsupported: names of layers that the file changes in an unsupported way.
    """

    name: str
    layers: Mapping[str, LoraLayer]
    unsupported: tuple[str, ...] = ()


def read_lora(source: str | os.PathLike[str] | Mapping[str, Tensor]) -> LoraFile:
    """Read a LoRA from a file, a folder that holds one, or a state dict.

    Alpha is read from `alpha` tensors (kohya) or from the file's header (diffusers); without both it is the rank. The
    file is treated as untrusted (`checkpoint_file.py`).

    Raises:
        ValueError: the file is missing, damaged, or not a LoRA; one line.
    """
    if isinstance(source, Mapping):
        return parse_lora(source, name="the given state dict")
    path = find_lora_file(Path(source))
    tensors = open_checkpoint_file(path).tensors
    return parse_lora(tensors, name=str(path), adapter_config=_adapter_config(path))


def find_lora_file(path: Path) -> Path:
    """Return the LoRA file at a path. Raises ValueError if the path is missing, or a folder without exactly one."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(f"{path} does not exist; pass a LoRA as a .safetensors file, or a folder that holds one")
    if (path / LORA_FILE).is_file():
        return path / LORA_FILE
    found = sorted(path.glob("*.safetensors"))
    if len(found) != 1:
        names = ", ".join(one.name for one in found[:3]) or "none"
        raise ValueError(
            f"the folder {path} holds {len(found)} .safetensors files ({names}) and no {LORA_FILE}; pass the LoRA"
            " file itself"
        )
    return found[0]


def parse_lora(
    tensors: Mapping[str, Tensor], *, name: str, adapter_config: Mapping[str, Any] | None = None
) -> LoraFile:
    """Group the tensors of a LoRA by layer.

    Args:
        tensors: the state dict of the LoRA.
        name: name of the file in messages.
        adapter_config: diffusers' header, with peft's settings of each network under `unet.` and `text_encoder.`.

    Raises:
        ValueError: no layer is complete.
    """
    found = {
        kind: {match[1]: one for key, one in tensors.items() if one.numel() and (match := pattern.fullmatch(key))}
        for kind, pattern in (("down", _DOWN), ("up", _UP), ("alpha", _ALPHA))
    }
    down, up, alphas = found["down"], found["up"], found["alpha"]
    other = {match[1] for key in tensors if (match := _OTHER.fullmatch(key))}
    complete = [module for module in down if module in up and module not in other and _is_pair(down, up, module)]
    if not complete:
        raise ValueError(f"{name} cannot be used as a LoRA: {_other_content(tensors)}")
    layers = {}
    for module in complete:
        rank = down[module].shape[0]
        given = alphas.get(module)
        alpha = _configured_alpha(module, rank, adapter_config or {}) if given is None else float(given.flatten()[0])
        layers[module] = LoraLayer(down=down[module], up=up[module], alpha=alpha)
    unsupported = (set(down) | set(up) | other) - set(complete)
    return LoraFile(name=name, layers=layers, unsupported=tuple(sorted(unsupported)))


def _is_pair(down: Mapping[str, Tensor], up: Mapping[str, Tensor], module: str) -> bool:
    ranks = [matrix.shape[axis] for matrix, axis in ((down[module], 0), (up[module], 1)) if matrix.ndim >= 2]
    return len(ranks) == 2 and ranks[0] == ranks[1] > 0


def _adapter_config(path: Path) -> dict[str, Any]:
    """Return the settings that diffusers stores in the header of a safetensors file; empty for other files."""
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
        raise ValueError(
            f"{path} is damaged: {ADAPTER_METADATA} in its header is not JSON ({error}); save or download it again"
        ) from error
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
        raise ValueError(
            f"the LoRA's header is damaged: alpha of {module} is unreadable ({error}); save or download it again"
        ) from error
    # Rank-stabilised LoRA divides by the square root of the rank.
    return alpha * math.sqrt(rank) if config.get(f"{network}.use_rslora") else alpha


def _other_content(tensors: Mapping[str, Tensor]) -> str:
    for mark, kind in _OTHER_KINDS.items():
        if any(f".{mark}" in key for key in tensors):
            return f"it seems to be {kind}, which is not supported; use a plain LoRA"
    if any(key.startswith(("model.diffusion_model.", "cond_stage_model.", "first_stage_model.")) for key in tensors):
        return "it seems to be a whole checkpoint; convert it with `videocrafter convert`"
    first = ", ".join(list(tensors)[:3])
    return f"none of its {len(tensors)} tensors belongs to a LoRA layer ({first}, ...); pass another file"

"""Read LoRA files in the formats of diffusers (old and new), peft and kohya.

A LoRA adds `up @ down * (alpha / rank)` to the weight of a layer (Hu et al. 2021). The formats differ in the names of
layers and matrices, and in where they store alpha.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from videocrafter.checkpoints.checkpoint_file import open_checkpoint_file
from videocrafter.checkpoints.file_content import checkpoint_format
from videocrafter.checkpoints.lora.adapter_settings import (
    PEFT_CONFIG,
    configured_alpha,
    read_header_settings,
    read_peft_config,
)
from videocrafter.media.home_folder import expand_home
from videocrafter.presets import CHECKPOINT_SUFFIXES, LORA_FILE, MODEL_INDEX, is_run_folder, result_of_run

_PEFT_PREFIX = "base_model.model."
# Names of a LoRA in a folder, as diffusers and peft write them; the first one present is used.
_USUAL_NAMES = (LORA_FILE, "adapter_model.safetensors", "pytorch_lora_weights.bin", "adapter_model.bin")

_DOWN = re.compile(r"(.+?)(?:\.lora_A(?:\.[^.]+)?|\.lora_down|[._]lora\.down|\.lora_linear_layer\.down)\.weight")
_UP = re.compile(r"(.+?)(?:\.lora_B(?:\.[^.]+)?|\.lora_up|[._]lora\.up|\.lora_linear_layer\.up)\.weight")
_BIAS = re.compile(r"(.+?)\.lora_B(?:\.[^.]+)?\.bias")
_BASE_BIAS = re.compile(r"(.+?)\.base_layer\.bias")
_ALPHA = re.compile(r"(.+?)(?:[._]lora|\.lora_linear_layer)?\.alpha")
# Tensors of other methods, which change the meaning of a layer's matrices or replace them.
_OTHER = re.compile(r"(.+?)\.(dora_scale|lora_magnitude_vector.*|lora_mid.*|hada_.+|lokr_.+|oft_.+|diff.*|w_norm)")
_OTHER_KINDS = {"hada_": "a LoHa", "lokr_": "a LoKr", "oft_": "an OFT", "dora_scale": "a DoRA", "lora_mag": "a DoRA"}


@dataclass(frozen=True, kw_only=True)
class LoraLayer:
    """The update of one layer.

    Attributes:
        down: `[rank, in, ...]`, with kernel axes for a convolution.
        up: `[out, rank, ...]`.
        alpha: strength; the update is scaled by alpha / rank.
        bias: `[out]`, added to the output with the same scale as the update; or None.
        base_bias: `[out]`, the bias of the layer itself after training with this LoRA; or None.
    """

    down: Tensor
    up: Tensor
    alpha: float
    bias: Tensor | None = None
    base_bias: Tensor | None = None

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
        note: one line about assumptions that were made, or None.
    """

    name: str
    layers: Mapping[str, LoraLayer]
    unsupported: tuple[str, ...] = ()
    note: str | None = None


def read_lora(source: str | os.PathLike[str] | Mapping[str, Tensor]) -> LoraFile:
    """Read a LoRA from a file, a folder that holds one, a training run, or a state dict.

    Alpha is read from `alpha` tensors (kohya), from `adapter_config.json` next to the file (peft) or from the file's
    header (diffusers); without all of them it is the rank. The file is treated as untrusted (`checkpoint_file.py`).

    Raises:
        ValueError: the file is missing, damaged, or not a plain LoRA; one line.
    """
    if isinstance(source, Mapping):
        return parse_lora(source, name="the given state dict")
    path, note = find_lora_file(expand_home(source)), None
    tensors = open_checkpoint_file(path).tensors
    if not any(key.startswith(_PEFT_PREFIX) for key in tensors):
        return parse_lora(tensors, name=str(path), settings=read_header_settings(path))
    settings = read_peft_config(path)
    if settings is None:
        note = f"{PEFT_CONFIG} is missing next to {path.name}, so alpha is assumed to equal the rank"
    return parse_lora(_without_peft(tensors, str(path)), name=str(path), settings=settings, note=note)


def find_lora_file(path: Path) -> Path:
    """Return the LoRA file at a path; for a training run, that of its result.

    Raises ValueError if the path is missing, or a folder without exactly one LoRA.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise ValueError(f"{path} does not exist; pass a LoRA file, or a folder that holds one")
    folder = result_of_run(path) if is_run_folder(path) else path
    usual = next((folder / name for name in _USUAL_NAMES if (folder / name).is_file()), None)
    if usual is not None:
        return usual
    if (folder / MODEL_INDEX).is_file():
        raise ValueError(f"{folder} holds a whole model ({MODEL_INDEX}), not a LoRA; pass it as the model (--model)")
    found = sorted(one for one in folder.iterdir() if one.suffix.lower() in CHECKPOINT_SUFFIXES and one.is_file())
    safe = [one for one in found if checkpoint_format(one) == "safetensors"]
    found = safe or found
    if len(found) == 1:
        return found[0]
    inner = sorted(one.parent for name in (*_USUAL_NAMES, PEFT_CONFIG) for one in folder.glob(f"*/{name}"))
    names = ", ".join(str(one) for one in dict.fromkeys(inner)) or ", ".join(one.name for one in found[:3])
    if inner:
        raise ValueError(f"{folder} holds no LoRA itself; pass a folder in it: {names}")
    raise ValueError(
        f"{folder} holds {len(found)} files of weights{f' ({names})' if names else ''} and no {LORA_FILE}; pass the"
        " LoRA file itself"
    )


def parse_lora(
    tensors: Mapping[str, Tensor], *, name: str, settings: Mapping[str, Any] | None = None, note: str | None = None
) -> LoraFile:
    """Group the tensors of a LoRA by layer.

    Args:
        tensors: the state dict of the LoRA.
        name: name of the file in messages.
        settings: as for `configured_alpha`.
        note: `LoraFile.note`.

    Raises:
        ValueError: no layer is complete.
    """
    found = {
        kind: {match[1]: one for key, one in tensors.items() if one.numel() and (match := pattern.fullmatch(key))}
        for kind, pattern in (
            ("down", _DOWN),
            ("up", _UP),
            ("alpha", _ALPHA),
            ("bias", _BIAS),
            ("base_bias", _BASE_BIAS),
        )
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
        alpha = configured_alpha(module, rank, settings or {}) if given is None else float(given.flatten()[0])
        layers[module] = LoraLayer(
            down=down[module],
            up=up[module],
            alpha=alpha,
            bias=found["bias"].get(module),
            base_bias=found["base_bias"].get(module),
        )
    unsupported = (set(down) | set(up) | other) - set(complete)
    return LoraFile(name=name, layers=layers, unsupported=tuple(sorted(unsupported)), note=note)


def _without_peft(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """Remove peft's prefix; refuse tensors that replace parameters of the model instead of adding to a layer."""
    bare = {key.removeprefix(_PEFT_PREFIX): value for key, value in tensors.items()}
    wrong = [key for key in bare if "lora_" not in key and not _BASE_BIAS.fullmatch(key)]
    if wrong:
        biases = [key for key in wrong if key.endswith(".bias")]
        why = "bias='all'" if len(biases) == len(wrong) else "modules_to_save or resized embeddings"
        raise ValueError(
            f"{name} cannot be used as a LoRA: it also replaces {len(wrong)} parameters of the model, such as"
            f" {wrong[0]} ({why}); train with bias='none' and without modules_to_save"
        )
    return bare


def _is_pair(down: Mapping[str, Tensor], up: Mapping[str, Tensor], module: str) -> bool:
    ranks = [matrix.shape[axis] for matrix, axis in ((down[module], 0), (up[module], 1)) if matrix.ndim >= 2]
    return len(ranks) == 2 and ranks[0] == ranks[1] > 0


def _other_content(tensors: Mapping[str, Tensor]) -> str:
    for mark, kind in _OTHER_KINDS.items():
        if any(f".{mark}" in key for key in tensors):
            return f"it seems to be {kind}, which is not supported; use a plain LoRA"
    if any(key.startswith(("model.diffusion_model.", "cond_stage_model.", "first_stage_model.")) for key in tensors):
        return "it seems to be a whole checkpoint; convert it with `videocrafter convert`"
    first = ", ".join(list(tensors)[:3])
    return f"none of its {len(tensors)} tensors belongs to a LoRA layer ({first}, ...); pass another file"

"""Settings of a LoRA as peft and diffusers store them: next to the file, or in its header.

They decide the scale of every layer. Settings that change more than a LoRA does are refused with the reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import safe_open

from videocrafter.checkpoints.file_content import checkpoint_format
from videocrafter.media.json_file import parse_json_object, read_json_object

ADAPTER_METADATA = "lora_adapter_metadata"
"""Header entry of a safetensors file in which diffusers stores the settings, as JSON."""
PEFT_CONFIG = "adapter_config.json"
"""File next to the weights in which peft stores the settings."""

_NETWORKS = ("unet", "text_encoder")
# Initialisations that also change the weights of the model, so the LoRA fits the changed model only.
_CHANGES_MODEL = ("pissa", "corda", "olora", "loftq", "lora_ga")
# Options of peft that make an adapter more than a LoRA: option, what it does.
_UNSUPPORTED = (
    ("use_dora", "is a DoRA"),
    ("modules_to_save", "also replaces whole layers (modules_to_save)"),
    ("trainable_token_indices", "also replaces tokens of the text encoder (trainable_token_indices)"),
    ("layer_replication", "duplicates layers (layer_replication)"),
    ("target_parameters", "changes parameters without a layer of their own (target_parameters)"),
    ("alora_invocation_tokens", "is an activated LoRA (alora_invocation_tokens)"),
    ("use_qalora", "is a QA-LoRA"),
    ("use_bdlora", "is a block-diagonal LoRA"),
    ("arrow_config", "is a mixture of LoRAs (arrow_config)"),
    ("monteclora_config", "is a MonteCLoRA"),
    ("kasa_config", "is a KaSA adapter"),
    ("velora_config", "is a VeLoRA adapter"),
)


def read_peft_config(weights: Path) -> dict[str, Any] | None:
    """Return peft's settings next to a file of weights, after checking that they describe a plain LoRA; or None.

    Raises ValueError if the settings are damaged, or describe something else; one line with the reason.
    """
    path = weights.parent / PEFT_CONFIG
    if not path.is_file():
        return None
    config = read_json_object(path)
    _check_plain(config, path)
    return config


def read_header_settings(path: Path) -> dict[str, Any]:
    """Return the settings in the header of a safetensors file; empty for other files.

    Raises ValueError if they are damaged, or describe something else than a plain LoRA.
    """
    if checkpoint_format(path) != "safetensors":
        return {}
    with safe_open(path, framework="pt") as opened:
        text = (opened.metadata() or {}).get(ADAPTER_METADATA)
    if text is None:
        return {}
    config = parse_json_object(text, f"{ADAPTER_METADATA} in the header of {path}")
    for prefix in ("", *(f"{network}." for network in _NETWORKS)):
        _check_plain(
            {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}, path
        )
    return config


def configured_alpha(layer: str, rank: int, settings: Mapping[str, Any]) -> float:
    """Return the alpha of a layer, such that its update is scaled by alpha / rank; the rank without a setting.

    Args:
        layer: name in the file; for diffusers' settings of several networks it begins with the network.
        rank: rank of the layer's update.
        settings: peft's settings, or diffusers' with the network as a prefix of every key.

    Raises:
        ValueError: a setting has a wrong type.
    """
    from peft.utils.other import get_pattern_key

    network, _, inner = layer.partition(".")
    prefix = f"{network}." if network in _NETWORKS and f"{network}.lora_alpha" in settings else ""
    if f"{prefix}lora_alpha" not in settings:
        return float(rank)
    try:
        alpha = float(settings[f"{prefix}lora_alpha"])
        pattern = settings.get(f"{prefix}alpha_pattern") or {}
        alpha = float(pattern.get(get_pattern_key(list(pattern), inner if prefix else layer), alpha))
    except (TypeError, ValueError, AttributeError, OverflowError, re.error, RecursionError) as error:
        raise ValueError(
            f"the settings of the LoRA are damaged: alpha of {layer} is unreadable ({error}); save or download it"
            " again"
        ) from error
    if not math.isfinite(alpha):
        raise ValueError(
            f"the settings of the LoRA are damaged: alpha of {layer} is {alpha}; expected a finite number"
        )
    # Rank-stabilised LoRA divides by the square root of the rank.
    return alpha * math.sqrt(rank) if settings.get(f"{prefix}use_rslora") else alpha


def _check_plain(config: Mapping[str, Any], path: Path) -> None:
    kind = config.get("peft_type", "LORA")
    if kind != "LORA":
        raise ValueError(
            f"{path} describes {str(kind)[:40]!r}, another kind of adapter than a LoRA; use a plain LoRA"
        )
    for option, reason in _UNSUPPORTED:
        value = config.get(option)
        if value:
            shown = f": {', '.join(map(str, value))[:80]}" if isinstance(value, list) else ""
            raise ValueError(f"the adapter of {path} {reason}{shown}, which is not supported; use a plain LoRA")
    start = config.get("init_lora_weights")
    if isinstance(start, str) and start.lower().startswith(_CHANGES_MODEL):
        raise ValueError(
            f"the adapter of {path} fits only a model changed by init_lora_weights={start[:40]!r}; convert it to a"
            " plain LoRA with peft's save_pretrained(path_initial_model_for_weight_conversion=...)"
        )

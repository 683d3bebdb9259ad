"""Match the layers of a LoRA, made for VideoUNet or for Stable Diffusion 2, with layers of our networks.

All names of a layer in LoRA files are generated from the key map (`stable_diffusion/keys.py`). A layer of the file
matches by name and shape, or it is skipped and reported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from videocrafter.checkpoints.lora.lora_file import LoraFile, LoraLayer
from videocrafter.checkpoints.stable_diffusion.config import model_by_text_width
from videocrafter.checkpoints.stable_diffusion.keys import sd_keys

NETWORKS = ("unet", "text_encoder")
"""Networks of a pipeline that a LoRA may change; diffusers prefixes layer names with these."""

Shapes = Mapping[str, tuple[int, ...]]
"""Weight shape of every linear layer and convolution of a network, by name."""

_READS_TEXT = re.compile(r".*(?:attn2|cross_attention)(?:\.processor)?[._]to_[kv]")
_IN_TEXT_TOWER = re.compile(r"(?:text_encoder\.|lora_te_).*(?:self_attn)[._](?:[qkv]_proj|to_[qkv])")
_OLD_PROJECTIONS = {"q_proj": "to_q", "k_proj": "to_k", "v_proj": "to_v", "out_proj": "to_out"}
_FOREIGN = (
    ("motion_modules", "an AnimateDiff motion LoRA"),
    ("text_encoder_2", "a LoRA for Stable Diffusion XL"),
    ("lora_te2_", "a LoRA for Stable Diffusion XL"),
    ("double_blocks", "a LoRA for Flux or another diffusion transformer"),
    ("single_transformer_blocks", "a LoRA for Flux or another diffusion transformer"),
    ("transformer.", "a LoRA for a diffusion transformer"),
)


@dataclass(frozen=True, kw_only=True)
class FittedLora:
    """A LoRA matched to our networks.

    Attributes:
        layers: by network ("unet", "text_encoder"), then by our name of the layer; unchanged networks are absent.
            Matrices have as many axes as the layer's weight.
        left_out: names in the file of layers that match nothing.
        assumption: `LoraFile.note`.
    """

    layers: Mapping[str, Mapping[str, LoraLayer]]
    left_out: tuple[str, ...]
    assumption: str | None = None

    @property
    def note(self) -> str | None:
        """One line about skipped layers and assumptions; None if there are none."""
        return "; ".join(part for part in (self.assumption, self._skipped()) if part) or None

    def _skipped(self) -> str | None:
        if not self.left_out:
            return None
        total = len(self.left_out) + sum(len(layers) for layers in self.layers.values())
        return (
            f"{len(self.left_out)} of the LoRA's {total} layers do not match this model and are skipped"
            f" ({_first(self.left_out)})"
        )


def fit_lora(lora: LoraFile, config: Mapping[str, Any], shapes: Mapping[str, Shapes]) -> FittedLora:
    """Match a LoRA with our networks.

    Args:
        lora: the content of the LoRA file.
        config: `VideoUNet.config`.
        shapes: weight shapes of each network in `NETWORKS`.

    Raises:
        ValueError: the LoRA needs another text width, or no layer matches; one line that names the likely model.
    """
    _check_text_widths(lora, config["context_dim"], shapes["text_encoder"])
    names = dict(_names(config, shapes))
    fitted: dict[str, dict[str, LoraLayer]] = {}
    left_out = list(lora.unsupported)
    for name, layer in lora.layers.items():
        network, own = names.get(name, ("", ""))
        shaped = _shaped(layer, shapes[network][own]) if network else None
        if shaped is None or own in fitted.get(network, {}):
            left_out.append(name)
        else:
            fitted.setdefault(network, {})[own] = shaped
    if not fitted:
        seems = next((kind for mark, kind in _FOREIGN if any(mark in name for name in left_out)), None)
        raise ValueError(
            f"none of the {len(left_out)} layers of {lora.name} matches a layer of this model by name and shape"
            f" ({_first(left_out)}){f'; it seems to be {seems}' if seems else ''}; use a LoRA for Stable Diffusion"
            " 2.x or for this model"
        )
    return FittedLora(layers=fitted, left_out=tuple(sorted(left_out)), assumption=lora.note)


def _check_text_widths(lora: LoraFile, context_dim: int, text_shapes: Shapes) -> None:
    own_widths = {shape[1] for name, shape in text_shapes.items() if name.endswith("q_proj")}
    for pattern, allowed, what in (
        (_READS_TEXT, {context_dim}, "its cross-attention has text width"),
        (_IN_TEXT_TOWER, own_widths, "its text encoder has width"),
    ):
        widths = {layer.down.shape[1] for name, layer in lora.layers.items() if pattern.fullmatch(name)}
        if widths and not widths & allowed:
            width = min(widths)
            raise ValueError(
                f"{lora.name} seems to be a LoRA for {model_by_text_width(width)} ({what} {width}), but this model"
                f" has width {min(allowed, default=0)}; use one for Stable Diffusion 2.x or for this model"
            )


def _names(config: Mapping[str, Any], shapes: Mapping[str, Shapes]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield every name that a file may use for a layer, with the network and our name of the layer."""
    own_layers, text_layers = shapes["unet"], shapes["text_encoder"]
    for own in own_layers:
        yield from _spellings(own, "unet", own)
    for pair in sd_keys(config):
        own = pair.own.removesuffix(".weight")
        if own not in own_layers:
            continue
        sd = pair.sd.removesuffix(".weight")
        yield from _spellings(sd, "unet", own)
        # Before diffusers used peft, the name of attn1.to_out.0 was attn1.processor.to_out.
        attention, separator, projection = sd.rpartition(".to_")
        if separator:
            yield from _spellings(f"{attention}.processor.to_{projection.removesuffix('.0')}", "unet", own)
    for own in text_layers:
        bare = own.removeprefix("text_model.")
        for name in (bare, f"text_model.{bare}"):
            yield from _spellings(name, "text_encoder", own)
            parent, _, last = name.rpartition(".")
            if last in _OLD_PROJECTIONS:
                yield from _spellings(f"{parent}.{_OLD_PROJECTIONS[last]}", "text_encoder", own)


def _spellings(name: str, network: str, own: str) -> Iterator[tuple[str, tuple[str, str]]]:
    kohya = {"unet": "lora_unet_", "text_encoder": "lora_te_"}[network]
    yield f"{network}.{name}", (network, own)
    yield f"{kohya}{name.replace('.', '_')}", (network, own)
    # LoRAs saved from a network alone have no prefix; no two networks share a layer's name.
    yield name, (network, own)


def _shaped(layer: LoraLayer, weight: tuple[int, ...]) -> LoraLayer | None:
    """Return the layer with the axes of a weight `[out, in, ...]`; None if its shape does not match."""
    down = _with_axes(layer.down, len(weight))
    up = _with_axes(layer.up, len(weight))
    ones = (1,) * (len(weight) - 2)
    if down is None or up is None or down.shape != (layer.rank, *weight[1:]):
        return None
    if any(bias is not None and bias.shape != weight[:1] for bias in (layer.bias, layer.base_bias)):
        return None
    return replace(layer, down=down, up=up) if up.shape == (weight[0], layer.rank, *ones) else None


def _with_axes(matrix: Tensor, num_axes: int) -> Tensor | None:
    """Add or remove trailing axes of size 1, because 1x1 convolutions and linear layers are interchangeable."""
    if any(size != 1 for size in matrix.shape[num_axes:]):
        return None
    return matrix.reshape(*matrix.shape[:num_axes], *[1] * (num_axes - matrix.ndim))


def _first(names: tuple[str, ...] | list[str]) -> str:
    return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}"

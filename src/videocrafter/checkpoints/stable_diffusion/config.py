"""Translate the config of a Stable Diffusion 2 network into arguments of VideoUNet; identify other models."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

SD2_TEXT_WIDTH = 1024
_MODEL_BY_TEXT_WIDTH = MappingProxyType(
    {768: "Stable Diffusion 1.x", SD2_TEXT_WIDTH: "Stable Diffusion 2.x", 2048: "Stable Diffusion XL"}
)
_MODEL_BY_CHANNELS = MappingProxyType({5: "a depth model", 7: "an upscaler", 8: "an editing model", 9: "inpainting"})

# Options of diffusers' UNet2DConditionModel for which VideoUNet supports one value only. It is also diffusers'
# default, except for `use_linear_projection`.
_FIXED: Mapping[str, Any] = MappingProxyType(
    {
        "use_linear_projection": True,
        "center_input_sample": False,
        "flip_sin_to_cos": True,
        "freq_shift": 0,
        "mid_block_type": "UNetMidBlock2DCrossAttn",
        "only_cross_attention": False,
        "mid_block_only_cross_attention": None,
        "downsample_padding": 1,
        "mid_block_scale_factor": 1,
        "act_fn": "silu",
        "norm_eps": 1e-5,
        "conv_in_kernel": 3,
        "conv_out_kernel": 3,
        "dual_cross_attention": False,
        "class_embed_type": None,
        "num_class_embeds": None,
        "addition_embed_type": None,
        "encoder_hid_dim": None,
        "encoder_hid_dim_type": None,
        "resnet_skip_time_act": False,
        "resnet_out_scale_factor": 1.0,
        "time_embedding_type": "positional",
        "time_embedding_dim": None,
        "time_embedding_act_fn": None,
        "timestep_post_act": None,
        "time_cond_proj_dim": None,
        "cross_attention_norm": None,
        "attention_type": "default",
    }
)
_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        **_FIXED,
        "use_linear_projection": False,
        "norm_num_groups": 32,
        "transformer_layers_per_block": 1,
        "resnet_time_scale_shift": "default",
    }
)
_NEEDED = frozenset(
    {"in_channels", "out_channels", "block_out_channels", "layers_per_block", "down_block_types", "up_block_types"}
)


def model_by_text_width(width: int) -> str:
    """Return the name of the model whose cross-attention reads text of this width."""
    return _MODEL_BY_TEXT_WIDTH.get(width, f"another model (text of width {width})")


def spatial_config_from_sd(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `VideoUNet` for its spatial layers, from the config of an SD 2 network.

    Args:
        config: `UNet2DConditionModel.config`, or the content of its `config.json`.

    Raises:
        ValueError: the network is not Stable Diffusion 2's at any size; the message names the likely model.
    """
    options = {**_DEFAULTS, **config}
    _check_model(options)
    widths = list(options["block_out_channels"])
    head_dims = {width // heads for width, heads in zip(widths, _heads(options, len(widths)), strict=True)}
    if len(head_dims) != 1 or any(width % widths[0] for width in widths):
        raise ValueError(
            f"its attention heads have widths {sorted(head_dims)} in levels of widths {widths}; VideoUNet needs one"
            " head width, and levels that are multiples of the first"
        )
    return {
        "in_channels": options["in_channels"],
        "out_channels": options["out_channels"],
        "model_channels": widths[0],
        "channel_mult": tuple(width // widths[0] for width in widths),
        "num_res_blocks": _one_value(options, "layers_per_block"),
        "attention_levels": _attention_levels(options),
        "head_dim": head_dims.pop(),
        "transformer_depth": _one_value(options, "transformer_layers_per_block"),
        "context_dim": options["cross_attention_dim"],
        "norm_groups": options["norm_num_groups"],
        "scale_shift": _scale_shift(options),
    }


def _check_model(options: Mapping[str, Any]) -> None:
    if options.get("_class_name") != "UNet2DConditionModel":
        raise ValueError(f"its unet is {options.get('_class_name')!r}, not diffusers' 'UNet2DConditionModel'")
    missing = sorted(_NEEDED - set(options))
    if missing:
        raise ValueError(f"the config of its unet lacks {', '.join(missing)}")
    width, channels = options.get("cross_attention_dim"), options["in_channels"]
    if not isinstance(width, int) or (width in _MODEL_BY_TEXT_WIDTH and width != SD2_TEXT_WIDTH):
        seems = model_by_text_width(width) if isinstance(width, int) else "another model"
        raise ValueError(f"it seems to be {seems} (cross_attention_dim {width}, not {SD2_TEXT_WIDTH})")
    if channels != options["out_channels"]:
        seems = _MODEL_BY_CHANNELS.get(channels, "another model")
        raise ValueError(
            f"it seems to be {seems} (its unet has {channels} input channels, not {options['out_channels']})"
        )
    for name, supported in _FIXED.items():
        if options[name] != supported:
            raise ValueError(f"its unet has {name}={options[name]!r}; Stable Diffusion 2.1 has {supported!r}")


def _heads(options: Mapping[str, Any], num_levels: int) -> list[int]:
    # diffusers reads `attention_head_dim` as the number of heads unless `num_attention_heads` is given.
    heads = options.get("num_attention_heads") or options.get("attention_head_dim", 8)
    return [heads] * num_levels if isinstance(heads, int) else list(heads)


def _scale_shift(options: Mapping[str, Any]) -> bool:
    given = options["resnet_time_scale_shift"]
    if given not in ("default", "scale_shift"):
        raise ValueError(f"its unet has resnet_time_scale_shift={given!r}; expected 'default' or 'scale_shift'")
    return bool(given == "scale_shift")


def _one_value(options: Mapping[str, Any], name: str) -> int:
    given = options[name]
    values = {given} if isinstance(given, int) else set(given)
    if len(values) != 1:
        raise ValueError(f"its unet has {name}={given!r}; VideoUNet needs one value for all levels")
    return values.pop()


def _attention_levels(options: Mapping[str, Any]) -> tuple[int, ...]:
    down, up = options["down_block_types"], options["up_block_types"]
    expected = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}
    if [expected.get(name) for name in down] != list(reversed(up)):
        raise ValueError(f"its unet has blocks {list(down)} and {list(up)}, which are not Stable Diffusion's")
    return tuple(level for level, name in enumerate(down) if name == "CrossAttnDownBlock2D")

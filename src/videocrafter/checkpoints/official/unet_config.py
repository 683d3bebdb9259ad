"""Translate the `unet_config.params` of an official config file into arguments of VideoUNet."""

import difflib
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from videocrafter.checkpoints.official.config_values import check_whole, check_whole_list, number_of

# Official name -> ours, for options with the same values on both sides.
_SAME: Mapping[str, str] = MappingProxyType(
    {
        "in_channels": "in_channels",
        "out_channels": "out_channels",
        "model_channels": "model_channels",
        "num_res_blocks": "num_res_blocks",
        "num_head_channels": "head_dim",
        "transformer_depth": "transformer_depth",
        "context_dim": "context_dim",
        "temporal_length": "temporal_length",
        "use_relative_position": "relative_position",
        "temporal_conv": "temporal_convolution",
        "fps_cond": "fps_condition",
        "use_image_attention": "image_cross_attention",
        "use_scale_shift_norm": "scale_shift",
        "dropout": "dropout",
    }
)
_WHOLE = (
    "in_channels",
    "out_channels",
    "model_channels",
    "num_res_blocks",
    "num_head_channels",
    "transformer_depth",
    "context_dim",
    "temporal_length",
)
_TRANSLATED = frozenset({"attention_resolutions", "channel_mult", "addition_attention"})

# Options for which VideoUNet supports only the value of the released checkpoints.
_FIXED: Mapping[str, Any] = MappingProxyType(
    {
        "use_linear": True,
        "temporal_attention": True,
        "temporal_selfatt_only": True,
        "use_causal_attention": False,
        "conv_resample": True,
        "resblock_updown": False,
        "tempspatial_aware": False,
        "dims": 2,
    }
)

# Defaults of the official network.
_OFFICIAL_DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "channel_mult": (1, 2, 4, 8),
        "transformer_depth": 1,
        "temporal_transformer_depth": 1,
        "use_relative_position": True,
        "temporal_conv": False,
        "fps_cond": False,
        "addition_attention": False,
        "use_image_attention": False,
        "use_scale_shift_norm": False,
        "dropout": 0.0,
        **_FIXED,
        "use_linear": False,
    }
)

# The first two do not change the result, and the number of heads follows from their width.
_IGNORED = frozenset({"use_checkpoint", "use_fp16", "num_heads"})

# Arguments that the official code fixes or lacks, written out so that converted models do not depend on VideoUNet's
# defaults.
_CONSTANTS: Mapping[str, Any] = MappingProxyType(
    {
        "norm_groups": 32,
        "temporal_dropout": 0.1,
        "temporal_layers_on_images": True,
        "frame_text_condition": False,
        "place_condition": False,
    }
)
HEADS_AFTER_INPUT = 8
"""Number of heads of the temporal transformer after the input convolution (`init_attn`), fixed in the format."""


def unet_config_from_official(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `VideoUNet` for the `params` of an official `unet_config`.

    Raises:
        ValueError: an option is unknown or missing, or has a value that VideoUNet does not support.
    """
    _check_names(params)
    options = {**_OFFICIAL_DEFAULTS, **params}
    _check_values(options)
    return {
        **{own: options[name] for name, own in _SAME.items()},
        **_CONSTANTS,
        "channel_mult": tuple(options["channel_mult"]),
        "attention_levels": _levels(options["attention_resolutions"], len(options["channel_mult"])),
        "initial_temporal_heads": HEADS_AFTER_INPUT if options["addition_attention"] else 0,
    }


def _levels(resolutions: Sequence[int], num_levels: int) -> tuple[int, ...]:
    """Translate `attention_resolutions`, which are downsampling factors: 1 is level 0, 2 level 1, 4 level 2, ..."""
    factors = [2**level for level in range(num_levels)]
    unknown = sorted(set(resolutions) - set(factors))
    if unknown:
        raise ValueError(
            f"attention_resolutions contains {unknown}; a network of {num_levels} levels supports only {factors}"
        )
    return tuple(level for level, factor in enumerate(factors) if factor in resolutions)


def _check_names(params: Mapping[str, Any]) -> None:
    known = {*_SAME, *_TRANSLATED, *_OFFICIAL_DEFAULTS, *_IGNORED}
    for name in params:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"expected some of {', '.join(sorted(known))}"
            raise ValueError(f"unknown option {name!r} in unet_config.params; {hint}")
    missing = sorted({*_SAME, *_TRANSLATED} - {*_OFFICIAL_DEFAULTS, *params})
    if missing:
        raise ValueError(f"unet_config.params lacks {', '.join(missing)}")


def _check_values(options: Mapping[str, Any]) -> None:
    for name, supported in _FIXED.items():
        if options[name] != supported:
            raise ValueError(f"{name} is {options[name]!r}; VideoUNet supports only {supported!r}")
    if options["num_head_channels"] == -1:
        raise ValueError(
            "num_head_channels is -1; set it to the width of a head (a fixed number of heads is not supported)"
        )
    number_of(options, "dropout", 0.0, "unet_config.params.")
    check_whole(options, _WHOLE, "unet_config.params")
    check_whole_list(options, "channel_mult", "unet_config.params")
    check_whole_list(options, "attention_resolutions", "unet_config.params", may_be_empty=True)
    if options["temporal_transformer_depth"] != options["transformer_depth"]:
        raise ValueError(
            f"temporal_transformer_depth is {options['temporal_transformer_depth']} and transformer_depth"
            f" {options['transformer_depth']}; VideoUNet supports only equal depths"
        )

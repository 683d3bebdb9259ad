"""The autoencoder of an official checkpoint: config, sizes and key rules.

The official network is latent diffusion's AutoencoderKL; ours is diffusers' class of the same name. Both compute the
same, but diffusers numbers the decoder's levels from the smallest resolution and uses linear layers in the middle
attention, where the official network has 1x1 convolutions.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any

from videocrafter.checkpoints.official.config_values import check_whole, check_whole_list
from videocrafter.checkpoints.official.key_rules import Rule, module_rules, with_prefix
from videocrafter.checkpoints.official.key_shapes import Shapes, has_module, num_modules, shape_at

VAE_PREFIX = "first_stage_model."
"""Prefix of the autoencoder's keys in an official checkpoint."""
LATENT_SCALE = 0.18215
"""Factor applied to the latents in every released model; a checkpoint does not contain it."""

# Options for which AutoencoderKL supports only the value of the released checkpoints.
_FIXED: Mapping[str, Any] = MappingProxyType(
    {"double_z": True, "dropout": 0.0, "resamp_with_conv": True, "attn_type": "vanilla", "use_linear_attn": False}
    | {"tanh_out": False, "give_pre_end": False}
)
_SIZES = frozenset({"z_channels", "in_channels", "out_ch", "ch", "ch_mult", "num_res_blocks"})
_OTHER = frozenset({"resolution", "attn_resolutions"})

# Training resolution of the released autoencoder. It only determines the tile size.
_RESOLUTION = 512
_NORM_GROUPS = 32

# Modules with a weight and a bias, as (official, own).
_RESIDUAL = (("norm1", "norm1"), ("conv1", "conv1"), ("norm2", "norm2"), ("conv2", "conv2"))
_ATTENTION = (("q", "to_q"), ("k", "to_k"), ("v", "to_v"), ("proj_out", "to_out.0"))
_ENDS = (("conv_in", "conv_in"), ("norm_out", "conv_norm_out"), ("conv_out", "conv_out"))


def vae_config_from_official(params: Mapping[str, Any], latent_scale: float = LATENT_SCALE) -> dict[str, Any]:
    """Return the arguments of `AutoencoderKL` for the `params` of an official `first_stage_config`.

    Raises:
        ValueError: an option is missing or unknown, or has a value that AutoencoderKL does not support.
    """
    options = params.get("ddconfig")
    if not isinstance(options, Mapping):
        raise ValueError("first_stage_config.params lacks ddconfig; expected a mapping with the autoencoder's sizes")
    _check_options(options)
    channels = options["z_channels"]
    if params.get("embed_dim", channels) != channels:
        raise ValueError(
            f"embed_dim is {params['embed_dim']} and z_channels is {channels}; AutoencoderKL needs equal values"
        )
    widths = tuple(options["ch"] * mult for mult in options["ch_mult"])
    return {
        "in_channels": options["in_channels"],
        "out_channels": options["out_ch"],
        "down_block_types": ("DownEncoderBlock2D",) * len(widths),
        "up_block_types": ("UpDecoderBlock2D",) * len(widths),
        "block_out_channels": widths,
        "layers_per_block": options["num_res_blocks"],
        "act_fn": "silu",
        "latent_channels": channels,
        "norm_num_groups": _NORM_GROUPS,
        "sample_size": options.get("resolution", _RESOLUTION),
        "scaling_factor": latent_scale,
    }


def vae_config_from_shapes(shapes: Shapes) -> dict[str, Any]:
    """Return the arguments of `AutoencoderKL` for the autoencoder in a checkpoint of these shapes.

    Raises:
        ValueError: a tensor that determines a size is missing, or the network has parts that AutoencoderKL does not
            support.
    """
    encoder, decoder = f"{VAE_PREFIX}encoder.", f"{VAE_PREFIX}decoder."
    num_levels = num_modules(shapes, f"{encoder}down.")
    if any(has_module(shapes, f"{encoder}down.{level}.attn.") for level in range(num_levels)):
        raise ValueError("the autoencoder has attention outside its middle block, which is not supported")
    ch, in_channels = shape_at(shapes, f"{encoder}conv_in.weight", 4)[:2]
    widths = [shape_at(shapes, f"{encoder}down.{level}.block.0.conv1.weight", 4)[0] for level in range(num_levels)]
    if any(width % ch for width in widths):
        raise ValueError(f"the autoencoder's levels have widths {widths}; expected multiples of {ch}")
    sizes = {
        "z_channels": shape_at(shapes, f"{decoder}conv_in.weight", 4)[1],
        "in_channels": in_channels,
        "out_ch": shape_at(shapes, f"{decoder}conv_out.weight", 4)[0],
        "ch": ch,
        "ch_mult": [width // ch for width in widths],
        "num_res_blocks": num_modules(shapes, f"{encoder}down.0.block."),
    }
    embed_dim = shape_at(shapes, f"{VAE_PREFIX}post_quant_conv.weight", 4)[1]
    return vae_config_from_official({"embed_dim": embed_dim, "ddconfig": sizes})


def vae_keys(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Return the rules for every parameter of an `AutoencoderKL`; `config` is its config or its arguments."""
    return with_prefix(VAE_PREFIX, _rules(config))


def _rules(config: Mapping[str, Any]) -> Iterator[Rule]:
    widths, depth = list(config["block_out_channels"]), config["layers_per_block"]
    last = len(widths) - 1
    channels = widths[0]
    for level, width in enumerate(widths):
        official, own = f"encoder.down.{level}.", f"encoder.down_blocks.{level}."
        yield from _residuals(official, own, channels, width, depth)
        if level < last:
            yield from module_rules(official, own, (("downsample.conv", "downsamplers.0.conv"),))
        channels = width
    for level, width in zip(range(last, -1, -1), reversed(widths), strict=True):
        official, own = f"decoder.up.{level}.", f"decoder.up_blocks.{last - level}."
        yield from _residuals(official, own, channels, width, depth + 1)
        if level > 0:
            yield from module_rules(official, own, (("upsample.conv", "upsamplers.0.conv"),))
        channels = width
    for half in ("encoder.", "decoder."):
        yield from module_rules(half, half, _ENDS)
        yield from _middle(f"{half}mid.", f"{half}mid_block.")
    yield from module_rules("", "", (("quant_conv", "quant_conv"), ("post_quant_conv", "post_quant_conv")))


def _residuals(official: str, own: str, channels_in: int, channels_out: int, count: int) -> Iterator[Rule]:
    for index in range(count):
        official_block, own_block = f"{official}block.{index}.", f"{own}resnets.{index}."
        yield from module_rules(official_block, own_block, _RESIDUAL)
        if index == 0 and channels_in != channels_out:
            yield from module_rules(official_block, own_block, (("nin_shortcut", "conv_shortcut"),))


def _middle(official: str, own: str) -> Iterator[Rule]:
    for index in range(2):
        yield from module_rules(f"{official}block_{index + 1}.", f"{own}resnets.{index}.", _RESIDUAL)
    yield from module_rules(f"{official}attn_1.", f"{own}attentions.0.", (("norm", "group_norm"),))
    yield from module_rules(f"{official}attn_1.", f"{own}attentions.0.", _ATTENTION, weight_axes=2)


def _check_options(options: Mapping[str, Any]) -> None:
    unknown = sorted(set(options) - _SIZES - _OTHER - set(_FIXED))
    if unknown:
        raise ValueError(f"unknown options {', '.join(unknown)} in first_stage_config.params.ddconfig")
    missing = sorted(_SIZES - set(options))
    if missing:
        raise ValueError(f"first_stage_config.params.ddconfig lacks {', '.join(missing)}")
    for name, supported in _FIXED.items():
        if options.get(name, supported) != supported:
            raise ValueError(f"ddconfig.{name} is {options[name]!r}; AutoencoderKL supports only {supported!r}")
    where = "first_stage_config.params.ddconfig"
    check_whole(options, ("z_channels", "in_channels", "out_ch", "ch", "num_res_blocks", "resolution"), where)
    check_whole_list(options, "ch_mult", where)
    if options["ch_mult"][0] != 1:
        raise ValueError(f"{where}.ch_mult is {list(options['ch_mult'])}; expected a list that begins with 1")
    if options.get("attn_resolutions"):
        raise ValueError(
            f"ddconfig.attn_resolutions is {options['attn_resolutions']!r}; expected an empty list, because only"
            " attention in the middle block is supported"
        )

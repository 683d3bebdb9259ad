"""Key map between Stable Diffusion 2's network and VideoUNet, and the parts that only VideoUNet has.

VideoUNet is Stable Diffusion 2's image network with added temporal layers (paper §3.1). diffusers'
`UNet2DConditionModel` and VideoUNet are walked in parallel, so nothing is matched by pattern: each of our parameters
has a counterpart or belongs to a new part.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class SdKey:
    """A parameter that both networks share, with the same shape and meaning.

    Attributes:
        sd: key in `UNet2DConditionModel.state_dict()`.
        own: key in `VideoUNet.state_dict()`.
    """

    sd: str
    own: str


@dataclass(frozen=True)
class NewPart:
    """A part of VideoUNet that Stable Diffusion does not have.

    Attributes:
        prefix: prefix of its parameters' names, ending in a dot.
        zero_layers: its layers, below `prefix`, that make the part a no-op if they are zero; empty if there are none.
    """

    prefix: str
    zero_layers: tuple[str, ...]


# Modules with a weight and a bias, as (Stable Diffusion's, own).
_RESIDUAL = (
    ("norm1", "norm1"),
    ("conv1", "conv1"),
    ("time_emb_proj", "embedding"),
    ("norm2", "norm2"),
    ("conv2", "conv2"),
)
_BLOCK = (
    ("norm1", "norm1"),
    ("norm2", "norm2"),
    ("norm3", "norm3"),
    ("ff.net.0.proj", "mlp.linear_in"),
    ("ff.net.2", "mlp.linear_out"),
)
_ATTENTIONS = (("attn1", "self_attention"), ("attn2", "cross_attention"))


def sd_keys(config: Mapping[str, Any]) -> tuple[SdKey, ...]:
    """Return every parameter that a VideoUNet shares with Stable Diffusion's network of the same size.

    Args:
        config: `VideoUNet.config`, or the full set of arguments that it is built from.
    """
    return tuple(item for item in _Walk(config).items() if isinstance(item, SdKey))


def new_parts(config: Mapping[str, Any]) -> tuple[NewPart, ...]:
    """Return the parts of a VideoUNet that Stable Diffusion's network lacks; `config` as for `sd_keys`."""
    return tuple(item for item in _Walk(config).items() if isinstance(item, NewPart))


_Item = SdKey | NewPart


class _Walk:
    """A parallel walk through both networks; every method yields the keys of one part."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.widths = [config["model_channels"] * mult for mult in config["channel_mult"]]

    def items(self) -> Iterator[_Item]:
        config = self.config
        embedding = (("linear_1", "linear_1"), ("linear_2", "linear_2"))
        yield from _modules("time_embedding.", "timestep_embedding.", embedding)
        if config["fps_condition"]:
            yield NewPart("fps_embedding.", ("linear_2",))
        if config["frame_text_condition"]:
            yield NewPart("frame_text_embedding.", ("out",))
        yield from _modules("", "", (("conv_in", "conv_in"),))
        if config["place_condition"]:
            yield NewPart("place_embedding.", ("static", "maps_in"))
        if config["initial_temporal_heads"]:
            yield NewPart("temporal_in.", ("proj_out",))
        skips = yield from self.down()
        width = self.widths[-1]
        yield from self.layer("mid_block.", 0, "middle_in.", width, width, True)
        yield from self.residual("mid_block.resnets.1.", "middle_out.", width, width)
        yield from self.up(skips)
        yield from _modules("", "", (("conv_norm_out", "norm_out"), ("conv_out", "conv_out")))

    def down(self) -> Generator[_Item, None, list[int]]:
        """Yield the keys of the way down; return the widths of the skip connections."""
        channels = self.config["model_channels"]
        skips = [channels]
        for level, width in enumerate(self.widths):
            sd, own = f"down_blocks.{level}.", f"down_stages.{level}."
            for index in range(self.config["num_res_blocks"]):
                has_transformers = level in self.config["attention_levels"]
                yield from self.layer(sd, index, f"{own}layers.{index}.", channels, width, has_transformers)
                channels = width
                skips.append(channels)
            if level < len(self.widths) - 1:
                yield from _modules(f"{sd}downsamplers.0.", f"{own}resample.", (("conv", "conv"),))
                skips.append(channels)
        return skips

    def up(self, skips: list[int]) -> Iterator[_Item]:
        channels = self.widths[-1]
        for number, level in enumerate(reversed(range(len(self.widths)))):
            sd, own, width = f"up_blocks.{number}.", f"up_stages.{number}.", self.widths[level]
            for index in range(self.config["num_res_blocks"] + 1):
                inputs, has_transformers = channels + skips.pop(), level in self.config["attention_levels"]
                yield from self.layer(sd, index, f"{own}layers.{index}.", inputs, width, has_transformers)
                channels = width
            if level > 0:
                yield from _modules(f"{sd}upsamplers.0.", f"{own}resample.", (("conv", "conv"),))

    def layer(
        self, sd: str, index: int, own: str, channels_in: int, channels_out: int, has_transformers: bool
    ) -> Iterator[_Item]:
        yield from self.residual(f"{sd}resnets.{index}.", f"{own}residual.", channels_in, channels_out)
        if has_transformers:
            yield from self.spatial_transformer(f"{sd}attentions.{index}.", f"{own}spatial.")
            yield NewPart(f"{own}temporal.", ("proj_out",))

    def residual(self, sd: str, own: str, channels_in: int, channels_out: int) -> Iterator[_Item]:
        yield from _modules(sd, own, _RESIDUAL)
        if channels_in != channels_out:
            yield from _modules(sd, own, (("conv_shortcut", "skip"),))
        if self.config["temporal_convolution"]:
            yield NewPart(f"{own}temporal.", ("convs.3",))

    def spatial_transformer(self, sd: str, own: str) -> Iterator[_Item]:
        yield from _modules(sd, own, (("norm", "norm"), ("proj_in", "proj_in"), ("proj_out", "proj_out")))
        for depth in range(self.config["transformer_depth"]):
            sd_block, own_block = f"{sd}transformer_blocks.{depth}.", f"{own}blocks.{depth}."
            yield from _modules(sd_block, own_block, _BLOCK)
            for sd_name, own_name in _ATTENTIONS:
                sd_attention, own_attention = f"{sd_block}{sd_name}.", f"{own_block}{own_name}."
                for projection in ("to_q", "to_k", "to_v"):
                    yield SdKey(f"{sd_attention}{projection}.weight", f"{own_attention}{projection}.weight")
                yield from _modules(sd_attention, own_attention, (("to_out.0", "to_out"),))
            if self.config["image_cross_attention"]:
                yield NewPart(f"{own_block}cross_attention.to_k_image.", ())
                yield NewPart(f"{own_block}cross_attention.to_v_image.", ())


def _modules(sd: str, own: str, names: tuple[tuple[str, str], ...]) -> Iterator[SdKey]:
    for sd_name, own_name in names:
        for kind in ("weight", "bias"):
            yield SdKey(f"{sd}{sd_name}.{kind}", f"{own}{own_name}.{kind}")

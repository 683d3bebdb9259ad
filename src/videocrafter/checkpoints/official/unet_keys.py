"""Key rules of the denoiser, between an official checkpoint and VideoUNet.

The official network consists of three lists of modules (`input_blocks`, `middle_block`, `output_blocks`), in which
the index of a module follows from the config; VideoUNet has named stages. `unet_keys` walks both in parallel and
returns one rule per tensor. Nothing is matched by pattern: a key either has a rule or is unknown.
"""

from collections.abc import Generator, Iterator, Mapping
from typing import Any

from videocrafter.checkpoints.official.key_rules import Rule, module_rules, tensor_rules, with_prefix

OFFICIAL_PREFIX = "model.diffusion_model."
"""Prefix of the denoiser's keys in an official checkpoint."""

# Modules with a weight and a bias, as (official, own).
_EMBEDDING = (("0", "linear_1"), ("2", "linear_2"))
_RESIDUAL = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "embedding"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
)
# The spelling "temopral" is official. A dropout shifts the index of every convolution but the first by one.
_TEMPORAL_CONVOLUTION_NORMS = tuple((f"temopral_conv.conv{n + 1}.0", f"temporal.norms.{n}") for n in range(4))
_TEMPORAL_CONVOLUTIONS = tuple(
    (f"temopral_conv.conv{n + 1}.{2 if n == 0 else 3}", f"temporal.convs.{n}") for n in range(4)
)
_TRANSFORMER_PROJECTIONS = (("proj_in", "proj_in"), ("proj_out", "proj_out"))
_TRANSFORMER_BLOCK = (
    ("norm1", "norm1"),
    ("norm2", "norm2"),
    ("norm3", "norm3"),
    ("ff.net.0.proj", "mlp.linear_in"),
    ("ff.net.2", "mlp.linear_out"),
)
_SPATIAL_ATTENTIONS = (("attn1", "self_attention"), ("attn2", "cross_attention"))
_TEMPORAL_ATTENTIONS = (("attn1", "attention1"), ("attn2", "attention2"))

# Single tensors, as (official, own).
_QUERY_KEY_VALUE = (
    ("to_q.weight", "to_q.weight"),
    ("to_k.weight", "to_k.weight"),
    ("to_v.weight", "to_v.weight"),
)
_IMAGE_KEY_VALUE = (
    ("attn2.to_k_ip.weight", "cross_attention.to_k_image.weight"),
    ("attn2.to_v_ip.weight", "cross_attention.to_v_image.weight"),
)
_RELATIVE_POSITIONS = (
    ("relative_position_k.embeddings_table", "relative_k.table"),
    ("relative_position_v.embeddings_table", "relative_v.table"),
)


def unet_keys(config: Mapping[str, Any]) -> tuple[Rule, ...]:
    """Return the rules for every parameter of a VideoUNet.

    Args:
        config: `VideoUNet.config`, or the full set of arguments that it is built from.

    Raises:
        ValueError: the config enables a part that the official network does not have.
    """
    for option in ("frame_text_condition", "place_condition"):
        if config[option]:
            raise ValueError(f"{option} is on, but the official format does not support it; use a model without it")
    return with_prefix(OFFICIAL_PREFIX, _Walk(config).rules())


class _Walk:
    """A parallel walk through both networks; every method yields the rules of one part."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.widths = [config["model_channels"] * mult for mult in config["channel_mult"]]

    def rules(self) -> Iterator[Rule]:
        config = self.config
        yield from module_rules("time_embed.", "timestep_embedding.", _EMBEDDING)
        if config["fps_condition"]:
            yield from module_rules("fps_embedding.", "fps_embedding.", _EMBEDDING)
        yield from module_rules("input_blocks.0.", "", (("0", "conv_in"),))
        if config["initial_temporal_heads"]:
            yield from self.temporal_transformer("init_attn.0.", "temporal_in.", projection_axes=1)
        skips = yield from self.down()
        yield from self.layer("middle_block.", "middle_in.", self.widths[-1], self.widths[-1], True)
        yield from self.residual("middle_block.3.", "middle_out.", self.widths[-1], self.widths[-1])
        yield from self.up(skips)
        yield from module_rules("out.", "", (("0", "norm_out"), ("2", "conv_out")))

    def down(self) -> Generator[Rule, None, list[int]]:
        """Yield the rules of the way down; return the widths of the skip connections."""
        channels = self.config["model_channels"]
        skips, block = [channels], 0
        for level, width in enumerate(self.widths):
            stage = f"down_stages.{level}."
            for index in range(self.config["num_res_blocks"]):
                block += 1
                has_transformers = level in self.config["attention_levels"]
                own = f"{stage}layers.{index}."
                yield from self.layer(f"input_blocks.{block}.", own, channels, width, has_transformers)
                channels = width
                skips.append(channels)
            if level < len(self.widths) - 1:
                block += 1
                yield from module_rules(f"input_blocks.{block}.0.", f"{stage}resample.", (("op", "conv"),))
                skips.append(channels)
        return skips

    def up(self, skips: list[int]) -> Iterator[Rule]:
        channels, block = self.widths[-1], 0
        for number, level in enumerate(reversed(range(len(self.widths)))):
            stage, width = f"up_stages.{number}.", self.widths[level]
            has_transformers = level in self.config["attention_levels"]
            for index in range(self.config["num_res_blocks"] + 1):
                official, own = f"output_blocks.{block}.", f"{stage}layers.{index}."
                yield from self.layer(official, own, channels + skips.pop(), width, has_transformers)
                channels = width
                block += 1
            if level > 0:
                # The upsampler is the last module of the level's last block.
                place = 3 if has_transformers else 1
                official = f"output_blocks.{block - 1}.{place}."
                yield from module_rules(official, f"{stage}resample.", (("conv", "conv"),))

    def layer(
        self, official: str, own: str, channels_in: int, channels_out: int, has_transformers: bool
    ) -> Iterator[Rule]:
        yield from self.residual(f"{official}0.", f"{own}residual.", channels_in, channels_out)
        if has_transformers:
            yield from self.spatial_transformer(f"{official}1.", f"{own}spatial.")
            yield from self.temporal_transformer(f"{official}2.", f"{own}temporal.")

    def residual(self, official: str, own: str, channels_in: int, channels_out: int) -> Iterator[Rule]:
        yield from module_rules(official, own, _RESIDUAL)
        if channels_in != channels_out:
            yield from module_rules(official, own, (("skip_connection", "skip"),))
        if self.config["temporal_convolution"]:
            yield from module_rules(official, own, _TEMPORAL_CONVOLUTION_NORMS)
            yield from module_rules(official, own, _TEMPORAL_CONVOLUTIONS, weight_axes=1)

    def spatial_transformer(self, official: str, own: str) -> Iterator[Rule]:
        yield from _transformer(official, own)
        for block in range(self.config["transformer_depth"]):
            official_block, own_block = f"{official}transformer_blocks.{block}.", f"{own}blocks.{block}."
            yield from _block(official_block, own_block, _SPATIAL_ATTENTIONS)
            if self.config["image_cross_attention"]:
                yield from tensor_rules(official_block, own_block, _IMAGE_KEY_VALUE)

    def temporal_transformer(self, official: str, own: str, projection_axes: int = 0) -> Iterator[Rule]:
        yield from _transformer(official, own, projection_axes)
        for block in range(self.config["transformer_depth"]):
            official_block, own_block = f"{official}transformer_blocks.{block}.", f"{own}blocks.{block}."
            yield from _block(official_block, own_block, _TEMPORAL_ATTENTIONS)
            if self.config["relative_position"]:
                for name, own_name in _TEMPORAL_ATTENTIONS:
                    yield from tensor_rules(
                        f"{official_block}{name}.", f"{own_block}{own_name}.", _RELATIVE_POSITIONS
                    )


def _transformer(official: str, own: str, projection_axes: int = 0) -> Iterator[Rule]:
    yield from module_rules(official, own, (("norm", "norm"),))
    yield from module_rules(official, own, _TRANSFORMER_PROJECTIONS, weight_axes=projection_axes)


def _block(official: str, own: str, attentions: tuple[tuple[str, str], ...]) -> Iterator[Rule]:
    yield from module_rules(official, own, _TRANSFORMER_BLOCK)
    for name, own_name in attentions:
        yield from tensor_rules(f"{official}{name}.", f"{own}{own_name}.", _QUERY_KEY_VALUE)
        yield from module_rules(f"{official}{name}.", f"{own}{own_name}.", (("to_out.0", "to_out"),))

"""Which key of an official checkpoint is which parameter of VideoUNet: one table, read in both directions.

The official network is three lists of modules (`input_blocks`, `middle_block`, `output_blocks`) in which the
place of a module follows from the config; VideoUNet has named stages. `unet_keys` walks both in step and
returns every pair, so nothing is matched by pattern, and a key is either in the table or unknown.
"""

from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

OFFICIAL_PREFIX = "model.diffusion_model."
"""What the denoiser's keys start with in an official checkpoint."""


@dataclass(frozen=True, kw_only=True)
class KeyPair:
    """One parameter under its two names.

    Attributes:
        official: key in an official checkpoint, prefix included.
        own: name in `VideoUNet.state_dict()`.
        unit_axes: how many axes of size 1 the official tensor has at its end that ours lacks. A convolution
            over nothing but its own place is a linear layer (`[o, i, 1]`: 1), and one over frames alone needs
            no third axis (`[o, i, 3, 1, 1]`: 1).
    """

    official: str
    own: str
    unit_axes: int = 0

    def to_own(self, tensor: Tensor) -> Tensor:
        """The official tensor in the shape that VideoUNet has. Raises ValueError for axes that are not 1."""
        ending = tuple(tensor.shape[tensor.ndim - self.unit_axes :])
        if ending != (1,) * self.unit_axes:
            raise ValueError(
                f"{self.official} has shape {tuple(tensor.shape)}, but must end in {self.unit_axes} axes of size 1"
            )
        return tensor.reshape(tensor.shape[: tensor.ndim - self.unit_axes])

    def to_official(self, tensor: Tensor) -> Tensor:
        """VideoUNet's tensor in the official shape."""
        return tensor.reshape(*tensor.shape, *[1] * self.unit_axes)


# Modules with a weight and a bias, as (official, own).
_EMBEDDING = (("0", "linear_1"), ("2", "linear_2"))
_RESIDUAL = (
    ("in_layers.0", "norm1"),
    ("in_layers.2", "conv1"),
    ("emb_layers.1", "embedding"),
    ("out_layers.0", "norm2"),
    ("out_layers.3", "conv2"),
)
# [sic]. A dropout before the convolution of all but the first shifts its index by one.
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


def unet_keys(config: Mapping[str, Any]) -> tuple[KeyPair, ...]:
    """Return a pair for every parameter of a VideoUNet.

    Args:
        config: `VideoUNet.config`, or the full set of arguments that it is built from.

    Raises:
        ValueError: the config switches on a part that the official network does not have.
    """
    for option in ("frame_text_condition", "place_condition"):
        if config[option]:
            raise ValueError(f"a VideoUNet with {option} has no counterpart in the official format; set it to False")
    return tuple(_Walk(config).pairs())


def to_own_state(official: Mapping[str, Tensor], pairs: tuple[KeyPair, ...]) -> dict[str, Tensor]:
    """Rename and reshape the denoiser of an official checkpoint for `VideoUNet.load_state_dict`.

    Keys that do not start with `OFFICIAL_PREFIX` (other networks, the noise schedule) are passed over.

    Raises:
        ValueError: a key of the denoiser is missing or unknown; the message names the first few.
    """
    present = {key for key in official if key.startswith(OFFICIAL_PREFIX)}
    _check_same(present, {pair.official for pair in pairs}, "the checkpoint's denoiser")
    return {pair.own: pair.to_own(official[pair.official]) for pair in pairs}


def to_official_state(own: Mapping[str, Tensor], pairs: tuple[KeyPair, ...]) -> dict[str, Tensor]:
    """The reverse of `to_own_state`: VideoUNet's state dict under official keys; as strict."""
    _check_same(set(own), {pair.own for pair in pairs}, "the VideoUNet")
    return {pair.official: pair.to_official(own[pair.own]) for pair in pairs}


def _check_same(present: set[str], expected: set[str], what: str) -> None:
    complaints = []
    for title, keys in (("lacks", expected - present), ("has unknown", present - expected)):
        if keys:
            first = ", ".join(sorted(keys)[:3])
            complaints.append(f"{title} {len(keys)} keys ({first}{', ...' if len(keys) > 3 else ''})")
    if complaints:
        raise ValueError(
            f"{what} {' and '.join(complaints)}; the config must describe the same network as the weights"
        )


class _Walk:
    """Goes through both networks in step; every method yields the pairs of one part."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self.config = config
        self.widths = [config["model_channels"] * mult for mult in config["channel_mult"]]

    def pairs(self) -> Iterator[KeyPair]:
        config = self.config
        yield from _modules("time_embed.", "timestep_embedding.", _EMBEDDING)
        if config["fps_condition"]:
            yield from _modules("fps_embedding.", "fps_embedding.", _EMBEDDING)
        yield from _modules("input_blocks.0.", "", (("0", "conv_in"),))
        if config["initial_temporal_heads"]:
            yield from self.temporal_transformer("init_attn.0.", "temporal_in.", projection_axes=1)
        skips = yield from self.down()
        yield from self.layer("middle_block.", "middle_in.", self.widths[-1], self.widths[-1], True)
        yield from self.residual("middle_block.3.", "middle_out.", self.widths[-1], self.widths[-1])
        yield from self.up(skips)
        yield from _modules("out.", "", (("0", "norm_out"), ("2", "conv_out")))

    def down(self) -> Generator[KeyPair, None, list[int]]:
        """Also returns the widths that are handed over to the way up."""
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
                yield from _modules(f"input_blocks.{block}.0.", f"{stage}resample.", (("op", "conv"),))
                skips.append(channels)
        return skips

    def up(self, skips: list[int]) -> Iterator[KeyPair]:
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
                # The last block of a level carries the upsampler behind whatever else it holds.
                place = 3 if has_transformers else 1
                official = f"output_blocks.{block - 1}.{place}."
                yield from _modules(official, f"{stage}resample.", (("conv", "conv"),))

    def layer(
        self, official: str, own: str, channels_in: int, channels_out: int, has_transformers: bool
    ) -> Iterator[KeyPair]:
        yield from self.residual(f"{official}0.", f"{own}residual.", channels_in, channels_out)
        if has_transformers:
            yield from self.spatial_transformer(f"{official}1.", f"{own}spatial.")
            yield from self.temporal_transformer(f"{official}2.", f"{own}temporal.")

    def residual(self, official: str, own: str, channels_in: int, channels_out: int) -> Iterator[KeyPair]:
        yield from _modules(official, own, _RESIDUAL)
        if channels_in != channels_out:
            yield from _modules(official, own, (("skip_connection", "skip"),))
        if self.config["temporal_convolution"]:
            yield from _modules(official, own, _TEMPORAL_CONVOLUTION_NORMS)
            yield from _modules(official, own, _TEMPORAL_CONVOLUTIONS, weight_axes=1)

    def spatial_transformer(self, official: str, own: str) -> Iterator[KeyPair]:
        yield from _transformer(official, own)
        for block in range(self.config["transformer_depth"]):
            official_block, own_block = f"{official}transformer_blocks.{block}.", f"{own}blocks.{block}."
            yield from _block(official_block, own_block, _SPATIAL_ATTENTIONS)
            if self.config["image_cross_attention"]:
                yield from _tensors(official_block, own_block, _IMAGE_KEY_VALUE)

    def temporal_transformer(self, official: str, own: str, projection_axes: int = 0) -> Iterator[KeyPair]:
        yield from _transformer(official, own, projection_axes)
        for block in range(self.config["transformer_depth"]):
            official_block, own_block = f"{official}transformer_blocks.{block}.", f"{own}blocks.{block}."
            yield from _block(official_block, own_block, _TEMPORAL_ATTENTIONS)
            if self.config["relative_position"]:
                for name, own_name in _TEMPORAL_ATTENTIONS:
                    yield from _tensors(f"{official_block}{name}.", f"{own_block}{own_name}.", _RELATIVE_POSITIONS)


def _transformer(official: str, own: str, projection_axes: int = 0) -> Iterator[KeyPair]:
    yield from _modules(official, own, (("norm", "norm"),))
    yield from _modules(official, own, _TRANSFORMER_PROJECTIONS, weight_axes=projection_axes)


def _block(official: str, own: str, attentions: tuple[tuple[str, str], ...]) -> Iterator[KeyPair]:
    yield from _modules(official, own, _TRANSFORMER_BLOCK)
    for name, own_name in attentions:
        yield from _tensors(f"{official}{name}.", f"{own}{own_name}.", _QUERY_KEY_VALUE)
        yield from _modules(f"{official}{name}.", f"{own}{own_name}.", (("to_out.0", "to_out"),))


def _modules(official: str, own: str, names: tuple[tuple[str, str], ...], weight_axes: int = 0) -> Iterator[KeyPair]:
    for name, own_name in names:
        weight = (f"{name}.weight", f"{own_name}.weight")
        bias = (f"{name}.bias", f"{own_name}.bias")
        yield from _tensors(official, own, (weight,), weight_axes)
        yield from _tensors(official, own, (bias,))


def _tensors(official: str, own: str, names: tuple[tuple[str, str], ...], unit_axes: int = 0) -> Iterator[KeyPair]:
    for name, own_name in names:
        yield KeyPair(official=f"{OFFICIAL_PREFIX}{official}{name}", own=f"{own}{own_name}", unit_axes=unit_axes)

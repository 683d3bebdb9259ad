"""VideoUNet: the denoiser of VideoCrafter1 (paper §3.1, figures 2 and 3), one implementation for every size.

Shape suffixes: B batch, T frames, N = B*T frames folded into the batch, C channels, H W latent size, L text
tokens, M image tokens, D width.
"""

from dataclasses import dataclass
from typing import Any

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.loaders.peft import PeftAdapterMixin
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from videocrafter.models.attention import SpatialTransformer, TemporalTransformer, repeat_branches, zero_initialised
from videocrafter.models.blocks import (
    BlockConditions,
    Downsample,
    DownStage,
    ResidualBlock,
    Upsample,
    UpStage,
    VideoLayer,
    run_layer,
)
from videocrafter.models.embeddings import FrameTextEmbedding, PlaceEmbedding, SinusoidalEmbedding
from videocrafter.models.group_norm import GroupNorm
from videocrafter.models.network_options import NetworkOptions


class VideoUNet(NetworkOptions, ModelMixin, ConfigMixin, PeftAdapterMixin):
    """Predict the noise or velocity of a noisy latent video from timestep, text, motion speed (fps) and image.

    Args:
        in_channels, out_channels: latent channels (4 for Stable Diffusion's VAE).
        model_channels: width of the first level; the embeddings are four times as wide.
        channel_mult: width of each level in units of `model_channels`; each level after the first halves height
            and width.
        num_res_blocks: layers per level on the way down (one more on the way up).
        attention_levels: levels with transformers; the middle always has them.
        head_dim: width of an attention head; the number of heads follows from the level's width.
        transformer_depth: blocks per transformer.
        context_dim: width of text and image tokens.
        norm_groups: groups of every group norm.
        temporal_length: number of frames in training. Relative positions clamp distances between frames at this
            value, so their tables have 2 * temporal_length + 1 rows.
        relative_position: use learned relative positions for keys and values in temporal attention.
        temporal_convolution: put a temporal convolution in every residual block.
        initial_temporal_heads: heads of the temporal transformer after the input convolution; 0 for none.
        fps_condition: add an fps embedding to the timestep embedding.
        image_cross_attention: add the image branch (paper §3.2).
        dropout, temporal_dropout: dropout of residual blocks and of temporal convolutions.
        scale_shift: let the embedding scale and shift features instead of being added to them (off in official
            variants).
        frame_text_condition: add an embedding of frame index and summed text (off in official variants).
        place_condition: add position features and maps computed from each frame's embedding after the input
            convolution (off in official variants).
        temporal_layers_on_images: run the temporal layers on a single frame too, as the official network does.
            When off, a still image neither uses nor trains them.
    """

    takes_branches = True
    """Whether `forward` accepts several conditions for each clip."""
    _supports_gradient_checkpointing = True
    _sharded_blocks = ("VideoLayer",)
    # The names and types that diffusers looks up.
    _repeated_blocks = ["SpatialBlock", "TemporalBlock"]  # noqa: RUF012
    _no_split_modules = ["VideoLayer", "ResidualBlock", "TemporalTransformer", "FrameTextEmbedding", "PlaceEmbedding"]  # noqa: RUF012
    _skip_layerwise_casting_patterns = ("norm", "_embedding", "^conv_in$", "^conv_out$")

    @register_to_config
    def __init__(
        self,
        *,
        in_channels: int = 4,
        out_channels: int = 4,
        model_channels: int = 320,
        channel_mult: tuple[int, ...] = (1, 2, 4, 4),
        num_res_blocks: int = 2,
        attention_levels: tuple[int, ...] = (0, 1, 2),
        head_dim: int = 64,
        transformer_depth: int = 1,
        context_dim: int = 1024,
        norm_groups: int = 32,
        temporal_length: int = 16,
        relative_position: bool = False,
        temporal_convolution: bool = False,
        initial_temporal_heads: int = 8,
        fps_condition: bool = True,
        image_cross_attention: bool = False,
        dropout: float = 0.0,
        temporal_dropout: float = 0.1,
        scale_shift: bool = False,
        frame_text_condition: bool = False,
        place_condition: bool = False,
        temporal_layers_on_images: bool = False,
    ) -> None:
        super().__init__()
        widths = [model_channels * mult for mult in channel_mult]
        _check_widths(widths, head_dim, norm_groups)
        embedding_dim = 4 * model_channels
        build = _LayerBuilder(
            embedding_dim=embedding_dim,
            context_dim=context_dim,
            head_dim=head_dim,
            depth=transformer_depth,
            groups=norm_groups,
            relative_distance=temporal_length if relative_position else None,
            image_branch=image_cross_attention,
            temporal_convolution=temporal_convolution,
            scale_shift=scale_shift,
            dropout=dropout,
            temporal_dropout=temporal_dropout,
        )
        self.gradient_checkpointing = False

        self.timestep_embedding = SinusoidalEmbedding(model_channels, embedding_dim)
        self.fps_embedding = SinusoidalEmbedding(model_channels, embedding_dim) if fps_condition else None
        self.frame_text_embedding = (
            FrameTextEmbedding(model_channels, context_dim, embedding_dim) if frame_text_condition else None
        )
        self.conv_in = nn.Conv2d(in_channels, model_channels, 3, padding=1)
        self.place_embedding = PlaceEmbedding(model_channels, embedding_dim) if place_condition else None
        self.temporal_in = build.temporal(model_channels, initial_temporal_heads) if initial_temporal_heads else None
        skips = [model_channels]
        self.down_stages = nn.ModuleList()
        for level, width in enumerate(widths):
            inputs = [skips[-1]] + [width] * (num_res_blocks - 1)
            layers = [build.layer(channels, width, level in attention_levels) for channels in inputs]
            is_last = level == len(widths) - 1
            self.down_stages.append(DownStage(layers, None if is_last else Downsample(width)))
            skips += [width] * (num_res_blocks if is_last else num_res_blocks + 1)

        channels = widths[-1]
        self.middle_in = build.layer(channels, channels, has_transformers=True)
        self.middle_out = build.residual(channels, channels)

        self.up_stages = nn.ModuleList()
        for level, width in reversed(list(enumerate(widths))):
            inputs = [channels] + [width] * num_res_blocks
            layers = [build.layer(c + skips.pop(), width, level in attention_levels) for c in inputs]
            self.up_stages.append(UpStage(layers, Upsample(width) if level > 0 else None))
            channels = width

        self.norm_out = GroupNorm(norm_groups, model_channels)
        self.conv_out = zero_initialised(nn.Conv2d(model_channels, out_channels, 3, padding=1))

    @property
    def size_multiple(self) -> int:
        """The number that height and width of the latents must be multiples of."""
        return 2 ** (len(self.config["channel_mult"]) - 1)

    def forward(
        self,
        sample_BCTHW: Tensor,
        timestep_B: Tensor | float,
        text_BLD: Tensor,
        fps_B: Tensor | float | None = None,
        image_BMD: Tensor | None = None,
        image_scale: float = 1.0,
        temporal: bool = True,
    ) -> Tensor:
        """Predict noise or velocity `[B, C, T, H, W]` for noisy latents of that shape.

        Text and image tokens may be those of several guidance branches: kB rows, one branch after another. The output
        then has kB rows, and the layers before the first cross-attention, which see no text, run once per clip.

        Args:
            timestep_B: training timestep of each clip, in [0, 1000); a number or a 0-dimensional tensor is the
                timestep of all clips.
            text_BLD: text tokens.
            fps_B: motion speed of each clip in frames per second, or one number for all clips. Required if the model
                has an fps or frame-text condition, ignored otherwise.
            image_BMD: image tokens from the projector; None skips the image branch.
            image_scale: weight of the image branch's output.
            temporal: False skips all temporal layers and predicts each frame on its own, like a still image.

        Raises:
            ValueError: height or width is not a multiple of `size_multiple`, fps is missing, or the number of texts
                is not a multiple of the number of clips.
        """
        x_NCHW, conditions = self.begin(sample_BCTHW, timestep_B, text_BLD, fps_B, image_BMD, image_scale, temporal)
        skips = [x_NCHW]
        for stage in self.down_stages:
            skips += stage(skips[-1], conditions)

        x_NCHW = run_layer(self, self.middle_in, skips[-1], conditions)
        x_NCHW = run_layer(self, self.middle_out, x_NCHW, conditions)

        skips_per_stage = len(skips) // len(self.up_stages)
        for stage in self.up_stages:
            x_NCHW = stage(x_NCHW, skips[-skips_per_stage:], conditions)
            del skips[-skips_per_stage:]
        return self.finish(x_NCHW, conditions.num_frames)

    def begin(
        self,
        sample_BCTHW: Tensor,
        timestep_B: Tensor | float,
        text_BLD: Tensor,
        fps_B: Tensor | float | None,
        image_BMD: Tensor | None,
        image_scale: float,
        temporal: bool,
    ) -> tuple[Tensor, BlockConditions]:
        """Return the first layer's input `[N, C, H, W]`, and the conditions; arguments are those of `forward`."""
        self._check_input(sample_BCTHW, fps_B, text_BLD)
        branches = len(text_BLD) // len(sample_BCTHW)
        if branches > 1 and self.frame_text_embedding is not None:
            # The text is in the embedding, so the branches share nothing.
            sample_BCTHW, branches = repeat_branches(sample_BCTHW, branches), 1
            timestep_B, fps_B = (_repeat_rows(one, len(text_BLD)) for one in (timestep_B, fps_B))
        batch, _, num_frames, _, _ = sample_BCTHW.shape
        device, dtype = sample_BCTHW.device, sample_BCTHW.dtype
        timestep_B = torch.as_tensor(timestep_B, device=device).expand(batch)
        fps_B = None if fps_B is None else torch.as_tensor(fps_B, device=device).expand(batch)

        embedding_ND = self.embed(timestep_B, fps_B, text_BLD, num_frames, temporal, dtype)
        temporal = temporal and (num_frames > 1 or self.config["temporal_layers_on_images"])
        conditions = BlockConditions(
            repeat_branches(embedding_ND, branches), text_BLD, image_BMD, image_scale, num_frames, temporal
        )

        x_NCHW = sample_BCTHW.transpose(1, 2).flatten(0, 1).contiguous(memory_format=torch.channels_last)
        x_NCHW = self.conv_in(x_NCHW)
        if self.place_embedding is not None:
            x_NCHW = self.place_embedding(x_NCHW, embedding_ND)
        if self.temporal_in is not None and temporal:
            x_NCHW = self.temporal_in(x_NCHW, num_frames)
        return x_NCHW, conditions

    def finish(self, x_NCHW: Tensor, num_frames: int) -> Tensor:
        """Return the prediction `[B, C, T, H, W]` from the output of the last layer."""
        out_NCHW = self.conv_out(nn.functional.silu(self.norm_out(x_NCHW)))
        return out_NCHW.unflatten(0, (-1, num_frames)).transpose(1, 2)

    def embed(
        self,
        timestep_B: Tensor,
        fps_B: Tensor | None,
        text_BLD: Tensor,
        num_frames: int,
        temporal: bool,
        dtype: torch.dtype,
    ) -> Tensor:
        """Return the embedding `[N, D]` of each frame: timestep + fps (+ frame and text)."""
        embedding_BD = self.timestep_embedding(timestep_B, dtype)
        if self.fps_embedding is not None and fps_B is not None:
            embedding_BD = embedding_BD + self.fps_embedding(fps_B, dtype)
        embedding_BTD = embedding_BD[:, None].expand(-1, num_frames, -1)
        # Like the temporal layers, the frame embedding applies to clips only.
        if self.frame_text_embedding is not None and fps_B is not None and num_frames > 1 and temporal:
            embedding_BTD = embedding_BTD + self.frame_text_embedding(num_frames, fps_B, text_BLD, dtype)
        return embedding_BTD.flatten(0, 1)

    def _check_input(self, sample_BCTHW: Tensor, fps_B: Tensor | float | None, text_BLD: Tensor) -> None:
        height, width = sample_BCTHW.shape[-2:]
        if height % self.size_multiple or width % self.size_multiple:
            raise ValueError(
                f"the latents are {height} x {width}; height and width must be multiples of {self.size_multiple}"
            )
        if fps_B is None and (self.fps_embedding is not None or self.frame_text_embedding is not None):
            raise ValueError(
                "fps_B is missing; this model is conditioned on fps, so pass the frames per second of each clip"
            )
        if len(text_BLD) % len(sample_BCTHW):
            raise ValueError(
                f"there are {len(text_BLD)} texts for {len(sample_BCTHW)} clips; pass one text per clip, or one per"
                " clip and branch"
            )


@dataclass(frozen=True, kw_only=True)
class _LayerBuilder:
    """Factory for the layers of one network, holding their shared settings."""

    embedding_dim: int
    context_dim: int
    head_dim: int
    depth: int
    groups: int
    relative_distance: int | None
    image_branch: bool
    temporal_convolution: bool
    scale_shift: bool
    dropout: float
    temporal_dropout: float

    def residual(self, in_channels: int, out_channels: int) -> ResidualBlock:
        return ResidualBlock(
            in_channels,
            out_channels,
            self.embedding_dim,
            groups=self.groups,
            dropout=self.dropout,
            scale_shift=self.scale_shift,
            temporal_convolution=self.temporal_convolution,
            temporal_dropout=self.temporal_dropout,
        )

    def spatial(self, channels: int) -> SpatialTransformer:
        heads = channels // self.head_dim
        return SpatialTransformer(
            channels, self.context_dim, heads, self.head_dim, self.depth, self.groups, self.image_branch
        )

    def temporal(self, channels: int, heads: int) -> TemporalTransformer:
        return TemporalTransformer(channels, heads, self.head_dim, self.depth, self.groups, self.relative_distance)

    def layer(self, in_channels: int, out_channels: int, has_transformers: bool) -> VideoLayer:
        residual = self.residual(in_channels, out_channels)
        if not has_transformers:
            return VideoLayer(residual, None, None)
        temporal = self.temporal(out_channels, out_channels // self.head_dim)
        return VideoLayer(residual, self.spatial(out_channels), temporal)


def _repeat_rows(value: Tensor | float | None, rows: int) -> Any:
    """Repeat `[B]` values to this number of rows; numbers stand for all rows already."""
    return value.repeat(rows // len(value)) if isinstance(value, Tensor) and value.ndim else value


def _check_widths(widths: list[int], head_dim: int, norm_groups: int) -> None:
    for width in widths:
        if width % head_dim or width % norm_groups:
            raise ValueError(
                f"a level has {width} channels; the number must be a multiple of head_dim ({head_dim}) and of "
                f"norm_groups ({norm_groups})"
            )

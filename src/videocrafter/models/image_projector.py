"""The learnable image projection P (paper §3.2), from CLIP's image tokens to a few context tokens.

Shape suffixes: ``B`` batch, ``M`` image tokens, ``Q`` queries, ``D`` width, ``N`` heads, ``K`` head dim.

The projection is a perceiver-style resampler: learned queries attend to the image tokens in a few layers. Parameter
names are those of the official checkpoint.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import Tensor, nn

from videocrafter.models.attention import merge_heads, split_heads
from videocrafter.models.network_options import NetworkOptions

ImageTokens = Literal["patches", "global"]
"""The image tokens that are used: all of them, as the paper proposes, or the class token alone (figure 5)."""


class ImageProjector(NetworkOptions, ModelMixin, ConfigMixin):
    """Learned queries that map image tokens into the space of the text tokens.

    The defaults are those of the official model. ``dim`` is the inner width, ``embedding_dim`` the width of the image
    tokens, ``output_dim`` the width of the video network's context, ``image_tokens`` one of `ImageTokens`.

    Raises:
        ValueError: unknown ``image_tokens``.
    """

    _sharded_blocks = ()
    _no_split_modules = ["ResamplerLayer"]  # noqa: RUF012  (the name and type that diffusers looks up)

    @register_to_config
    def __init__(
        self,
        dim: int = 1024,
        depth: int = 4,
        dim_head: int = 64,
        heads: int = 12,
        num_queries: int = 16,
        embedding_dim: int = 1280,
        output_dim: int = 1024,
        ff_mult: int = 4,
        image_tokens: ImageTokens = "patches",
    ) -> None:
        super().__init__()
        if image_tokens not in get_args(ImageTokens):
            raise ValueError(f"image_tokens is {image_tokens!r}; expected {' or '.join(get_args(ImageTokens))}")
        self._global_only = image_tokens == "global"
        self.latents = nn.Parameter(torch.randn(1, num_queries, dim) / dim**0.5)
        self.proj_in = nn.Linear(embedding_dim, dim)
        self.layers = nn.ModuleList(ResamplerLayer(dim, dim_head, heads, ff_mult) for _ in range(depth))
        self.proj_out = nn.Linear(dim, output_dim)
        self.norm_out = nn.LayerNorm(output_dim)

    def forward(self, tokens_BMD: Tensor) -> Tensor:
        """Project image tokens ``[B, M, embedding_dim]`` to ``[B, Q, output_dim]``."""
        image_BMD = self.proj_in(tokens_BMD[:, :1] if self._global_only else tokens_BMD)
        queries_BQD = self.latents.expand(len(image_BMD), -1, -1)
        for layer in self.layers:
            queries_BQD = layer(image_BMD, queries_BQD)
        return self.norm_out(self.proj_out(queries_BQD))

    def silence(self) -> None:
        """Zero the output, so that training starts from the video network's predictions without an image."""
        nn.init.zeros_(self.norm_out.weight)
        nn.init.zeros_(self.norm_out.bias)


class ResamplerLayer(nn.ModuleList):
    """Attention and MLP, each with a residual; a list, because the official checkpoint numbers the two."""

    def __init__(self, dim: int, dim_head: int, heads: int, ff_mult: int) -> None:
        super().__init__([PerceiverAttention(dim, dim_head, heads), _feed_forward(dim, ff_mult)])

    def forward(self, image_BMD: Tensor, queries_BQD: Tensor) -> Tensor:
        """Update the queries ``[B, Q, D]`` from the image tokens ``[B, M, D]``."""
        attention, feed_forward = self
        queries_BQD = queries_BQD + attention(image_BMD, queries_BQD)
        return queries_BQD + feed_forward(queries_BQD)


class PerceiverAttention(nn.Module):
    """Attention of the queries over the image tokens and the queries themselves."""

    def __init__(self, dim: int, dim_head: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1 = nn.LayerNorm(dim)
        self.norm2 = nn.LayerNorm(dim)
        self.to_q = nn.Linear(dim, heads * dim_head, bias=False)
        self.to_kv = nn.Linear(dim, 2 * heads * dim_head, bias=False)
        self.to_out = nn.Linear(heads * dim_head, dim, bias=False)

    def forward(self, image_BMD: Tensor, queries_BQD: Tensor) -> Tensor:
        """Return the attention output ``[B, Q, D]`` without the residual."""
        image_BMD, queries_BQD = self.norm1(image_BMD), self.norm2(queries_BQD)
        q = split_heads(self.to_q(queries_BQD), self.heads)
        k, v = self.to_kv(torch.cat([image_BMD, queries_BQD], dim=1)).chunk(2, dim=-1)
        k, v = split_heads(k, self.heads), split_heads(v, self.heads)
        return self.to_out(merge_heads(nn.functional.scaled_dot_product_attention(q, k, v)))


def _feed_forward(dim: int, mult: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, mult * dim, bias=False),
        nn.GELU(),
        nn.Linear(mult * dim, dim, bias=False),
    )

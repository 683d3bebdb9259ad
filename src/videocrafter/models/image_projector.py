"""The learnable image projection P (paper section 2.2): from CLIP's image tokens to a few context tokens.

Shape suffixes: ``B`` batch, ``M`` image tokens, ``Q`` queries, ``D`` width, ``N`` heads, ``K`` head width.

The released model's projection is a perceiver-style resampler: learned queries read the image tokens through
a few layers of attention. Parameter names are those of the released checkpoint.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn


class ImageProjector(ModelMixin, ConfigMixin):
    """Learned queries that gather an image's tokens into the space of the text tokens.

    The defaults are the released model's. ``dim`` is the inner width, ``embedding_dim`` that of the image
    tokens, ``output_dim`` that of the video network's context.
    """

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
    ) -> None:
        super().__init__()
        self.latents = nn.Parameter(torch.randn(1, num_queries, dim) / dim**0.5)
        self.proj_in = nn.Linear(embedding_dim, dim)
        self.layers = nn.ModuleList(ResamplerLayer(dim, dim_head, heads, ff_mult) for _ in range(depth))
        self.proj_out = nn.Linear(dim, output_dim)
        self.norm_out = nn.LayerNorm(output_dim)

    def forward(self, tokens_BMD: Tensor) -> Tensor:
        """Project image tokens ``[B, M, embedding_dim]`` to ``[B, Q, output_dim]``."""
        image_BMD = self.proj_in(tokens_BMD)
        queries_BQD = self.latents.expand(len(image_BMD), -1, -1)
        for layer in self.layers:
            queries_BQD = layer(image_BMD, queries_BQD)
        return self.norm_out(self.proj_out(queries_BQD))

    def silence(self) -> None:
        """Make all tokens zero, so that training begins with what the video network does without images."""
        nn.init.zeros_(self.norm_out.weight)
        nn.init.zeros_(self.norm_out.bias)


class ResamplerLayer(nn.ModuleList):
    """Attention and MLP, each with a residual; a list, because the checkpoint numbers the two."""

    def __init__(self, dim: int, dim_head: int, heads: int, ff_mult: int) -> None:
        super().__init__([PerceiverAttention(dim, dim_head, heads), _feed_forward(dim, ff_mult)])

    def forward(self, image_BMD: Tensor, queries_BQD: Tensor) -> Tensor:
        """The queries ``[B, Q, D]`` after they have read the image tokens ``[B, M, D]``."""
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
        """What the queries read, ``[B, Q, D]``, without the residual."""
        image_BMD, queries_BQD = self.norm1(image_BMD), self.norm2(queries_BQD)
        q = self._split_heads(self.to_q(queries_BQD))
        k, v = self.to_kv(torch.cat([image_BMD, queries_BQD], dim=1)).chunk(2, dim=-1)
        read_BNQK = nn.functional.scaled_dot_product_attention(q, self._split_heads(k), self._split_heads(v))
        return self.to_out(read_BNQK.transpose(1, 2).flatten(2))

    def _split_heads(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)


def _feed_forward(dim: int, mult: int) -> nn.Sequential:
    return nn.Sequential(
        nn.LayerNorm(dim),
        nn.Linear(dim, mult * dim, bias=False),
        nn.GELU(),
        nn.Linear(mult * dim, dim, bias=False),
    )

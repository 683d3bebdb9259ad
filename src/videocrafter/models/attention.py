"""Spatial attention, temporal attention and cross-attention to text and image.

Shape suffixes: B batch, T frames, N = B*T, P = H*W positions in a frame, C channels, L text tokens, M image tokens,
D width of the conditions, G heads, K head dim, S sequence.
"""

import math
from typing import TypeVar

import torch
from torch import Tensor, nn

from videocrafter.models.attention_backends import attend_with
from videocrafter.models.group_norm import GroupNorm

Layer = TypeVar("Layer", bound=nn.Module)

SHORT_SEQUENCE = 256
"""Longest key sequence for which training on a CPU uses `attend_unfused`."""
HIDDEN_AT_ONCE = 2**24
"""Elements of the MLP's hidden tensor, without gradients; 32 MiB in half precision."""


def attend(q: Tensor, k: Tensor, v: Tensor, backend: str | None = None) -> Tensor:
    """Softmax attention of `[..., S, K]` queries over `[..., S', K]` keys and values.

    `backend` is the name of a kernel in diffusers' registry, for four dimensions; None leaves the choice to torch.
    """
    if backend is not None:
        return attend_with(backend, q, k, v)
    if q.device.type == "cpu" and torch.is_grad_enabled() and k.shape[-2] <= SHORT_SEQUENCE:
        # On CPUs the backward pass of the fused kernel is slower than plain operations on short sequences.
        return attend_unfused(q, k, v)
    return nn.functional.scaled_dot_product_attention(q, k, v)


def attend_unfused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute `attend` with plain operations, which hold all scores in memory."""
    weights = torch.softmax((q * (q.shape[-1] ** -0.5)) @ k.transpose(-1, -2), dim=-1)
    return weights @ v


def split_heads(x: Tensor, heads: int) -> Tensor:
    """Reshape `[..., S, G*K]` to `[..., G, S, K]`."""
    return x.unflatten(-1, (heads, -1)).transpose(-2, -3)


def merge_heads(x: Tensor) -> Tensor:
    """Reshape `[..., G, S, K]` to `[..., S, G*K]`."""
    return x.transpose(-2, -3).flatten(-2)


def zero_initialised(layer: Layer) -> Layer:
    """Zero all parameters of a layer and return it; a residual block that ends in it starts as the identity."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def repeat_branches(x: Tensor, branches: int) -> Tensor:
    """Repeat the rows `[N, ...]` that all guidance branches share to `[branches * N, ...]`, branch after branch."""
    return x if branches == 1 else torch.cat([x] * branches)


class SelfAttention(nn.Module):
    """Multi-head self-attention."""

    backend: str | None = None

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, heads * head_dim, bias=False)
        self.to_k = nn.Linear(width, heads * head_dim, bias=False)
        self.to_v = nn.Linear(width, heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map `[..., S, C]` to the same shape."""
        q, k, v = (split_heads(project(x), self.heads) for project in (self.to_q, self.to_k, self.to_v))
        return self.to_out(merge_heads(attend(q, k, v, self.backend)))


class DualCrossAttention(nn.Module):
    """Cross-attention to text and, with an image branch, to image tokens; the outputs are added (paper §3.2, eq. 2).

    Queries are shared; `to_k_image` and `to_v_image` are the only weights that the image branch adds. All frames of a
    clip form one query sequence, so that keys and values are computed once per clip, not once per frame.
    """

    backend: str | None = None

    def __init__(self, width: int, context_dim: int, heads: int, head_dim: int, image_branch: bool) -> None:
        super().__init__()
        self.heads = heads
        inner = heads * head_dim
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_k = nn.Linear(context_dim, inner, bias=False)
        self.to_v = nn.Linear(context_dim, inner, bias=False)
        self.to_k_image = nn.Linear(context_dim, inner, bias=False) if image_branch else None
        self.to_v_image = nn.Linear(context_dim, inner, bias=False) if image_branch else None
        self.to_out = nn.Linear(inner, width)

    def forward(
        self, x_NPC: Tensor, text_BLD: Tensor, image_BMD: Tensor | None = None, image_scale: float = 1.0
    ) -> Tensor:
        q_NPD = self.to_q(x_NPC)
        q = split_heads(q_NPD.reshape(len(text_BLD), -1, q_NPD.shape[-1]), self.heads)
        k, v = split_heads(self.to_k(text_BLD), self.heads), split_heads(self.to_v(text_BLD), self.heads)
        out = attend(q, k, v, self.backend)
        if image_BMD is not None:
            if self.to_k_image is None or self.to_v_image is None:
                raise ValueError(
                    "image tokens were passed to a model without an image branch; use an image-to-video model"
                )
            k_image = split_heads(self.to_k_image(image_BMD), self.heads)
            v_image = split_heads(self.to_v_image(image_BMD), self.heads)
            out = out + image_scale * attend(q, k_image, v_image, self.backend)
        return self.to_out(merge_heads(out)).reshape(x_NPC.shape)


class RelativePositions(nn.Module):
    """Learned vectors for the signed distance between two frames, clamped at `max_distance` (Shaw et al. 2018)."""

    def __init__(self, head_dim: int, max_distance: int) -> None:
        super().__init__()
        self.max_distance = max_distance
        self.table = nn.Parameter(torch.empty(2 * max_distance + 1, head_dim))
        nn.init.xavier_uniform_(self.table)

    def forward(self, num_frames: int) -> Tensor:
        """Return `[T, T, K]`; entry (i, j) is the vector for the distance from frame i to frame j."""
        frames = torch.arange(num_frames, device=self.table.device)
        distance = (frames[None, :] - frames[:, None]).clamp(-self.max_distance, self.max_distance)
        return self.table[distance + self.max_distance]


class TemporalAttention(nn.Module):
    """Self-attention over the frames at each position; without position information, frames are an unordered set.

    Subclasses add positions: they override `attend_frames` and may hold parameters of their own.
    """

    backend: str | None = None

    def __init__(self, width: int, heads: int, head_dim: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_q = nn.Linear(width, heads * head_dim, bias=False)
        self.to_k = nn.Linear(width, heads * head_dim, bias=False)
        self.to_v = nn.Linear(width, heads * head_dim, bias=False)
        self.to_out = nn.Linear(heads * head_dim, width)

    def forward(self, x_BTPC: Tensor) -> Tensor:
        # [B, T, P, C] -> [B, P, G, T, K]; attention needs the frames as the sequence.
        q, k, v = (
            project(x_BTPC).unflatten(-1, (self.heads, -1)).permute(0, 2, 3, 1, 4)
            for project in (self.to_q, self.to_k, self.to_v)
        )
        # One clip at a time. Fused kernels take four dimensions: a fifth selects the slow path, folding clips and
        # positions together copies all three, and folding heads in exceeds the kernels' limit of 65,535 entries.
        out_BTPGK = torch.stack([self.attend_frames(*clip).permute(2, 0, 1, 3) for clip in zip(q, k, v, strict=True)])
        return self.to_out(out_BTPGK.flatten(-2))

    def attend_frames(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attention of one clip's `[P, G, T, K]` queries, keys and values over T; returns the same shape."""
        return attend(q, k, v, self.backend)


class RelativeTemporalAttention(TemporalAttention):
    """Temporal attention with learned relative positions added to keys and values (Shaw et al. 2018).

    The scores are q_i · (k_j + r_ij), and the output is Σ_j w_ij (v_j + s_ij). The terms with r and s are one matrix
    product per query frame, over all positions and heads; the products with k and v add to them in place. The
    weights are needed for s, so no fused kernel applies, and `backend` has no effect.
    """

    def __init__(self, width: int, heads: int, head_dim: int, max_distance: int) -> None:
        super().__init__(width, heads, head_dim)
        self.relative_k = RelativePositions(head_dim, max_distance)
        self.relative_v = RelativePositions(head_dim, max_distance)

    def attend_frames(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        positions, heads, num_frames, head_dim = q.shape
        scale = 1 / math.sqrt(head_dim)
        k_TTK, v_TTK = self.relative_k(num_frames).to(q.dtype), self.relative_v(num_frames).to(q.dtype)
        # Positions and heads fold into one batch dimension without a copy; transposed, query frames are the batch.
        q, k, v = (x.flatten(0, 1) for x in (q, k, v))
        relative_scores = (q.transpose(0, 1) @ (scale * k_TTK).transpose(1, 2)).transpose(0, 1)
        scores = torch.baddbmm(relative_scores, q, k.transpose(1, 2), alpha=scale)
        weights = torch.softmax(scores, dim=-1).to(v.dtype)
        relative_values = (weights.transpose(0, 1) @ v_TTK).transpose(0, 1)
        return torch.baddbmm(relative_values, weights, v).unflatten(0, (positions, heads))


def temporal_attention(width: int, heads: int, head_dim: int, relative_distance: int | None) -> TemporalAttention:
    """Build the temporal attention with the configured kind of positions; None means no positions."""
    if relative_distance is None:
        return TemporalAttention(width, heads, head_dim)
    return RelativeTemporalAttention(width, heads, head_dim, relative_distance)


class GegluMLP(nn.Module):
    """The transformer's MLP with gated GELU.

    Without gradients it takes as many rows at a time as keep its hidden tensor small: it is eight times as wide as
    the input, and would set the network's peak memory.
    """

    def __init__(self, width: int, multiplier: int = 4) -> None:
        super().__init__()
        self.linear_in = nn.Linear(width, 2 * multiplier * width)
        self.linear_out = nn.Linear(multiplier * width, width)

    def forward(self, x: Tensor) -> Tensor:
        rows_at_once = max(1, HIDDEN_AT_ONCE // self.linear_in.out_features)
        if self._needs_all_rows() or x.numel() // x.shape[-1] <= rows_at_once:
            return self._gated(x)
        rows = x.reshape(-1, x.shape[-1])
        out = rows.new_empty(len(rows), self.linear_out.out_features)
        for begin in range(0, len(rows), rows_at_once):
            part = slice(begin, begin + rows_at_once)
            out[part] = self._gated(rows[part])
        return out.unflatten(0, x.shape[:-1])

    def _gated(self, x: Tensor) -> Tensor:
        value, gate = self.linear_in(x).chunk(2, dim=-1)
        return self.linear_out(value * nn.functional.gelu(gate))

    def _needs_all_rows(self) -> bool:
        # A compiled graph needs one shape, and the hooks of offloading would move weights for every part.
        is_hooked = hasattr(self.linear_in, "_diffusers_hook") or hasattr(self.linear_in, "_hf_hook")
        return torch.is_grad_enabled() or torch.compiler.is_compiling() or is_hooked


class SpatialBlock(nn.Module):
    """Self-attention over positions, cross-attention to the conditions, MLP; all pre-norm with residuals.

    With `branches` above 1, the input is what all branches of guidance share, and the output has one part per branch.
    """

    def __init__(self, width: int, context_dim: int, heads: int, head_dim: int, image_branch: bool) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.self_attention = SelfAttention(width, heads, head_dim)
        self.norm2 = nn.LayerNorm(width)
        self.cross_attention = DualCrossAttention(width, context_dim, heads, head_dim, image_branch)
        self.norm3 = nn.LayerNorm(width)
        self.mlp = GegluMLP(width)

    def forward(
        self, x_NPC: Tensor, text_BLD: Tensor, image_BMD: Tensor | None, image_scale: float, branches: int = 1
    ) -> Tensor:
        x = repeat_branches(x_NPC + self.self_attention(self.norm1(x_NPC)), branches)
        x = x + self.cross_attention(self.norm2(x), text_BLD, image_BMD, image_scale)
        return x + self.mlp(self.norm3(x))


class TemporalBlock(nn.Module):
    """Two self-attentions over frames, then an MLP; all pre-norm with residuals."""

    def __init__(self, width: int, heads: int, head_dim: int, relative_distance: int | None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention1 = temporal_attention(width, heads, head_dim, relative_distance)
        self.norm2 = nn.LayerNorm(width)
        self.attention2 = temporal_attention(width, heads, head_dim, relative_distance)
        self.norm3 = nn.LayerNorm(width)
        self.mlp = GegluMLP(width)

    def forward(self, x_BTPC: Tensor) -> Tensor:
        x = x_BTPC + self.attention1(self.norm1(x_BTPC))
        x = x + self.attention2(self.norm2(x))
        return x + self.mlp(self.norm3(x))


class SpatialTransformer(nn.Module):
    """Residual transformer over the positions of each frame: group norm, projection, blocks, projection.

    With `branches` above 1, the input is what all branches of guidance share; they part at the first cross-attention.
    """

    def __init__(
        self,
        channels: int,
        context_dim: int,
        heads: int,
        head_dim: int,
        depth: int,
        groups: int,
        image_branch: bool,
    ) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner)
        self.blocks = nn.ModuleList(
            SpatialBlock(inner, context_dim, heads, head_dim, image_branch) for _ in range(depth)
        )
        self.proj_out = zero_initialised(nn.Linear(inner, channels))

    def forward(
        self,
        x_NCHW: Tensor,
        text_BLD: Tensor,
        image_BMD: Tensor | None = None,
        image_scale: float = 1.0,
        branches: int = 1,
    ) -> Tensor:
        height, width = x_NCHW.shape[-2:]
        tokens_NPC = self.proj_in(self.norm(x_NCHW).permute(0, 2, 3, 1).flatten(1, 2))
        for index, block in enumerate(self.blocks):
            tokens_NPC = block(tokens_NPC, text_BLD, image_BMD, image_scale, branches if index == 0 else 1)
        out_NPC = self.proj_out(tokens_NPC)
        return repeat_branches(x_NCHW, branches) + out_NPC.unflatten(1, (height, width)).permute(0, 3, 1, 2)


class TemporalTransformer(nn.Module):
    """The same structure over time: each position attends over the frames of its clip."""

    def __init__(
        self, channels: int, heads: int, head_dim: int, depth: int, groups: int, relative_distance: int | None
    ) -> None:
        super().__init__()
        inner = heads * head_dim
        self.norm = GroupNorm(groups, channels, eps=1e-6)
        self.proj_in = nn.Linear(channels, inner)
        self.blocks = nn.ModuleList(TemporalBlock(inner, heads, head_dim, relative_distance) for _ in range(depth))
        self.proj_out = zero_initialised(nn.Linear(inner, channels))

    def forward(self, x_NCHW: Tensor, num_frames: int) -> Tensor:
        height, width = x_NCHW.shape[-2:]
        # The group norm takes its statistics over the whole clip, not per frame.
        clip_BTPC = x_NCHW.permute(0, 2, 3, 1).reshape(-1, num_frames, height * width, x_NCHW.shape[1])
        tokens_BTPC = self.proj_in(self.norm(clip_BTPC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        for block in self.blocks:
            tokens_BTPC = block(tokens_BTPC)
        out_BTPC = self.proj_out(tokens_BTPC)
        return x_NCHW + out_BTPC.reshape(-1, height, width, x_NCHW.shape[1]).permute(0, 3, 1, 2)

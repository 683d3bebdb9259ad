"""Attention compared with plain references: an einsum, a loop, a formula."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from videocrafter.models.attention import (
    DualCrossAttention,
    GegluMLP,
    RelativePositions,
    RelativeTemporalAttention,
    SelfAttention,
    TemporalTransformer,
    attend,
    temporal_attention,
)


def naive(q: Tensor, k: Tensor, v: Tensor, heads: int) -> Tensor:
    """Attention of `[B, S, G*K]` over `[B, S', G*K]`, one head at a time."""
    outs = []
    for q_head, k_head, v_head in zip(*(x.chunk(heads, dim=-1) for x in (q, k, v)), strict=True):
        scores = torch.einsum("bsk,btk->bst", q_head, k_head) / math.sqrt(q_head.shape[-1])
        outs.append(torch.einsum("bst,btk->bsk", scores.softmax(dim=-1), v_head))
    return torch.cat(outs, dim=-1)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("keys", [7, 300])
def test_both_ways_of_attending_agree(grad: bool, keys: int) -> None:
    q, k, v = torch.randn(2, 5, 8), torch.randn(2, keys, 8), torch.randn(2, keys, 8)
    with torch.set_grad_enabled(grad):
        got = attend(q, k, v)
    torch.testing.assert_close(got, naive(q, k, v, heads=1))


def test_self_attention() -> None:
    attention, x = SelfAttention(width=10, heads=3, head_dim=4), torch.randn(2, 6, 10)
    wanted = naive(attention.to_q(x), attention.to_k(x), attention.to_v(x), heads=3)
    torch.testing.assert_close(attention(x), attention.to_out(wanted))


def test_cross_attention_adds_the_outputs_of_text_and_image() -> None:
    attention = DualCrossAttention(width=10, context_dim=7, heads=3, head_dim=4, image_branch=True)
    x, text, image = torch.randn(2 * 3, 6, 10), torch.randn(2, 5, 7), torch.randn(2, 4, 7)
    got = attention(x, text, image, image_scale=0.3)
    for frame in range(6):
        clip = slice(frame // 3, frame // 3 + 1)
        q = attention.to_q(x[[frame]])
        from_text = naive(q, attention.to_k(text[clip]), attention.to_v(text[clip]), heads=3)
        from_image = naive(q, attention.to_k_image(image[clip]), attention.to_v_image(image[clip]), heads=3)
        torch.testing.assert_close(got[[frame]], attention.to_out(from_text + 0.3 * from_image))


@pytest.mark.parametrize("rows", [1, 4, 30, 31])
def test_the_mlp_gives_the_same_in_parts(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    mlp, x = GegluMLP(width=8), torch.randn(2, 3, 5, 8).transpose(1, 2)
    expected, seen = mlp(x), []
    mlp.linear_in.register_forward_hook(lambda _, given, out: seen.append(out.shape[:-1].numel()))
    monkeypatch.setattr("videocrafter.models.attention.HIDDEN_AT_ONCE", rows * 64)
    with torch.no_grad():
        torch.testing.assert_close(mlp(x), expected)
    assert max(seen) == min(rows, 30)
    assert sum(seen) == 30
    seen.clear()
    mlp(x).sum().backward()
    assert seen == [30], "the backward pass needs all of it anyway"


def test_the_image_branch_adds_two_weights() -> None:
    with_image, without = (
        set(DualCrossAttention(8, 8, 2, 4, image_branch=image).state_dict()) for image in (True, False)
    )
    assert with_image - without == {"to_k_image.weight", "to_v_image.weight"}


@pytest.mark.parametrize("num_frames", [1, 3, 6])
@pytest.mark.parametrize("relative_distance", [None, 2])
def test_temporal_attention(num_frames: int, relative_distance: int | None) -> None:
    attention = temporal_attention(width=10, heads=3, head_dim=4, relative_distance=relative_distance)
    assert isinstance(attention, RelativeTemporalAttention) == (relative_distance is not None)
    x = torch.randn(2, num_frames, 5, 10)
    q, k, v = (project(x).unflatten(-1, (3, 4)) for project in (attention.to_q, attention.to_k, attention.to_v))
    out = torch.zeros(2, num_frames, 5, 3, 4)
    for i in range(num_frames):
        scores, values = [], []
        for j in range(num_frames):
            key, value = k[:, j], v[:, j]
            if relative_distance is not None:
                row = max(-relative_distance, min(relative_distance, j - i)) + relative_distance
                key, value = key + attention.relative_k.table[row], value + attention.relative_v.table[row]
            scores.append((q[:, i] * key).sum(-1) / math.sqrt(4))
            values.append(value)
        weights = torch.stack(scores).softmax(dim=0)
        out[:, i] = (weights[..., None] * torch.stack(values)).sum(dim=0)
    torch.testing.assert_close(attention(x), attention.to_out(out.flatten(-2)))


def per_pair(attention: RelativeTemporalAttention, x_BTPC: Tensor) -> Tensor:
    """Relative attention by its definition, with a key and a value for every pair of frames."""
    q, k, v = (
        project(x_BTPC).unflatten(-1, (attention.heads, -1)).permute(0, 2, 3, 1, 4)
        for project in (attention.to_q, attention.to_k, attention.to_v)
    )
    num_frames, scale = x_BTPC.shape[1], q.shape[-1] ** -0.5
    k_TTK, v_TTK = attention.relative_k(num_frames).to(q.dtype), attention.relative_v(num_frames).to(q.dtype)
    scores = q @ k.transpose(-1, -2) + torch.einsum("bpgtk,tsk->bpgts", q, k_TTK)
    weights = torch.softmax(scores * scale, dim=-1)
    out = weights @ v + torch.einsum("bpgts,tsk->bpgtk", weights, v_TTK)
    return attention.to_out(out.permute(0, 3, 1, 2, 4).flatten(-2))


@pytest.mark.parametrize("num_frames", [1, 7])
def test_relative_positions_equal_their_definition_in_double_precision(num_frames: int) -> None:
    attention = RelativeTemporalAttention(width=12, heads=3, head_dim=8, max_distance=4).double()
    x = torch.randn(2, num_frames, 5, 12, dtype=torch.float64)
    parameters = list(attention.parameters())
    got, wanted = attention(x), per_pair(attention, x)
    torch.testing.assert_close(got, wanted, atol=1e-10, rtol=0)
    got_grads, wanted_grads = (torch.autograd.grad(out.sin().sum(), parameters) for out in (got, wanted))
    torch.testing.assert_close(got_grads, wanted_grads, atol=1e-10, rtol=0)


def test_relative_positions_lose_no_precision_in_bfloat16() -> None:
    torch.manual_seed(0)
    attention = RelativeTemporalAttention(width=64, heads=2, head_dim=32, max_distance=16).double()
    attention = attention.bfloat16().double()  # exact in both types
    x = torch.randn(1, 16, 64, 64).bfloat16()
    with torch.no_grad():
        exact = attention(x.double())
        attention.bfloat16()
        errors = [(out.double() - exact).square().mean().sqrt() for out in (attention(x), per_pair(attention, x))]
    assert errors[0] <= 1.01 * errors[1]


def test_distances_are_signed_and_clamped() -> None:
    positions = RelativePositions(head_dim=1, max_distance=2)
    with torch.no_grad():
        positions.table.copy_(torch.arange(-2.0, 3.0)[:, None])
    got = positions(5)[..., 0]
    for i, j in itertools.product(range(5), repeat=2):
        assert got[i, j] == max(-2, min(2, j - i))


def test_the_temporal_transformer_starts_as_the_identity_and_normalises_whole_clips() -> None:
    transformer = TemporalTransformer(8, heads=2, head_dim=4, depth=1, groups=2, relative_distance=None)
    x = torch.randn(2 * 3, 8, 4, 5)
    assert torch.equal(transformer(x, 3), x)
    seen = []
    transformer.norm.register_forward_hook(lambda module, given, out: seen.append(out))
    transformer(x + torch.arange(6.0)[:, None, None, None], 3)
    (normed,) = seen
    # Group statistics span all frames, so differences in brightness between frames remain.
    per_clip = normed.reshape(2, 2, -1)
    torch.testing.assert_close(per_clip.mean(-1), torch.zeros(2, 2), atol=1e-5, rtol=0)
    torch.testing.assert_close(per_clip.std(-1), torch.ones(2, 2), atol=1e-2, rtol=0)
    assert normed[:, :, 2].mean() - normed[:, :, 0].mean() > 0.5

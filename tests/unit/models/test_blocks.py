import pytest
import torch
from torch import nn
from torch.nn.functional import silu

from videocrafter.models.blocks import BlockConditions, Downsample, ResidualBlock, TemporalConvolution, Upsample


def conditions(embedding: torch.Tensor, num_frames: int = 3, temporal: bool = True) -> BlockConditions:
    return BlockConditions(embedding, torch.zeros(2, 1, 1), None, 1.0, num_frames, temporal)


def randomised(module: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return module.eval()


def test_the_temporal_convolution_is_a_chain_of_3d_convolutions() -> None:
    module = randomised(TemporalConvolution(8, groups=2, dropout=0.1))
    x = torch.randn(2 * 5, 8, 3, 4)
    clip = x.unflatten(0, (2, 5)).transpose(1, 2)
    hidden = clip
    for norm, conv in zip(module.norms, module.convs, strict=True):
        hidden = nn.functional.conv3d(silu(norm(hidden)), conv.weight[..., None], conv.bias, padding=(1, 0, 0))
    wanted = (clip + hidden).transpose(1, 2).flatten(0, 1)
    torch.testing.assert_close(module(x, 5), wanted, atol=1e-5, rtol=1e-4)


def test_the_temporal_convolution_starts_as_the_identity() -> None:
    x = torch.randn(6, 8, 3, 4)
    assert torch.equal(TemporalConvolution(8, groups=2, dropout=0.1)(x, 3), x)


@pytest.mark.parametrize("scale_shift", [False, True])
@pytest.mark.parametrize("channels_out", [8, 12])
def test_the_residual_block(scale_shift: bool, channels_out: int) -> None:
    block = ResidualBlock(
        8,
        channels_out,
        5,
        groups=4,
        dropout=0.0,
        scale_shift=scale_shift,
        temporal_convolution=False,
        temporal_dropout=0.0,
    )
    randomised(block)
    x, embedding = torch.randn(6, 8, 3, 4), torch.randn(6, 5)
    hidden = block.conv1(silu(block.norm1(x)))
    added = block.embedding(silu(embedding))[..., None, None]
    if scale_shift:
        hidden = block.norm2(hidden) * (1 + added[:, :channels_out]) + added[:, channels_out:]
    else:
        hidden = block.norm2(hidden + added)
    wanted = block.skip(x) + block.conv2(silu(hidden))
    assert isinstance(block.skip, nn.Identity) == (channels_out == 8)
    torch.testing.assert_close(block(x, conditions(embedding)), wanted)


@pytest.mark.parametrize("temporal", [False, True])
def test_the_residual_block_runs_temporal_layers_only_if_asked(temporal: bool) -> None:
    block = ResidualBlock(
        8,
        8,
        5,
        groups=4,
        dropout=0.0,
        scale_shift=False,
        temporal_convolution=True,
        temporal_dropout=0.0,
    )
    randomised(block)
    x, embedding = torch.randn(6, 8, 3, 4), torch.randn(6, 5)
    calls = []
    block.temporal.register_forward_hook(lambda *given: calls.append(given))
    block(x, conditions(embedding, temporal=temporal))
    assert len(calls) == temporal


def test_sampling_down_halves_and_up_doubles() -> None:
    x = torch.randn(2, 8, 4, 6)
    assert Downsample(8)(x).shape == (2, 8, 2, 3)
    up = Upsample(8)
    repeated = x.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    torch.testing.assert_close(up(x), up.conv(repeated))

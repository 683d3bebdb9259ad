import pytest
import torch
from torch import nn

from videocrafter.models.group_norm import GroupNorm


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("channels", [16, 64], ids=["few channels per group", "many"])
def test_it_is_the_group_norm_of_pytorch(dtype: torch.dtype, channels_last: bool, channels: int) -> None:
    ours, theirs = GroupNorm(4, channels).to(dtype), nn.GroupNorm(4, channels).to(torch.float32)
    with torch.no_grad():
        ours.weight.normal_()
        ours.bias.normal_()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, channels, 5, 6).to(dtype)
    if channels_last:
        x = x.contiguous(memory_format=torch.channels_last)
    expected = theirs(x.float())
    tolerance = 1e-6 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(ours(x).float(), expected, atol=tolerance, rtol=tolerance)


def test_it_keeps_channels_last_and_passes_gradients() -> None:
    norm = GroupNorm(4, 16).to(torch.bfloat16)
    x = torch.randn(3, 16, 5, 6, dtype=torch.bfloat16).contiguous(memory_format=torch.channels_last).requires_grad_()
    out = norm(x)
    assert out.is_contiguous(memory_format=torch.channels_last)
    out.float().square().sum().backward()
    assert x.grad is not None
    assert x.grad.shape == x.shape


def test_parameters_have_the_names_of_pytorch() -> None:
    assert set(GroupNorm(4, 16).state_dict()) == {"weight", "bias"}

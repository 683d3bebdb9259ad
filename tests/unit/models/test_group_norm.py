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


@pytest.mark.parametrize(
    ("channels", "dtype", "copied"),
    [(16, torch.bfloat16, True), (64, torch.bfloat16, False), (16, torch.float32, False)],
)
def test_the_kernel_gets_contiguous_tensors_where_the_other_one_is_slow(
    channels: int, dtype: torch.dtype, copied: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[torch.Tensor] = []
    monkeypatch.setattr(nn.GroupNorm, "forward", lambda norm, x: given.append(x) or x)
    GroupNorm(4, channels).to(dtype)(
        torch.zeros(2, channels, 5, 6, dtype=dtype).to(memory_format=torch.channels_last)
    )
    assert given[0].is_contiguous() == copied


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

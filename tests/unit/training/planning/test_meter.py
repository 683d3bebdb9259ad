from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from tests.tiny_models import tiny_pipeline
from videocrafter.models.group_norm import GroupNorm
from videocrafter.models.unet import VideoUNet
from videocrafter.training.planning.meter import ComputeAs, DeviceKind, Meter, checkpointing_as, tensors_of

META = torch.device("meta")


def unet(device: str = "meta") -> VideoUNet:
    config = tiny_pipeline(image=False).unet.config
    with torch.device(device):
        made: VideoUNet = VideoUNet.from_config(config)
    return made.to(memory_format=torch.channels_last).train()


def loss(network: VideoUNet, device: str, frames: int = 4) -> torch.Tensor:
    latents = torch.zeros(2, 4, frames, 8, 8, device=device)
    ones = torch.ones(2, device=device)
    out = network(latents, ones.long(), torch.zeros(2, 12, 16, device=device), ones)
    return out.square().mean()


def peak(network: VideoUNet, kind: DeviceKind, *, bf16: bool = False) -> int:
    with Meter(tensors_of([network])) as meter:
        with ComputeAs(kind, bf16=bf16):
            value = loss(network, "meta")
        value.backward()
    return meter.peak


def test_bytes_and_operations_of_one_layer_are_those_of_arithmetic():
    with META:
        layer, x = nn.Linear(8, 16), torch.empty(4, 8)
    with torch.no_grad(), Meter([x, *layer.parameters()]) as meter:
        first = layer(x)
        second = layer(x)
    assert meter.flops == 2 * (2 * 4 * 8 * 16)
    assert meter.now == meter.peak == 2 * 4 * 16 * 4
    del first
    assert meter.now == meter.peak // 2
    del second
    assert meter.now == 0


def test_what_is_known_of_an_operation_is_what_torch_says():
    """Each operation runs twice: in torch, then from the cache, which must distinguish 2, 2.0 and True."""
    whole = torch.ones(4, 6, dtype=torch.int64, device=META)
    turned = torch.empty(6, 4, device=META).t()
    for _ in range(2):
        with Meter([whole, turned]) as meter:
            kinds = [(whole + number).dtype for number in (2, 2.0, True)]
            assert (turned * 2).stride() == (turned.detach() * 2).stride() == (1, 4)
            assert meter.now == 0
            mean, parts = turned.mean(), turned.sort(dim=0)
            assert (mean.shape, mean.dtype, type(parts)) == ((), torch.float32, torch.return_types.sort)
            assert meter.now == 4 + 24 * (4 + 8)
        assert kinds == [torch.int64, torch.float32, torch.int64]


def test_what_shares_memory_shares_it_the_second_time_too():
    for _ in range(2):
        x = torch.empty(4, 8, device=META)
        with Meter([x]) as meter:
            halves, same = x.chunk(2), x.mul_(2)
            assert same is x
            assert all(half._is_view() for half in halves)
            _ = x.view(8, 4).mul(1).unbind(0)
        assert meter.peak == 4 * 32


def test_views_and_known_tensors_take_nothing():
    x = torch.empty(4, 8, device=META)
    with Meter([x]) as meter:
        kept = [x[:2], x.view(32), x.t()]
    assert (meter.peak, len(kept)) == (0, 3)


@pytest.mark.parametrize(("gradients", "kept"), [(True, 64), (False, 0)])
def test_autocast_computes_products_in_bf16_and_keeps_copies_of_weights_only_meanwhile(gradients, kept):
    with META:
        layer, x = nn.Linear(8, 8, bias=False), torch.empty(4, 8)
    with Meter([x, layer.weight]) as meter:
        with ComputeAs("gpu", bf16=True), torch.set_grad_enabled(gradients):
            out = layer(x).detach()
            assert out.dtype == torch.bfloat16
            during = meter.now
            assert functional.layer_norm(out, (8,)).dtype == torch.float32
        after = meter.now
    # the copy of 64 numbers is freed, the result of 32 stays
    assert (during, after) == (2 * (kept + 32), 2 * 32)


@pytest.mark.parametrize("shape", [(2, 3, 64, 8), (2, 5, 3, 64, 8)])
def test_fused_attention_keeps_no_scores_but_only_in_four_dimensions(shape: tuple[int, ...]):
    q, k, v = (torch.empty(shape, device=META, requires_grad=True) for _ in range(3))
    with Meter([q, k, v]) as meter, ComputeAs("gpu", bf16=False):
        functional.scaled_dot_product_attention(q, k, v)
    scores = 4 * q.numel() // 8 * 64
    assert (meter.peak >= scores) == (len(shape) == 5)


def test_on_cpus_the_simulation_takes_what_the_real_kernels_take():
    real = unet("cpu")
    with Meter(tensors_of([real])) as meter:
        loss(real, "cpu").backward()
    assert peak(unet(), "cpu") == pytest.approx(meter.peak, rel=0.03)


def test_checkpointing_and_bf16_take_less():
    plain = peak(unet(), "gpu")
    checkpointed = unet()
    checkpointed.enable_gradient_checkpointing(checkpointing_as("gpu", bf16=False))
    assert peak(checkpointed, "gpu") < 0.75 * plain
    assert peak(unet(), "gpu", bf16=True) < 0.9 * plain


def test_group_norms_of_few_channels_in_bf16_are_copied_on_cpus():
    def peak_of(channels_per_group: int) -> float:
        channels = 4 * channels_per_group
        with META:
            norm = GroupNorm(4, channels).bfloat16()
            x = torch.empty(2, channels, 16, 16, dtype=torch.bfloat16).to(memory_format=torch.channels_last)
        with torch.no_grad(), Meter([x, *norm.parameters()]) as meter, ComputeAs("cpu", bf16=False):
            norm(x)
        return meter.peak / (x.numel() * x.element_size())

    assert peak_of(8) > peak_of(16) + 0.9, "the contiguous copy"

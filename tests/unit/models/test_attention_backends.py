"""Attention backends of diffusers: accepted where the shapes allow, refused with a reason where they do not."""

from typing import Any

import pytest
import torch
from diffusers.models import attention_dispatch
from diffusers.models.attention_dispatch import AttentionBackendName, _AttentionBackendRegistry
from torch import Tensor

from tests.unit.models.test_unet import EVERYTHING, build, inputs
from videocrafter.models.attention import TemporalAttention
from videocrafter.models.attention_backends import check_backend
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.network_options import attention_layers
from videocrafter.models.unet import VideoUNet

CUDA, CPU, HALF = torch.device("cuda"), torch.device("cpu"), torch.bfloat16


def predict(model: VideoUNet) -> Tensor:
    with torch.no_grad():
        return model(*inputs(image=bool(model.config["image_cross_attention"])))


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=len)
def test_a_backend_computes_the_same(options: dict[str, Any]) -> None:
    model = build(**options)
    expected = predict(model)
    model.set_attention_backend("_native_math")
    assert {layer.backend for layer in attention_layers(model)} == {"_native_math"}
    torch.testing.assert_close(predict(model), expected, atol=1e-5, rtol=1e-4)
    for reset in (model.reset_attention_backend, lambda: model.set_attention_backend("Native")):
        reset()
        assert {layer.backend for layer in attention_layers(model)} == {None}
        assert torch.equal(predict(model), expected)


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Make the package of one backend available, with a kernel that records the shapes of its queries."""
    shapes: list[tuple[int, ...]] = []

    def kernel(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        shapes.append(tuple(query.shape))
        q, k, v = (x.transpose(1, 2) for x in (query, key, value))
        return torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)

    monkeypatch.setattr(attention_dispatch, "_CAN_USE_FLASH_ATTN", True)
    monkeypatch.setitem(_AttentionBackendRegistry._backends, AttentionBackendName.FLASH, kernel)
    names = {"query", "key", "value"}
    monkeypatch.setitem(_AttentionBackendRegistry._supported_arg_names, AttentionBackendName.FLASH, names)
    return shapes


def test_every_layer_without_relative_positions_uses_the_backend(recorded: list[tuple[int, ...]]) -> None:
    for relative in (False, True):
        model = build(relative_position=relative)
        expected, layers = predict(model), attention_layers(model)
        for layer in layers:
            layer.backend = "flash"
        recorded.clear()
        torch.testing.assert_close(predict(model), expected, atol=1e-5, rtol=1e-4)
        temporal = sum(isinstance(layer, TemporalAttention) for layer in layers)
        assert (temporal == 0) == relative
        # One call per layer, and in temporal attention one per clip.
        assert len(recorded) == len(layers) + temporal
        assert {len(shape) for shape in recorded} == {4}
        assert {shape[3] for shape in recorded} == {8}


def test_installed_backends_are_accepted_where_shapes_dtype_and_device_allow(
    recorded: list[tuple[int, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_SAGE_ATTN", True)
    assert check_backend("Flash", {64}, HALF, CUDA) == "flash"
    with pytest.raises(NotImplementedError, match="multiples of 8 up to 256, the network's have 12"):
        check_backend("flash", {64, 12}, HALF, CUDA)
    with pytest.raises(NotImplementedError, match="64, 96 and 128, the network's have 32"):
        check_backend("sage", {32}, HALF, CUDA)
    with pytest.raises(NotImplementedError, match="float16 or bfloat16, the network is float32; convert it first"):
        check_backend("flash", {64}, torch.float32, CUDA)
    with pytest.raises(NotImplementedError, match="need a CUDA device, the network is on cpu; move it first"):
        check_backend("flash", {64}, HALF, CPU)


def test_a_package_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_dispatch, "_CAN_USE_FLASH_ATTN", False)
    with pytest.raises(RuntimeError, match="flash-attn"):
        build().to(HALF).set_attention_backend("flash")


def test_a_refused_backend_changes_nothing() -> None:
    model = build()
    with pytest.raises(ValueError, match=r"'fast' is unknown; expected one of .*flash"):
        model.set_attention_backend("fast")
    assert {layer.backend for layer in attention_layers(model)} == {None}


def test_a_network_without_such_layers_takes_native_only() -> None:
    projector = ImageProjector(dim=16, depth=1, dim_head=8, heads=2, num_queries=3, embedding_dim=12, output_dim=10)
    projector.set_attention_backend("native")
    with pytest.raises(NotImplementedError, match="attention backend 'flex' is not supported"):
        projector.set_attention_backend("flex")

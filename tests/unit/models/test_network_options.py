"""diffusers' options for networks: offloading, layerwise casting, regional compilation, device maps, saving."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import dispatch_model, infer_auto_device_map
from peft import LoraConfig
from torch import Tensor, nn

from tests.unit.models.test_unet import EVERYTHING, build, inputs
from videocrafter.models.image_projector import ImageProjector
from videocrafter.models.unet import VideoUNet

OFFICIAL = {
    "temporal_convolution": True,
    "relative_position": True,
    "image_cross_attention": True,
    "temporal_layers_on_images": True,
}
CPU = torch.device("cpu")


def predict(model: VideoUNet, *options: Any, dtype: torch.dtype = torch.float32) -> Tensor:
    sample, timestep, text, fps, image = inputs(image=True)
    with torch.no_grad():
        return model(sample.to(dtype), timestep, text.to(dtype), fps, image.to(dtype))


@pytest.fixture(scope="module")
def expected() -> Tensor:
    return predict(build(**EVERYTHING))


@pytest.mark.parametrize(("kind", "blocks"), [("block_level", 1), ("block_level", 2), ("leaf_level", None)])
def test_groups_of_layers_come_from_disk(kind: str, blocks: int | None, expected: Tensor, tmp_path: Path) -> None:
    """A layer whose hook does not run computes with the uninitialised memory that its weights leave behind."""
    model = build(**EVERYTHING)
    model.enable_group_offload(
        CPU, offload_type=kind, num_blocks_per_group=blocks, offload_to_disk_path=str(tmp_path)
    )
    for _ in range(2):
        for parameter in model.parameters():
            parameter.data.fill_(torch.nan)
        assert torch.equal(predict(model), expected)


def test_every_layer_is_called(expected: Tensor) -> None:
    """So LoRAs, quantised weights and hooks of any kind act on every layer."""
    model = build(**EVERYTHING)
    with_weights = {module for module in model.modules() if any(True for _ in module.parameters(recurse=False))}
    called: set[nn.Module] = set()
    for module in with_weights:
        module.register_forward_hook(lambda layer, *_: called.add(layer))
    predict(model)
    assert called == with_weights


def test_a_lora_acts_on_every_linear_layer_and_convolution() -> None:
    model = build(**EVERYTHING)
    layers = [name for name, module in model.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
    model.add_adapter(LoraConfig(r=1, target_modules=layers))
    model(*inputs(image=True)).square().mean().backward()
    # A LoRA starts at zero, so its effect shows in the gradient.
    ups = {name: weight.grad for name, weight in model.named_parameters() if ".lora_B." in name}
    assert len(ups) == len(layers)
    assert [name for name, grad in ups.items() if grad is None or not grad.any()] == []


@pytest.mark.parametrize("config", [EVERYTHING, OFFICIAL], ids=["miniature", "official"])
@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_weights_can_be_stored_in_fp8(config: dict[str, Any], compute: torch.dtype) -> None:
    model = build(**config)
    expected = predict(model)
    size = model.get_memory_footprint()
    model.enable_layerwise_casting(torch.float8_e4m3fn, compute)
    assert model.dtype == compute
    assert model.get_memory_footprint() < 0.6 * size
    stored = {name.rpartition(".")[0]: weight.dtype for name, weight in model.named_parameters()}
    assert stored["middle_in.residual.conv1"] == torch.float8_e4m3fn
    for name in ("timestep_embedding.linear_1", "conv_in", "conv_out", "norm_out", "middle_in.residual.norm1"):
        assert stored[name] == compute
    got = predict(model, dtype=compute)
    assert got.dtype == compute
    assert 0 < (got.float() - expected).std() < 0.2 * expected.std()


def test_the_projector_can_be_stored_in_fp8() -> None:
    projector = ImageProjector(dim=16, depth=1, dim_head=8, heads=2, num_queries=3, embedding_dim=12, output_dim=10)
    tokens = torch.randn(2, 5, 12)
    with torch.no_grad():
        expected = projector(tokens)
        projector.enable_layerwise_casting(torch.float8_e4m3fn, torch.bfloat16)
        got = projector(tokens.bfloat16())
    assert 0 < (got.float() - expected).std() < 0.2 * expected.std()


def test_repeated_blocks_compile_without_a_graph_break() -> None:
    model = build(image_cross_attention=True, relative_position=True)
    expected = predict(model)
    model.compile_repeated_blocks(fullgraph=True, backend="eager")
    compiled = [type(module).__name__ for module in model.modules() if module._compiled_call_impl is not None]
    assert set(compiled) == {"SpatialBlock", "TemporalBlock"} == set(model._repeated_blocks)
    torch.testing.assert_close(predict(model), expected, atol=1e-5, rtol=1e-4)


def test_repeated_blocks_compile_for_every_batch_without_a_fallback() -> None:
    model = build(image_cross_attention=True)
    model.compile_repeated_blocks(fullgraph=True, backend="eager")
    for branches, clips in itertools.product((2, 1), (1, 2, 3)):
        sample, text = torch.randn(clips, 4, 3, 8, 8), torch.randn(branches * clips, 5, 12)
        fps = torch.full((clips,), 8.0)
        with torch.no_grad():
            model(sample, torch.full((clips,), 7), text, fps, torch.randn(branches * clips, 3, 12))


def test_a_device_map_splits_between_memory_and_disk(expected: Tensor, tmp_path: Path) -> None:
    model = build(**EVERYTHING)
    size = sum(parameter.nbytes for parameter in model.parameters())
    memory = {"cpu": size // 2, "disk": 2 * size}
    places = infer_auto_device_map(model, memory, no_split_module_classes=model._no_split_modules)
    assert set(places.values()) == {"cpu", "disk"}
    indivisible = [name for name, part in model.named_modules() if type(part).__name__ in model._no_split_modules]
    assert not [name for name in places if any(name.startswith(f"{whole}.") for whole in indivisible)]
    split = dispatch_model(model, places, main_device="cpu", offload_dir=str(tmp_path), force_hooks=True)
    assert torch.equal(predict(split), expected)


def test_a_variant_in_shards_loads(expected: Tensor, tmp_path: Path) -> None:
    build(**EVERYTHING).save_pretrained(tmp_path, variant="plain", max_shard_size="300KB")
    assert len(list(tmp_path.glob("*.plain-0*.safetensors"))) > 1
    assert torch.equal(predict(VideoUNet.from_pretrained(tmp_path, variant="plain")), expected)
    assert "place_embedding.static.weight" in VideoUNet.from_config(VideoUNet.load_config(tmp_path)).state_dict()


REFUSED: dict[str, Callable[[VideoUNet], None]] = {
    "attention by xFormers": lambda model: model.enable_xformers_memory_efficient_attention(),
    "attention slicing": lambda model: model.set_attention_slice("auto"),
    "flash attention for NPUs": lambda model: model.enable_npu_flash_attention(),
    "flash attention for XLA": lambda model: model.enable_xla_flash_attention(),
    "forward chunking": lambda model: model.enable_forward_chunking(),
    "FreeU": lambda model: model.enable_freeu(1, 1, 1, 1),
    "fusing the projections": lambda model: model.fuse_qkv_projections(),
}


@pytest.mark.parametrize("what", REFUSED)
def test_an_option_without_effect_is_refused(what: str) -> None:
    model = build()
    with pytest.raises(NotImplementedError, match=rf"^{what}.* is not supported: "):
        REFUSED[what](model)
    model.disable_xformers_memory_efficient_attention()

"""Offloading: same videos, and every tensor on the device that computes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import cpu_offload
from torch import Tensor, nn

from tests.tiny_models import tiny_pipeline

CPU = torch.device("cpu")


def frames(pipeline: Any, **settings: Any) -> Tensor:
    image = [torch.linspace(0, 1, 3 * 16 * 16).view(3, 16, 16)] if pipeline.takes_image else []
    return pipeline(*image, "a red car", num_inference_steps=1, seeds=1, output_type="pt", **settings).frames


def sequentially(pipeline: Any, folder: Path) -> None:
    """As `enable_sequential_cpu_offload`, which does not take a CPU: without a weight, a module is on `meta`."""
    for network in pipeline.components.values():
        if isinstance(network, nn.Module):
            cpu_offload(network, CPU, offload_buffers=len(network._parameters) > 0)


def by_block_on_disk(pipeline: Any, folder: Path) -> None:
    pipeline.enable_group_offload(
        CPU, offload_type="block_level", num_blocks_per_group=1, offload_to_disk_path=folder / "groups"
    )


def by_layer_on_disk(pipeline: Any, folder: Path) -> None:
    pipeline.enable_group_offload(CPU, offload_type="leaf_level", offload_to_disk_path=folder / "groups")


def test_an_offloaded_pipeline_makes_the_same_video(tmp_path: Path) -> None:
    expected = frames(tiny_pipeline(True, stages=2))
    for number, offload in enumerate((sequentially, by_block_on_disk, by_layer_on_disk)):
        pipeline = tiny_pipeline(True, stages=2)
        offload(pipeline, tmp_path / str(number))
        assert torch.equal(frames(pipeline), expected), offload.__name__


def test_model_offloading_moves_every_network_that_has_weights() -> None:
    for image in (False, True):
        pipeline = tiny_pipeline(image, stages=2)
        networks = {name for name, part in pipeline.components.items() if isinstance(part, nn.Module)}
        assert set(pipeline.model_cpu_offload_seq.split("->")) == networks


def test_a_folder_with_offloaded_weights_is_not_reused(tmp_path: Path) -> None:
    by_layer_on_disk(tiny_pipeline(False, stages=2), tmp_path)
    with pytest.raises(ValueError, match="already holds offloaded weights"):
        by_layer_on_disk(tiny_pipeline(True, stages=2), tmp_path)


def test_a_network_can_be_excluded_from_offloading_to_disk(tmp_path: Path) -> None:
    pipeline = tiny_pipeline(False)
    expected = frames(pipeline)
    pipeline.enable_group_offload(
        "cpu", offload_type="leaf_level", offload_to_disk_path=tmp_path, exclude_modules=["vae"]
    )
    assert {path.name for path in tmp_path.iterdir()} == {"text_encoder", "unet"}
    assert torch.equal(frames(pipeline), expected)


@pytest.mark.parametrize(
    "refuse", [lambda p: p.enable_attention_slicing(), lambda p: p.unet.enable_freeu(1, 1, 1, 1)]
)
def test_an_option_without_effect_is_refused(refuse: Callable[[Any], None]) -> None:
    pipeline = tiny_pipeline(False)
    with pytest.raises(NotImplementedError, match="is not supported: "):
        refuse(pipeline)
    pipeline.disable_attention_slicing()


def test_the_autoencoder_slices_and_tiles() -> None:
    pipeline = tiny_pipeline(False)
    size = {"height": 32, "width": 32}
    expected = frames(pipeline, **size)
    pipeline.vae.enable_slicing()
    torch.testing.assert_close(frames(pipeline, **size), expected)
    pipeline.vae.enable_tiling()
    pipeline.vae.tile_sample_min_size, pipeline.vae.tile_latent_min_size = 16, 4
    tiled = frames(pipeline, **size)
    assert tiled.shape == expected.shape
    assert not torch.equal(tiled, expected)

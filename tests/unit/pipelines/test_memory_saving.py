"""Settings that save memory leave the video as it is, or say that they do not."""

from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.tiny_models import tiny_pipeline
from videocrafter.pipelines.memory_settings import MemorySettings


def frames(pipeline: Any) -> Tensor:
    image = [torch.linspace(0, 1, 3 * 16 * 16).view(3, 16, 16)] if pipeline.takes_image else []
    return pipeline(*image, "a red car", num_inference_steps=2, seeds=1, output_type="pt").frames


@pytest.mark.parametrize(
    "settings",
    [
        {"frames_at_once": 1},
        {"branches_apart": True},
        {"offload": "encoders"},
        {"offload": "all", "branches_apart": True, "frames_at_once": 2},
    ],
    ids=str,
)
@pytest.mark.parametrize("image", [False, True])
def test_exact_settings_make_the_same_video(settings: dict[str, Any], image: bool) -> None:
    expected = frames(tiny_pipeline(image, stages=2))
    pipeline, saving = tiny_pipeline(image, stages=2), MemorySettings(**settings)
    pipeline.save_memory(saving)
    assert saving.is_exact
    assert pipeline.memory_settings == saving
    torch.testing.assert_close(frames(pipeline), expected, atol=5e-5, rtol=0)


def test_branches_apart_are_separate_calls_of_one_video_each() -> None:
    pipeline, rows = tiny_pipeline(False), []
    pipeline.save_memory(MemorySettings(branches_apart=True))
    pipeline.unet.conv_in.register_forward_hook(lambda _, given, __: rows.append(len(given[0])))
    frames(pipeline)
    assert rows == [4] * 4, "two steps, two branches, four frames"


def test_offloaded_encoders_leave_the_denoiser_alone() -> None:
    pipeline = tiny_pipeline(False)
    pipeline.save_memory(MemorySettings(offload="encoders"))
    hooked = {
        name
        for name, part in pipeline.components.items()
        if isinstance(part, torch.nn.Module) and any("_diffusers_hook" in vars(one) for one in part.modules())
    }
    assert hooked == {"text_encoder", "vae"}
    with pytest.raises(ValueError, match="offloaded already"):
        pipeline.save_memory(MemorySettings())


def test_fp8_weights_are_smaller_and_approximate() -> None:
    pipeline, saving = tiny_pipeline(False), MemorySettings(fp8_weights=True)
    expected, size = frames(pipeline), pipeline.unet.get_memory_footprint()
    pipeline.save_memory(saving)
    assert pipeline.unet.get_memory_footprint() < 0.6 * size
    got = frames(pipeline)
    assert not torch.equal(got, expected)
    assert (got - expected).abs().mean() < 0.1
    assert not saving.is_exact


def test_tiles_need_an_autoencoder_that_has_them() -> None:
    pipeline = tiny_pipeline(False)
    pipeline.save_memory(MemorySettings(tiled_decoding=True))
    assert pipeline.vae.use_tiling
    other = tiny_pipeline(False)
    other.vae = type("Other", (torch.nn.Module,), {})()
    with pytest.raises(ValueError, match="Other cannot decode in tiles"):
        other.save_memory(MemorySettings(tiled_decoding=True), "cpu")


@pytest.mark.parametrize("wrong", [{"frames_at_once": 0}, {"offload": "some"}])
def test_wrong_settings_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MemorySettings(**wrong)


def test_every_setting_is_described() -> None:
    changed = {"frames_at_once": 1, "offload": "all"}
    for one in fields(MemorySettings):
        described = str(MemorySettings(**{one.name: changed.get(one.name, True)}))
        assert described != str(MemorySettings())
        assert ("approximate" in described) == (one.name in ("fp8_weights", "tiled_decoding"))

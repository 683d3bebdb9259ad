import errno
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.tiny_parts import NETWORK, WORLD, build, save_parts
from videocrafter.checkpoints.stable_diffusion.initialisation import init_from_sd
from videocrafter.media import atomic_write
from videocrafter.media.errors import MediaError
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.stills import StillsTask, StillsTaskConfig


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_parts(tmp_path_factory.mktemp("stills") / "parts")


def stills_task(parts: Path, **changes: Any) -> StillsTask:
    network = replace(
        NETWORK, fps_condition=False, frame_text_condition=False, place_condition=False, initial_temporal_heads=0
    )
    settings: dict[str, Any] = {"num_images": 16, "num_clips": 8, "image_batch_size": 8, "num_gauged": 8}
    settings |= {"network": network, "world": WORLD, "autoencoder": str(parts), "towers": str(parts)}
    return build(StillsTaskConfig(**{**settings, "sampling_steps": 1, **changes}))


def test_it_trains_on_images_and_leaves_temporal_layers_alone(parts: Path) -> None:
    task = stills_task(parts)
    assert all(task.batch(step).latents.shape[2] == 1 for step in range(5))
    task.loss(task.batch(0), torch.Generator().manual_seed(0))[0].backward()
    trained = {name for name, one in task.unet.named_parameters() if one.requires_grad}
    assert {name for name, one in task.unet.named_parameters() if one.grad is not None} == trained
    assert {name for name, _ in task.unet.named_parameters()} - trained == {
        name for name, _ in task.unet.named_parameters() if ".temporal." in name
    }


def test_its_gauges_are_those_of_images(parts: Path) -> None:
    task = stills_task(parts)
    assert set(task.validate()) == set(task.config.validation_metrics()) == {"loss", "gauge_subject", "gauge_scene"}


def test_the_result_becomes_a_video_model_whose_frames_are_its_stills(parts: Path, tmp_path: Path) -> None:
    task = stills_task(parts)
    with torch.no_grad():
        for parameter in task.unet.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    task.save_pipeline(tmp_path / "sd")
    task.write_samples(tmp_path)
    written = json.loads((tmp_path / "stills.json").read_text())
    asked = [one["asked"] for one in written["stills"]]
    assert len(set(asked)) == len(asked) > 0
    assert written["recognised"] == sum(one["asked"] == one["seen"] for one in written["stills"]) / len(asked)
    made = init_from_sd(tmp_path / "sd", tmp_path / "video", preset="tiny-t2v")
    assert made.notes == ()
    pipeline = TextToVideoPipeline.from_pretrained(tmp_path / "video")
    assert (pipeline.config.defaults["height"], pipeline.config.defaults["num_frames"]) == (16, 16)
    assert pipeline.scheduler.config.prediction_type == "v_prediction"
    assert pipeline.tokenizer("a cat").input_ids == task.tokenizer("a cat").input_ids
    latents, text = torch.randn(1, 4, 1, 2, 2), torch.randn(1, 5, 16)
    with torch.no_grad():
        still = task.unet.eval()(latents, 500, text)
        clip = pipeline.unet(latents.expand(-1, -1, 3, -1, -1), 500, text, 8.0)
    torch.testing.assert_close(clip, still.expand_as(clip), atol=5e-6, rtol=1e-5)
    with Image.open(tmp_path / "stills.png") as sheet:
        assert sheet.width > 16


def test_a_full_disk_leaves_the_earlier_answers(parts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "stills.json").write_text("{}\n")
    write = atomic_write._write

    def fill(path: Path, content: bytes) -> None:
        if not content.startswith(b"{"):
            return write(path, content)
        write(path, content[:20])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_write, "_write", fill)
    with pytest.raises(MediaError, match=r"stills\.json: the disk is full"):
        stills_task(parts).write_samples(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"stills.json", "stills.png"}
    assert (tmp_path / "stills.json").read_text() == "{}\n"


def test_training_goes_on_from_its_own_result_and_from_that_to_videos(parts: Path, tmp_path: Path) -> None:
    task = stills_task(parts)
    with torch.no_grad():
        for parameter in task.unet.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    task.save_pipeline(tmp_path / "sd")
    latents, text, noise_level = torch.randn(1, 4, 1, 2, 2), torch.randn(1, 5, 16), 500
    again = StillsTask.build(task.config, tmp_path / "sd", 0, 1, torch.device("cpu"))
    videos = build(VideoDiffusionTaskConfig(network=NETWORK, world=WORLD), start=tmp_path / "sd")
    with torch.no_grad():
        still = task.unet.eval()(latents, noise_level, text)
        torch.testing.assert_close(again.unet.eval()(latents, noise_level, text), still, atol=5e-6, rtol=1e-5)
        clip = videos.unet.eval()(latents.expand(-1, -1, 3, -1, -1), noise_level, text, 8.0)
    torch.testing.assert_close(clip, still.expand_as(clip), atol=5e-6, rtol=1e-5)


def test_a_result_of_another_size_is_refused(parts: Path, tmp_path: Path) -> None:
    task = stills_task(parts)
    task.save_pipeline(tmp_path / "sd")
    wider = replace(task.config, network=replace(task.config.network, model_channels=32))
    with pytest.raises(ValueError, match=r"does not fit task\.network"):
        StillsTask.build(wider, tmp_path / "sd", 0, 1, torch.device("cpu"))


def test_other_phases_are_refused(parts: Path) -> None:
    with pytest.raises(ValueError, match="image_share"):
        stills_task(parts, image_share=0.5)

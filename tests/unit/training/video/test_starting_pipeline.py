from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import DDIMScheduler
from transformers import CLIPConfig, CLIPModel, CLIPVisionModel

from tests.tiny_models import save_tiny_pipeline, tiny_pipeline
from videocrafter.diffusion.schedule import alphas_cumprod, linear_betas, signal_scale
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.model_folder import ModelFolderError
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.presets import PRESETS
from videocrafter.training.video.frozen_networks import FrozenNetworks, frozen_folders
from videocrafter.training.video.starting_pipeline import (
    fit_for,
    image_tower_folder,
    load_start,
    save_trained,
    with_defaults,
    with_image_input,
    with_signal_scale,
)
from videocrafter.training.video.starting_weights import named_folder


def paper_pipeline() -> TextToVideoPipeline:
    """The tiny pipeline with the paper's schedule."""
    pipeline = tiny_pipeline(image=False)
    assert isinstance(pipeline, TextToVideoPipeline)
    pipeline.scheduler = DDIMScheduler(
        trained_betas=linear_betas().tolist(), prediction_type="epsilon", clip_sample=False
    )
    return pipeline


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# Loading


def test_a_start_in_half_precision_is_loaded_whole(tmp_path: Path) -> None:
    pipeline = tiny_pipeline(image=True)
    for name in ("vae", "text_encoder", "image_encoder", "image_projector", "unet"):
        getattr(pipeline, name).half()
    pipeline.save_pretrained(tmp_path)
    start = load_start(tmp_path)
    assert isinstance(start, ImageToVideoPipeline)
    for name in ("vae", "text_encoder", "image_encoder", "image_projector", "unet"):
        loaded, saved = getattr(start, name), getattr(pipeline, name).state_dict()
        assert {parameter.dtype for parameter in loaded.parameters()} == {torch.float32}
        assert all(torch.equal(value, saved[key].to(value.dtype)) for key, value in loaded.state_dict().items())


def test_what_is_no_start_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelFolderError, match="is not a pipeline folder"):
        load_start(tmp_path)
    save_tiny_pipeline(tmp_path / "whole", image=False)
    config = tmp_path / "whole/scheduler/scheduler_config.json"
    config.write_text(config.read_text().replace("v_prediction", "sample"))
    with pytest.raises(ValueError, match="prediction_type 'sample'; expected epsilon or v_prediction"):
        load_start(tmp_path / "whole")


# What it recommends


def test_recommendations_follow_the_training() -> None:
    pipeline = tiny_pipeline(image=False)
    with_defaults(pipeline, num_frames=8, height=32, width=64)
    now = pipeline.generation_defaults
    assert (now.num_frames, now.height, now.width, now.fps) == (8, 32, 64, 8.0)
    assert (now.guidance_scale, now.num_inference_steps, now.scheduler) == (4.0, 3, "ddim"), "the rest stays"


@pytest.mark.parametrize(("fps_range", "fps"), [((12.0, 24.0), 12.0), ((2.0, 5.0), 5.0), ((4.0, 32.0), 8.0)])
def test_the_recommended_fps_is_one_that_was_trained(fps_range: tuple[float, float], fps: float) -> None:
    pipeline = tiny_pipeline(image=False)
    with_defaults(pipeline, fps_range=fps_range)
    assert pipeline.generation_defaults.fps == fps
    pipeline.check_inputs("a cat")
    assert not [note for note in pipeline.notes(pipeline.check_inputs("a cat")) if "fps" in note]


def test_as_many_frames_as_in_training_may_be_asked_for() -> None:
    pipeline = tiny_pipeline(image=False)
    with_defaults(pipeline, max_num_frames=4)
    with_defaults(pipeline, num_frames=16)
    assert pipeline.check_inputs("a cat").num_frames == 16


# The signal scale


@pytest.mark.parametrize("before", [None, 0.7])
def test_a_signal_scale_changes_the_schedule_as_the_paper_says(before: float | None) -> None:
    """The scheduler's noisy latent times the network's input scale is √ᾱ·s·x0 + √(1−ᾱ)·ε."""
    pipeline = paper_pipeline()
    if before is not None:
        with_signal_scale(pipeline, before)
    with_signal_scale(pipeline, 0.3)
    assert pipeline.config["signal_scale"] == 0.3
    abar, scale = alphas_cumprod(linear_betas()), signal_scale(0.3)
    latents, noise = torch.randn(5, 4), torch.randn(5, 4)
    timesteps = torch.tensor([0, 120, 399, 400, 999])
    noisy = pipeline.scheduler.add_noise(latents, noise, timesteps)
    input_scale = pipeline.input_scale()
    assert input_scale is not None
    wanted = (abar.sqrt() * scale)[timesteps, None] * latents + (1 - abar).sqrt()[timesteps, None] * noise
    torch.testing.assert_close(noisy.double() * input_scale[timesteps, None], wanted, atol=1e-5, rtol=1e-5)
    assert pipeline.scheduler.config.prediction_type == "epsilon"


def test_a_signal_scale_needs_the_papers_schedule() -> None:
    pipeline = tiny_pipeline(image=False)
    with pytest.raises(ValueError, match=r"signal_scale is 0\.7, but the start's schedule is not the paper's"):
        with_signal_scale(pipeline, 0.7)


def test_a_signal_scale_survives_saving(tmp_path: Path) -> None:
    pipeline = paper_pipeline()
    with_signal_scale(pipeline, 0.5)
    pipeline.save_pretrained(tmp_path)
    again = load_start(tmp_path)
    assert again.config["signal_scale"] == 0.5
    assert torch.equal(again.scheduler.alphas_cumprod, pipeline.scheduler.alphas_cumprod)


# The image branch


@pytest.fixture
def towers(tmp_path: Path) -> dict[str, Path]:
    """One image encoder: in its own folder, in a pipeline folder, and in a whole CLIP."""
    pipeline = tiny_pipeline(image=True)
    pipeline.save_pretrained(tmp_path / "pipeline")
    pipeline.image_encoder.half().save_pretrained(tmp_path / "tower")
    vision = pipeline.image_encoder.config.to_dict()
    text = pipeline.text_encoder.config.to_dict()
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16))
    clip.half().save_pretrained(tmp_path / "clip")
    return {name: tmp_path / name for name in ("pipeline", "tower", "clip")}


@pytest.mark.parametrize("kind", ["pipeline", "tower", "clip"])
def test_an_image_branch_is_silent_at_first_and_its_folder_loads(
    towers: dict[str, Path], tmp_path: Path, kind: str
) -> None:
    save_tiny_pipeline(tmp_path / "start", image=False)
    start = load_start(tmp_path / "start")
    folders = frozen_folders(tmp_path / "start", "image_mapping", towers[kind])
    frozen = FrozenNetworks(folders, torch.device("cpu"), "fp32").bring()
    made = with_image_input(start, frozen["image_encoder"], num_queries=5)  # type: ignore[arg-type]
    assert made.image_projector.config["num_queries"] == 5
    (tmp_path / "saved").mkdir()
    save_trained(made, tmp_path / "saved", folders)
    pipeline = load_pipeline(tmp_path / "saved", expect=ImageToVideoPipeline)
    pipeline.set_progress_bar_config(disable=True)
    expected = made.image_encoder.state_dict()
    for key, value in pipeline.image_encoder.state_dict().items():
        torch.testing.assert_close(value, expected[key], atol=1e-3, rtol=1e-3)
    if kind != "pipeline":
        stored = CLIPVisionModel.from_pretrained(tmp_path / "saved/image_encoder", dtype="auto")
        assert stored.dtype == torch.float16, "in its original precision"

    picture = torch.rand(3, 16, 16)
    silent = pipeline(picture, "a cat", seeds=1, output_type="pt").frames
    wanted = load_start(tmp_path / "start")("a cat", seeds=1, output_type="pt").frames
    torch.testing.assert_close(silent, wanted, atol=1e-4, rtol=1e-4)


def test_the_mappings_of_an_image_branch_begin_as_the_texts() -> None:
    made = with_image_input(paper_pipeline(), tiny_pipeline(image=True).image_encoder, num_queries=4)
    weights = made.unet.state_dict()
    new = [name for name in weights if "_image." in name]
    assert len(new) == 2 * 4
    assert all(torch.equal(weights[name], weights[name.replace("_image.", ".")]) for name in new)
    assert not any(parameter.any() for parameter in made.image_projector.norm_out.parameters())
    assert made.config["defaults"] == paper_pipeline().config["defaults"]


def test_a_tower_may_be_that_of_a_model_of_the_package() -> None:
    assert named_folder("tiny-i2v") == PRESETS["tiny-i2v"].folder
    assert named_folder("clip/vit-h") == Path("clip/vit-h")
    assert image_tower_folder(named_folder("tiny-i2v")) == PRESETS["tiny-i2v"].folder / "image_encoder"  # type: ignore[operator]


def test_what_is_no_tower_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which holds no image tower; give a folder of CLIP") as error:
        image_tower_folder(tmp_path)
    assert str(tmp_path) in str(error.value)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clip_vision_model"}))
    frozen = FrozenNetworks({"image_encoder": image_tower_folder(tmp_path)}, torch.device("cpu"), "fp32")
    with pytest.raises(ValueError, match="cannot be loaded: ") as error:
        frozen.bring()
    assert "\n" not in str(error.value)


def test_each_phase_takes_the_starts_that_make_sense() -> None:
    text, image = tiny_pipeline(image=False), tiny_pipeline(image=True)
    for phase in ("text_to_video", "temporal_only"):
        assert fit_for(text, phase, 4, None) is text  # type: ignore[arg-type]
        assert fit_for(image, phase, 4, None) is image  # type: ignore[arg-type]
    for phase in ("image_mapping", "image_to_video"):
        assert fit_for(image, phase, 4, image.image_encoder) is image  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"phase is 'image_mapping', but the start has no image branch; set task\.image_tower"
    ):
        fit_for(text, "image_mapping", 4, None)
    with pytest.raises(ValueError, match="train phase 'image_mapping' first"):
        fit_for(text, "image_to_video", 4, image.image_encoder)


# Saving


def test_frozen_parts_are_copied_byte_for_byte(tmp_path: Path) -> None:
    save_tiny_pipeline(tmp_path / "start", image=True)
    start = load_start(tmp_path / "start")
    for name in ("vae", "text_encoder", "image_encoder"):
        getattr(start, name).to(torch.bfloat16)
    with torch.no_grad():
        start.unet.conv_in.bias.add_(1)
    (tmp_path / "saved").mkdir()
    save_trained(start, tmp_path / "saved", frozen_folders(tmp_path / "start", "text_to_video", None))
    before, after = files(tmp_path / "start"), files(tmp_path / "saved")
    assert set(before) == set(after)
    differing = {name for name in before if before[name] != after[name]}
    # Configs name the folder that they were loaded from. Of the weights, only the trained ones differ.
    assert {name for name in differing if not name.endswith(".json")} == {"unet/diffusion_pytorch_model.safetensors"}
    assert not any(name.startswith(("vae", "text_encoder", "tokenizer", "image_encoder")) for name in differing)
    again = load_start(tmp_path / "saved")
    assert torch.equal(again.unet.conv_in.bias, start.unet.conv_in.bias)


def test_parts_that_stand_in_the_folder_of_another_model_are_found(tmp_path: Path) -> None:
    """tiny-i2v shares its autoencoder and its text encoder with tiny-t2v."""
    folder = PRESETS["tiny-i2v"].folder
    assert folder is not None
    shared = [path.parent.name for path in folder.glob("*/shared.json")]
    assert shared
    sources = frozen_folders(folder, "text_to_video", None)
    assert set(sources) == {"vae", "text_encoder", "tokenizer", "image_encoder"}
    for name in shared:
        shutil.copytree(sources[name], tmp_path / name)
        assert list((tmp_path / name).glob("*.safetensors"))


def test_a_trained_student_takes_no_other_model_for_a_preset() -> None:
    pipeline = tiny_pipeline(image=False)
    fast = {"num_inference_steps": 2}
    with_defaults(pipeline, presets={"quality": {"model": "teacher", "num_inference_steps": 25}, "fast": fast})
    assert pipeline.generation_defaults.presets == {"fast": fast}

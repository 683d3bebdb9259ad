import functools
import json
import shutil
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel

from tests.tiny_parts import save_parts, video_task
from tests.tiny_sd import TEXT_WIDTH, VIDEO_NETWORK, save_tiny_sd, tiny_sd_unet
from videocrafter.checkpoints.official.variants import official_variant
from videocrafter.checkpoints.stable_diffusion.folder import read_sd_folder, without_last_block
from videocrafter.checkpoints.stable_diffusion.initialisation import init_from_sd, video_unet_from_sd
from videocrafter.models.autoencoder import decode_video
from videocrafter.models.text_encoder import encode_text
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.text_to_video import TextToVideoPipeline

LARGEST_DIFFERENCE = 1e-5
VIDEO_OPTIONS = official_variant("t2v-256").unet


@pytest.fixture(scope="session")
def sd_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_sd(tmp_path_factory.mktemp("sd") / "sd")


@pytest.fixture(scope="session")
def started(sd_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> TextToVideoPipeline:
    """The initialised pipeline, loaded from its folder."""
    folder = tmp_path_factory.mktemp("started") / "model"
    made = init_from_sd(sd_folder, folder)
    assert made.notes == ()
    pipeline = TextToVideoPipeline.from_pretrained(folder)
    unet = sum(value.numel() for value in pipeline.unet.parameters())
    assert (made.num_filled, made.num_filled + made.num_new) == (
        count(read_sd_folder(sd_folder).unet_weights()),
        unet,
    )
    return pipeline


def count(tensors: dict[str, Tensor]) -> int:
    return sum(tensor.numel() for tensor in tensors.values())


def image_by_image(network: UNet2DConditionModel, clips: Tensor, timesteps: Tensor, text: Tensor) -> Tensor:
    frames = [network(clips[:, :, index], timesteps, text).sample for index in range(clips.shape[2])]
    return torch.stack(frames, dim=2)


@functools.cache
def both_networks(temporal_layers_on_images: bool) -> tuple[UNet2DConditionModel, VideoUNet]:
    image_network = tiny_sd_unet()
    switch = {"temporal_layers_on_images": temporal_layers_on_images}
    config = {**VIDEO_OPTIONS, **VIDEO_NETWORK, **switch}
    return image_network, video_unet_from_sd(image_network.state_dict(), config)


@settings(max_examples=25)
@given(
    seed=st.integers(0, 2**32 - 1),
    num_frames=st.integers(1, 6),
    size=st.tuples(st.sampled_from([2, 4, 6, 10]), st.sampled_from([2, 4, 8])),
    timesteps=st.tuples(st.integers(0, 999), st.integers(0, 999)),
    fps=st.floats(0.1, 1000),
    spread=st.floats(0.01, 10),
    length=st.integers(1, 12),
    temporal_layers_on_images=st.booleans(),
)
def test_the_new_model_is_stable_diffusion_frame_by_frame(
    seed: int,
    num_frames: int,
    size: tuple[int, int],
    timesteps: tuple[int, int],
    fps: float,
    spread: float,
    length: int,
    temporal_layers_on_images: bool,
) -> None:
    image_network, video_network = both_networks(temporal_layers_on_images)
    generator = torch.Generator().manual_seed(seed)
    clips = spread * torch.randn(2, 4, num_frames, *size, generator=generator)
    text = torch.randn(2, length, TEXT_WIDTH, generator=generator)
    with torch.no_grad():
        expected = image_by_image(image_network, clips, torch.tensor(timesteps), text)
        got = video_network(clips, torch.tensor(timesteps), text, torch.tensor([fps, 8.0]))
    assert expected.std() > 0.1
    torch.testing.assert_close(got, expected, rtol=0, atol=LARGEST_DIFFERENCE)


def test_the_test_above_would_notice_a_part_that_is_not_silent() -> None:
    """Every new part affects the output once its zero-initialised layer is no longer zero."""
    image_network = tiny_sd_unet()
    config = {**VIDEO_OPTIONS, **VIDEO_NETWORK}
    clips, text = torch.randn(1, 4, 3, 4, 4), torch.randn(1, 5, TEXT_WIDTH)
    timesteps = torch.tensor([500])
    with torch.no_grad():
        expected = image_by_image(image_network, clips, timesteps, text)
        for layer in ("temporal_in.proj_out", "fps_embedding.linear_2", "middle_out.temporal.convs.3"):
            network = video_unet_from_sd(image_network.state_dict(), config)
            network.get_submodule(layer).weight.normal_()
            got = network(clips, timesteps, text, torch.tensor([8.0]))
            assert (got - expected).abs().max() > 100 * LARGEST_DIFFERENCE, layer


def test_all_parts_of_the_folder_are_stable_diffusions(sd_folder: Path, started: TextToVideoPipeline) -> None:
    clips, text = torch.randn(2, 4, 4, 4, 6), torch.randn(2, 7, TEXT_WIDTH)
    timesteps = torch.tensor([0, 999])
    reference = CLIPTextModel.from_pretrained(sd_folder / "text_encoder")
    vae = AutoencoderKL.from_pretrained(sd_folder / "vae")
    with torch.no_grad():
        expected = image_by_image(UNet2DConditionModel.from_pretrained(sd_folder / "unet"), clips, timesteps, text)
        got = started.unet(clips, timesteps, text, torch.tensor([4.0, 30.0]))
        torch.testing.assert_close(got, expected, rtol=0, atol=LARGEST_DIFFERENCE)

        # The prompt's two exclamation marks are two tokens; the padding is 0.
        ids = torch.tensor([[512, 320, 0, 256, 513, 0, 0, 0, 0]])
        got = encode_text(started.tokenizer, started.text_encoder, ["A !!"])
        torch.testing.assert_close(got, reference(input_ids=ids).last_hidden_state)

        pixels = vae.decode(clips[0, :, 0][None] / vae.config.scaling_factor).sample
        torch.testing.assert_close(decode_video(started.vae, clips[:1])[0, 0], pixels[0], atol=1e-5, rtol=1e-4)


def test_the_pipeline_makes_videos_with_the_papers_settings(started: TextToVideoPipeline) -> None:
    started.set_progress_bar_config(disable=True)
    assert started.scheduler.config.prediction_type == "epsilon"
    assert started.generation_defaults.width == 256
    frames = started("a cat", num_frames=3, height=8, width=12, num_inference_steps=2, seeds=1).frames
    assert frames.shape == (1, 3, 8, 12, 3)


def test_training_starts_from_it(sd_folder: Path, tmp_path: Path) -> None:
    folder = init_from_sd(sd_folder, tmp_path / "model").folder
    task = video_task(save_parts(tmp_path / "parts"), start=folder)
    network = task.modules()["unet"]
    assert isinstance(network, VideoUNet)
    assert network.config["temporal_convolution"]
    start = VideoUNet.from_pretrained(folder / "unet").state_dict()
    assert all(torch.equal(value, start[name]) for name, value in network.state_dict().items())


def test_new_parts_are_the_same_every_time_and_the_global_randomness_is_left_alone() -> None:
    weights = tiny_sd_unet().state_dict()
    config = {**VIDEO_OPTIONS, **VIDEO_NETWORK}
    before = torch.random.get_rng_state()
    first = video_unet_from_sd(weights, config).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.randn(3)
    again, other = video_unet_from_sd(weights, config).state_dict(), video_unet_from_sd(weights, config, seed=1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["temporal_in.proj_in.weight"], other.state_dict()["temporal_in.proj_in.weight"])


def test_files_as_they_were_published_are_read(sd_folder: Path, started: TextToVideoPipeline, tmp_path: Path) -> None:
    """Sharded, in half precision, and with old names of the text tower."""
    source = tmp_path / "sd"
    shutil.copytree(sd_folder, source)
    unet = UNet2DConditionModel.from_pretrained(sd_folder / "unet").half()
    shutil.rmtree(source / "unet")
    unet.save_pretrained(source / "unet", max_shard_size="300KB", variant="fp16")
    assert len(list((source / "unet").glob("*.safetensors"))) > 1
    weights = load_file(source / "text_encoder" / "model.safetensors")
    old = {f"text_model.{name.removeprefix('text_model.')}": value for name, value in weights.items()}
    old["text_model.embeddings.position_ids"] = torch.arange(9)[None]
    save_file(old, source / "text_encoder" / "model.safetensors", metadata={"format": "pt"})

    made = init_from_sd(source, tmp_path / "model")
    assert [note for note in made.notes if "half precision" in note] == list(made.notes) != []
    pipeline = TextToVideoPipeline.from_pretrained(tmp_path / "model")
    assert pipeline.unet.dtype == torch.float32
    torch.testing.assert_close(
        pipeline.unet.conv_in.weight, started.unet.conv_in.weight.half().float(), rtol=0, atol=0
    )
    expected = started.text_encoder.state_dict()
    for name, value in pipeline.text_encoder.state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_whole_text_tower_is_cut_to_the_last_block_but_one() -> None:
    with torch.device("meta"):
        whole = CLIPTextModel(CLIPTextConfig(vocab_size=8, hidden_size=1024, num_hidden_layers=24, pad_token_id=1))
        right = CLIPTextModel(CLIPTextConfig(vocab_size=8, hidden_size=1024, num_hidden_layers=23, pad_token_id=1))
    expected = list(right.state_dict())
    for encoder in (whole, right):
        cut = without_last_block(encoder)
        assert list(cut.state_dict()) == expected
        assert (cut.config.num_hidden_layers, cut.config.pad_token_id) == (23, 0)


def test_v_prediction_is_kept_and_warned_about(tmp_path: Path) -> None:
    source = save_tiny_sd(tmp_path / "sd", prediction_type="v_prediction")
    made = init_from_sd(source, tmp_path / "model")
    assert "start from 2.1-base" in made.notes[0]
    assert TextToVideoPipeline.from_pretrained(tmp_path / "model").scheduler.config.prediction_type == "v_prediction"


def test_another_noise_schedule_is_mentioned(tmp_path: Path) -> None:
    source = save_tiny_sd(tmp_path / "sd")
    config = json.loads((source / "scheduler" / "scheduler_config.json").read_text())
    (source / "scheduler" / "scheduler_config.json").write_text(json.dumps({**config, "beta_end": 0.02}))
    notes = init_from_sd(source, tmp_path / "model").notes
    assert notes[0].startswith("its noise schedule is not Stable Diffusion's (beta_end 0.02)")


def test_weights_that_do_not_fit_their_config_are_refused() -> None:
    weights, config = tiny_sd_unet().state_dict(), {**VIDEO_OPTIONS, **VIDEO_NETWORK}
    for change, complaint in (
        ({"conv_in.weight": None}, "lacks 1 weights"),
        ({"surprise": torch.zeros(1)}, "has unexpected 1 weights .surprise"),
        ({"conv_in.weight": torch.zeros(16, 9, 3, 3)}, "conv_in.weight has shape"),
    ):
        changed = {name: value for name, value in {**weights, **change}.items() if value is not None}
        with pytest.raises(ValueError, match=complaint):
            video_unet_from_sd(changed, config)
    with pytest.raises(ValueError, match="to_k_image has no zero-initialised layer"):
        video_unet_from_sd(weights, {**config, "image_cross_attention": True})


def test_an_unknown_preset_and_a_taken_target_are_refused(sd_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="preset 't2v-257' cannot be initialised; expected t2v-256"):
        init_from_sd(sd_folder, tmp_path / "model", preset="t2v-257")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "diary.txt").write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match="choose another"):
            init_from_sd(sd_folder, tmp_path / "model", overwrite=overwrite)
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["diary.txt"]
    for target in (sd_folder, sd_folder.parent):
        with pytest.raises(ValueError, match="holds Stable Diffusion itself"):
            init_from_sd(sd_folder, target, overwrite=True)

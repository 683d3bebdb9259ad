from pathlib import Path

import pytest
from PIL import Image

from videocrafter.generation.recording import repeat_recording
from videocrafter.generation.request import GenerateOptions
from videocrafter.media.video_file import read_metadata
from videocrafter.pipelines.sampling_settings import IMAGE_SETTING_NAMES, SETTING_NAMES

# Written by videocrafter before its sampling settings had a class of their own.
OLD = {
    "prompt": "a cat",
    "seed": 7,
    "negative_prompt": "night",
    "fps": 8.0,
    "playback_fps": 8.0,
    "task": "i2v",
    "model": "tiny",
    "num_frames": 4,
    "height": 16,
    "width": 16,
    "num_inference_steps": 3,
    "guidance_scale": 4.0,
    "guidance_rescale": 0.7,
    "guidance_interval": [0.1, 0.8],
    "temporal_guidance_scale": 0.5,
    "eta": 1.0,
    "scheduler": "ddim",
    "spacing": None,
    "zero_terminal_snr": None,
    "loras": [],
    "scheduler_class": "DDIMScheduler",
    "device": "cpu",
    "dtype": "float32",
    "image_scale": 0.5,
    "image_guidance_scale": None,
    "image_fit": "crop",
    "model_hash": "0123456789abcdef",
}


def repeated(recording, **options):
    return repeat_recording(GenerateOptions(output=Path("v.mp4"), **options), recording, Path("old.mp4"))


def test_old_recordings_restore_every_setting():
    options = repeated(OLD)
    assert options.sampling == {
        "guidance_scale": 4.0,
        "temporal_guidance_scale": 0.5,
        "guidance_rescale": 0.7,
        "guidance_interval": [0.1, 0.8],
        "num_inference_steps": 3,
        "eta": 1.0,
        "image_scale": 0.5,
    }
    assert (options.seed, options.negative_prompt, options.image_fit, options.scheduler) == (
        7,
        "night",
        "crop",
        "ddim",
    )
    assert [row.prompt for row in options.rows] == ["a cat"]


def test_approximate_memory_settings_of_a_recording_are_expected():
    assert repeated(OLD | {"memory_settings": "decode in tiles (approximate)"}).expected_saving == (
        "decode in tiles (approximate)"
    )
    assert repeated(OLD).expected_saving is None


def test_given_options_override_the_recording():
    options = repeated(OLD, sampling={"guidance_scale": 9.0, "image_guidance_scale": 2.0}, seed=1)
    assert (options.sampling["guidance_scale"], options.sampling["eta"], options.seed) == (9.0, 1.0, 1)
    assert options.sampling["image_guidance_scale"] == 2.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": "x"}, "damaged: seed is 'x'"),
        ({"guidance_scale": "x"}, "damaged: guidance_scale must be a number"),
        ({"guidance_interval": [0.1]}, "damaged: guidance_interval must be two numbers"),
        ({"num_inference_steps": 1.5}, "damaged: num_inference_steps must be a whole number"),
    ],
)
def test_damaged_recordings_are_refused(change, message):
    with pytest.raises(ValueError, match=f"the recording in old.mp4 is {message}"):
        repeated(OLD | change)


def test_every_sampling_setting_is_recorded(make, cli, i2v_folder, tmp_path):
    Image.new("RGB", (16, 16), "red").save(tmp_path / "image.png")
    common = ("--frames", 1, "--steps", 1)
    assert make("a cat", "-o", tmp_path / "t2v", *common).exit_code == 0
    image = ("--image", tmp_path / "image.png", "--model", i2v_folder)
    assert cli("generate", "a cat", *image, "-o", tmp_path / "i2v", *common).exit_code == 0
    assert set(SETTING_NAMES) <= set(read_metadata(tmp_path / "i2v"))
    assert set(SETTING_NAMES) - set(read_metadata(tmp_path / "t2v")) == set(IMAGE_SETTING_NAMES)


@pytest.mark.parametrize(("key", "value"), [("loras", True), ("guidance_scale", 10**400), ("seed", 2**70)])
def test_values_that_no_video_can_have_are_named(key: str, value: object) -> None:
    recording = {"prompt": "a cat", "seed": 1, "model": "tiny", key: value}
    with pytest.raises(ValueError, match=rf"the recording in a\.mp4 is damaged: {key} is "):
        repeat_recording(GenerateOptions(output=Path("b.mp4")), recording, Path("a.mp4"))


@pytest.mark.parametrize(("task", "model"), [("t2v", "tiny-t2v"), ("i2v", "tiny-i2v")])
def test_recordings_of_the_family_are_repeated_by_the_model_that_it_stood_for(task: str, model: str) -> None:
    assert repeated({"prompt": "a cat", "seed": 1, "model": "tiny", "task": task}).model == model
    assert repeated({"prompt": "a cat", "seed": 1, "model": "tiny", "task": task}, model="tiny").model == "tiny"


def test_the_model_itself_is_recorded_and_not_its_family(cli, tmp_path):
    assert (
        cli("generate", "a cat", "-o", tmp_path / "v.gif", *("--frames", 2, "--height", 32, "--width", 32)).exit_code
        == 0
    )
    assert read_metadata(tmp_path / "v.gif")["model"] == "tiny-t2v-fast"

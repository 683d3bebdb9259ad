"""Sampling settings change the video and are recorded, and --from repeats them."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from tests.tiny_loras import as_kohya, random_lora, save_student
from tests.tiny_models import tiny_pipeline
from videocrafter.media.video_file import read_frames, read_metadata


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "wide.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 60, 3), dtype=np.uint8)).save(path)
    return path


SETTINGS = {
    ("--spacing", "linspace"): {"spacing": "linspace"},
    ("--scheduler", "euler-a", "--zero-terminal-snr"): {"scheduler": "euler-a", "zero_terminal_snr": True},
    ("--spacing", "legacy", "--eta", "1"): {"scheduler_class": "OfficialDDIMScheduler", "eta": 1.0},
    ("--guidance-interval", "0.3", "0.9"): {"guidance_interval": [0.3, 0.9]},
    ("--guidance-log-snr", "-3", "1"): {"guidance_log_snr": [-3.0, 1.0]},
    ("--temporal-guidance", "1.5"): {"temporal_guidance_scale": 1.5},
    ("--guidance-rescale", "0.7"): {"guidance_rescale": 0.7},
}


@pytest.mark.parametrize("options", SETTINGS)
def test_settings_change_the_video_and_are_repeated(make, cli, tmp_path, options):
    assert make("a cat", "-o", tmp_path / "plain", "--seed", 1).exit_code == 0
    first = tmp_path / "first"
    result = make("a cat", "-o", first, "--seed", 1, *options)
    assert result.exit_code == 0, result.output
    recording = read_metadata(first)
    for key, value in SETTINGS[options].items():
        assert recording[key] == value
    assert (read_frames(first) != read_frames(tmp_path / "plain")).any()
    again = cli("generate", "--from", first, "-o", tmp_path / "again")
    assert again.exit_code == 0, again.output
    np.testing.assert_array_equal(read_frames(first), read_frames(tmp_path / "again"))
    assert read_metadata(tmp_path / "again") == recording


def test_a_preset_of_the_model_gives_what_is_not_given_itself(cli, t2v_folder, tmp_path):
    model = shutil.copytree(t2v_folder, tmp_path / "model")
    index = json.loads((model / "model_index.json").read_text())
    index["defaults"]["presets"] = {"draft": {"scheduler": "euler", "num_inference_steps": 2}}
    (model / "model_index.json").write_text(json.dumps(index))
    for name, options, steps in (("draft", (), 2), ("given", ("--steps", "3"), 3)):
        command = (
            "generate",
            "a cat",
            "-m",
            model,
            "-o",
            tmp_path / name,
            "--seed",
            1,
            "--preset",
            "draft",
            *options,
        )
        result = cli(*command)
        assert result.exit_code == 0, result.output
        recording = read_metadata(tmp_path / name)
        assert (recording["scheduler"], recording["num_inference_steps"]) == ("euler", steps)
        assert cli("generate", "--from", tmp_path / name, "-o", tmp_path / f"{name}-again").exit_code == 0
        np.testing.assert_array_equal(read_frames(tmp_path / name), read_frames(tmp_path / f"{name}-again"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--preset", "draft"), ("FewStepScheduler", 2)),
        (("--scheduler", "euler"), ("EulerDiscreteScheduler", 2)),
        (("--preset", "draft", "--steps", "3"), ("FewStepScheduler", 3)),
    ],
)
def test_a_distilled_lora_keeps_its_steps_and_yields_to_what_is_given(make, tmp_path, options, expected):
    student = save_student(tmp_path / "student", 999, 500)
    result = make("a cat", "-o", tmp_path / "video", "--seed", 1, "--lora", student, *options)
    assert result.exit_code == 0, result.output
    recording = read_metadata(tmp_path / "video")
    assert (recording["scheduler_class"], recording["num_inference_steps"]) == expected


def test_settings_for_a_picture_change_the_video_and_are_repeated(cli, i2v_folder, picture, tmp_path):
    def make(name, *options):
        path = tmp_path / name
        result = cli("generate", "a cat", "-i", picture, "-m", i2v_folder, "-o", path, "--seed", 1, *options)
        assert result.exit_code == 0, result.output
        return path

    plain = make("plain")
    settings = {"--fit": ("crop", "image_fit"), "--image-guidance": (2.5, "image_guidance_scale")}
    for option, (value, key) in settings.items():
        first = make(key, option, value)
        assert read_metadata(first)[key] == value
        assert (read_frames(first) != read_frames(plain)).any()
        assert cli("generate", "--from", first, "-o", tmp_path / f"{key}-again").exit_code == 0
        np.testing.assert_array_equal(read_frames(first), read_frames(tmp_path / f"{key}-again"))
    assert read_metadata(plain)["image_fit"] == "stretch"
    assert read_metadata(plain)["image_guidance_scale"] is None


def test_loras_act_and_are_repeated(make, cli, tmp_path):
    unet = tiny_pipeline(image=False).unet
    file = tmp_path / "style.safetensors"
    save_file(as_kohya(random_lora(unet, lambda name: name.endswith("attention.to_q"))), file)
    for name, options in (("plain", ()), ("half", ("--lora", f"{file}:0.5")), ("full", ("--lora", file))):
        result = make("a cat", "-o", tmp_path / name, "--seed", 1, *options)
        assert result.exit_code == 0, result.output
    half = read_frames(tmp_path / "half")
    assert (half != read_frames(tmp_path / "plain")).any()
    assert (half != read_frames(tmp_path / "full")).any()
    assert read_metadata(tmp_path / "half")["loras"] == [f"{file.name}:0.5"]
    assert cli("generate", "--from", tmp_path / "half", "-o", tmp_path / "again").exit_code == 0
    np.testing.assert_array_equal(read_frames(tmp_path / "again"), half)


def test_help_names_every_sampler_and_spacing():
    from videocrafter.cli.generate import options as generate_options
    from videocrafter.diffusion.schedulers import SCHEDULERS, SPACINGS

    def words(option):
        return option.__metadata__[0].help.replace(",", " ").replace(".", " ").split()

    assert set(SCHEDULERS) <= set(words(generate_options.Scheduler))
    assert set(SPACINGS) <= set(words(generate_options.Spacing))


def test_a_note_is_printed_for_unusual_sampling_settings(make, t2v_folder, tmp_path):
    result = make("a cat", "-o", tmp_path / "v", "--zero-terminal-snr")
    assert result.exit_code == 0
    assert "changes nothing" in result.stderr


def test_a_table_gives_each_video_its_own_settings(make, cli, tmp_path):
    table = tmp_path / "prompts.csv"
    table.write_text("prompt,seed,fps,negative_prompt,num_frames\na cat,5,,,3\na rocket,,20,night,3\n")
    out = tmp_path / "out"
    result = make("--prompts", table, "-o", out, "--seed", 9, "-n", 2, "--batch-size", 3, "--negative", "left")
    assert result.exit_code == 0, result.output
    recordings = [read_metadata(tmp_path / f"out-{index:03d}") for index in range(4)]
    assert [one["seed"] for one in recordings] == [5, 6, 9, 10]
    assert [one["fps"] for one in recordings] == [8, 8, 20, 20]
    assert [one["playback_fps"] for one in recordings] == [8, 8, 20, 20]
    assert [one["negative_prompt"] for one in recordings] == ["left", "left", "night", "night"]
    assert {one["num_frames"] for one in recordings} == {3}
    alone = ("a rocket", "--seed", 10, "--fps", 20, "--negative", "night", "--frames", 3)
    assert make(*alone, "-o", tmp_path / "alone").exit_code == 0
    difference = read_frames(tmp_path / "alone").astype(int) - read_frames(tmp_path / "out-003")
    assert np.abs(difference).max() <= 1
    # A video from a table can be repeated like any other.
    assert cli("generate", "--from", tmp_path / "out-003", "-o", tmp_path / "again").exit_code == 0
    difference = read_frames(tmp_path / "again").astype(int) - read_frames(tmp_path / "out-003")
    assert np.abs(difference).max() <= 1


def test_a_folder_of_pictures_is_paired_with_prompts(cli, i2v_folder, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name, colour in (("10.png", "red"), ("2.png", "blue")):
        Image.new("RGB", (16, 16), colour).save(folder / name)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\na rocket\n")
    base = ("generate", "-m", i2v_folder, "--seed", 1, "--quiet")
    out = tmp_path / "out"
    result = cli(*base, "--image", folder, "--prompts", prompts, "-o", out, "--batch-size", 2)
    assert result.exit_code == 0, result.output
    recordings = [read_metadata(tmp_path / f"out-{index:03d}") for index in range(2)]
    assert [(one["prompt"], one["image"]) for one in recordings] == [
        ("a cat", "pictures/2.png"),
        ("a rocket", "pictures/10.png"),
    ]
    assert cli(*base, "a rocket", "--image", folder / "10.png", "-o", tmp_path / "alone").exit_code == 0
    difference = read_frames(tmp_path / "alone").astype(int) - read_frames(tmp_path / "out-001")
    assert np.abs(difference).max() <= 1
    assert cli("generate", "--from", tmp_path / "out-000", "-o", tmp_path / "again").exit_code == 0


def test_pictures_that_do_not_pair_or_are_none_are_named(cli, i2v_folder, tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.new("RGB", (16, 16)).save(folder / "a.png")
    (folder / "b.png").write_text("no picture")
    base = ("generate", "-m", i2v_folder, "-o", tmp_path / "out.mp4")
    result = cli(*base, "a cat", "a dog", "a rocket", "--image", folder)
    assert result.exit_code == 2
    assert "3 prompts for the 2 images" in result.stderr
    result = cli(*base, "a cat", "--image", folder)
    assert result.exit_code == 2
    assert "b.png" in result.stderr
    table = tmp_path / "p.csv"
    table.write_text("prompt,image\na cat,pictures/a.png\na dog,pictures/c.png\n")
    result = cli(*base, "--prompts", table)
    assert result.exit_code == 2
    assert "p.csv, line 3" in result.stderr
    assert "c.png" in result.stderr


def test_a_preview_is_drawn_while_sampling(make, tmp_path, monkeypatch):
    from videocrafter.cli.generate.preview import PreviewWriter

    drawn = []
    original = PreviewWriter.after_step

    def spy(self, step, num_steps, state, prompts):
        before = self.path.read_bytes() if self.path.exists() else None
        original(self, step, num_steps, state, prompts)
        drawn.append((step, num_steps, self.path.exists() and self.path.read_bytes() != before))

    monkeypatch.setattr(PreviewWriter, "after_step", spy)
    preview = tmp_path / "preview.png"
    options = ("--steps", 5, "--preview", preview, "--preview-every", 2, "-n", 2)
    result = make("a cat", "-o", tmp_path / "v", *options)
    assert result.exit_code == 0, result.output
    one_video = [(0, 5, False), (1, 5, True), (2, 5, False), (3, 5, True), (4, 5, True)]
    assert drawn == one_video * 2
    assert Image.open(preview).width > 4 * 100
    refused = make("a cat", "-o", tmp_path / "w", *options)
    assert refused.exit_code == 2
    assert "preview.png already exists" in refused.stderr.replace("\n", "")


def test_a_preview_does_not_stand_in_the_way(make, tmp_path):
    for options in (("--preview", tmp_path / "v" / "p.png"), ("--preview", "p.png", "--contact-sheet", "p.png")):
        result = make("a cat", "-o", tmp_path / "v", *options)
        assert result.exit_code == 2
        assert "p.png" in result.stderr
    assert not (tmp_path / "v").exists() or not any((tmp_path / "v").iterdir())

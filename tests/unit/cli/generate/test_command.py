import json

import av
import numpy as np
import pytest
from PIL import Image

from videocrafter.media.video_file import probe, read_frames, read_metadata


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "red.png"
    Image.new("RGB", (40, 30), (200, 20, 20)).save(path)
    return path


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_prompt_becomes_a_video_with_a_recording(make, tmp_path):
    out = tmp_path / "new" / "cat.mp4"
    result = make("a cat over the blue sky", "-o", out, "--seed", 7)
    assert result.exit_code == 0, result.output
    assert files_in(out.parent) == ["cat.mp4", "cat.mp4.json"]
    assert read_frames(out).shape == (4, 16, 16, 3)
    assert probe(out).fps == 8
    recording = read_metadata(out)
    assert recording == json.loads((out.parent / "cat.mp4.json").read_text())
    assert recording["prompt"] == "a cat over the blue sky"
    assert recording["seed"] == 7
    assert recording["num_inference_steps"] == 3
    assert len(recording["model_hash"]) == 16
    assert set(recording["versions"]) == {"videocrafter", "python", "torch", "diffusers", "transformers"}
    assert "cat.mp4: 4 frames of 16x16, 8 fps, seed 7" in result.stdout.replace("\n", "")
    for phase in ("imports and model", "encode", "denoise", "decode", "write"):
        assert phase in result.stdout


@pytest.mark.parametrize("suffix", [".webm", ".gif", ""])
def test_suffix_decides_the_form(make, tmp_path, suffix):
    out = tmp_path / f"cat{suffix}"
    assert make("a cat", "-o", out, "--seed", 1, "--playback-fps", 5).exit_code == 0
    assert read_frames(out).shape == (4, 16, 16, 3)
    assert read_metadata(out)["playback_fps"] == 5
    assert read_metadata(out)["fps"] == 8
    assert out.is_dir() == (suffix == "")


def test_the_codec_belongs_to_the_file_and_is_not_recorded(make, tmp_path):
    size = ("--height", 32, "--width", 32, "--seed", 1)
    assert make("a cat", "-o", tmp_path / "av1.webm", "--codec", "av1", *size).exit_code == 0
    assert make("--from", tmp_path / "av1.webm", "-o", tmp_path / "again.webm").exit_code == 0
    for name, codec in (("av1.webm", "av1"), ("again.webm", "vp9")):
        with av.open(str(tmp_path / name)) as container:
            assert codec in container.streams.video[0].codec_context.codec.long_name.lower()
    assert read_metadata(tmp_path / "av1.webm") == read_metadata(tmp_path / "again.webm")


def test_several_videos_are_numbered_prompt_by_prompt_and_have_their_own_seeds(make, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("# a comment\n\n  a rocket  \n")
    out = tmp_path / "out"
    result = make("a cat", "--prompts", prompts, "-o", out, "-n", 2, "--seed", 5, "--batch-size", 3, "--quiet")
    assert result.exit_code == 0, result.output
    outputs = [tmp_path / f"out-{index:03d}" for index in range(4)]
    assert result.stdout.split() == [str(path) for path in outputs]
    recordings = [read_metadata(path) for path in outputs]
    assert [one["prompt"] for one in recordings] == ["a cat", "a cat", "a rocket", "a rocket"]
    assert [one["seed"] for one in recordings] == [5, 6, 5, 6]
    assert make("a rocket", "-o", tmp_path / "alone", "--seed", 6).exit_code == 0
    alone, among = read_frames(tmp_path / "alone"), read_frames(outputs[3])
    assert np.abs(alone.astype(int) - among.astype(int)).max() <= 1


def test_from_repeats_the_video_and_other_options_win(make, cli, tmp_path):
    first = tmp_path / "first"
    assert make("a cat", "-o", first, "--steps", 5, "--guidance", 2, "--scheduler", "euler-a").exit_code == 0
    result = cli("generate", "--from", first, "-o", tmp_path / "again")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(read_frames(first), read_frames(tmp_path / "again"))
    assert read_metadata(tmp_path / "again") == read_metadata(first)

    sidecar = tmp_path / "first.json"
    assert cli("generate", "a rocket", "--from", sidecar, "-o", tmp_path / "b", "--fps", 20).exit_code == 0
    changed, before = read_metadata(tmp_path / "b"), read_metadata(first)
    assert (changed["prompt"], changed["fps"]) == ("a rocket", 20)
    kept = ("seed", "num_inference_steps", "guidance_scale", "scheduler", "playback_fps")
    assert {key: changed[key] for key in kept} == {key: before[key] for key in kept}


def test_random_seeds_differ_and_are_recorded(make, tmp_path):
    for name in ("a.gif", "b.gif"):
        assert make("a cat", "-o", tmp_path / name).exit_code == 0
    seeds = [read_metadata(tmp_path / name)["seed"] for name in ("a.gif", "b.gif")]
    assert seeds[0] != seeds[1]


def test_image_becomes_a_video_and_is_checked_when_repeated(cli, i2v_folder, picture, tmp_path):
    out = tmp_path / "video"
    result = cli(
        "generate",
        "a cat",
        "--image",
        picture,
        "--image-scale",
        0.5,
        "-m",
        i2v_folder,
        "-o",
        out,
        "--seed",
        1,
    )
    assert result.exit_code == 0, result.output
    recording = read_metadata(out)
    assert recording["image"] == picture.name
    assert recording["image_scale"] == 0.5
    assert cli("generate", "--from", out, "-o", tmp_path / "again").exit_code == 0
    np.testing.assert_array_equal(read_frames(out), read_frames(tmp_path / "again"))

    Image.new("RGB", (40, 30), (20, 20, 200)).save(picture)
    refused = cli("generate", "--from", out, "-o", tmp_path / "third")
    assert refused.exit_code == 2
    assert "has changed since" in refused.stderr
    assert cli("generate", "--from", out, "--image", picture, "-o", tmp_path / "third").exit_code == 0
    assert (read_frames(tmp_path / "third") != read_frames(out)).any()


def test_contact_sheet_shows_all_frames(make, tmp_path):
    sheet = tmp_path / "sheet.png"
    assert make("a cat", "a rocket", "-o", tmp_path / "v.mp4", "--contact-sheet", sheet).exit_code == 0
    width, height = Image.open(sheet).size
    assert width > 4 * 100
    assert height > 2 * 100


def test_notes_are_printed_and_do_not_stop_the_run(make, tmp_path):
    for index, (prompt, note) in enumerate([("", "empty"), ("two rockets", "did you mean 'rocket'?")]):
        result = make(prompt, "-o", tmp_path / f"{index}.gif")
        assert result.exit_code == 0
        assert "note:" in result.stderr
        assert note in result.stderr
    assert make("", "-o", tmp_path / "quiet.gif", "--quiet").stderr == ""


def test_settings_reach_the_model(make, tmp_path):
    settings = {"frames": 6, "height": 24, "width": 32, "fps": 12, "steps": 2, "guidance": 1, "eta": 1}
    options = [text for key, value in settings.items() for text in (f"--{key}", value)]
    result = make("a cat", "-o", tmp_path / "v", "--negative", "night", *options, "--dtype", "bfloat16")
    assert result.exit_code == 0, result.output
    recording = read_metadata(tmp_path / "v")
    assert read_frames(tmp_path / "v").shape == (6, 24, 32, 3)
    assert recording["negative_prompt"] == "night"
    assert recording["dtype"] == "bfloat16"
    assert recording["eta"] == 1


def test_text_with_brackets_and_stray_bytes_is_taken_as_it_is(make, tmp_path):
    result = make("a [red] cat \udcff \U0001f680", "-o", tmp_path / "v.mp4")
    assert result.exit_code == 0, result.output
    assert read_metadata(tmp_path / "v.mp4")["prompt"].startswith("a [red] cat")


def test_existing_output_is_replaced_only_when_asked(make, tmp_path):
    out = tmp_path / "v"
    assert make("a cat", "-o", out, "--seed", 1).exit_code == 0
    before = read_frames(out)
    refused = make("a rocket", "-o", out, "--seed", 2)
    assert refused.exit_code == 2
    assert str(out) in refused.stderr.replace("\n", "")
    np.testing.assert_array_equal(read_frames(out), before)
    assert make("a rocket", "-o", out, "--seed", 2, "--overwrite").exit_code == 0
    assert (read_frames(out) != before).any()


def test_empty_folder_is_filled(make, tmp_path):
    (tmp_path / "v").mkdir()
    assert make("a cat", "-o", tmp_path / "v").exit_code == 0
    assert len(list((tmp_path / "v").glob("*.png"))) == 4


def test_a_sentence_without_quotes_is_refused_or_noted(make, tmp_path):
    refused = make("a", "rocket", "flying", "up", "-o", tmp_path / "v")
    assert refused.exit_code == 2
    assert 'put it in quotes: "a rocket flying up"' in refused.stderr
    noted = make("rocket", "flying", "-o", tmp_path / "v", "--steps", 1)
    assert noted.exit_code == 0
    assert '2 prompts of one word each; if they are one prompt, put it in quotes: "rocket flying"' in noted.stderr
    assert "quotes" not in make("a rocket", "a cat", "-o", tmp_path / "w", "--steps", 1).stderr


def test_an_image_unlike_the_training_images_gets_a_note(cli, i2v_folder, tmp_path):
    Image.effect_noise((64, 64), 90).convert("RGB").save(tmp_path / "noise.png")
    command = ("generate", "it is moving", "-m", i2v_folder, "-i", tmp_path / "noise.png", "--steps", 1)
    assert "noise.png: the image looks unlike" in cli(*command, "-o", tmp_path / "v").stderr


def test_a_contact_sheet_of_a_long_video_shows_evenly_spaced_frames(make, tmp_path):
    sheet = tmp_path / "sheet.png"
    result = make("a cat", "-o", tmp_path / "v.gif", "--frames", 40, "--steps", 1, "--contact-sheet", sheet)
    assert result.exit_code == 0, result.output
    assert Image.open(sheet).width == 32 * 132 + 4

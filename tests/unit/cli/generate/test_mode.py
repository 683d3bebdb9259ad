"""The options select the right pipeline, and --from repeats it."""

import numpy as np
import pytest
from PIL import Image

from videocrafter.media.video_file import read_frames, read_metadata, write_video


@pytest.fixture
def clip(tmp_path):
    path = tmp_path / "clip.mp4"
    frames = np.random.default_rng(1).integers(0, 256, (6, 16, 16, 3), dtype=np.uint8)
    write_video(path, frames, 10.0)
    return path


@pytest.fixture
def pictures(tmp_path):
    paths = [tmp_path / "first.png", tmp_path / "last.png"]
    for path, colour in zip(paths, ("red", "blue"), strict=True):
        Image.new("RGB", (16, 16), colour).save(path)
    return paths


def assert_repeats(cli, first, tmp_path):
    result = cli("generate", "--from", first, "-o", tmp_path / "again")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(read_frames(first), read_frames(tmp_path / "again"))
    assert read_metadata(tmp_path / "again") == read_metadata(first)


def test_more_frames_than_trained_for_are_made_in_windows(make, cli, tmp_path):
    first = tmp_path / "v"
    assert make("a cat", "-o", first, "--frames", 9, "--seed", 1).exit_code == 0
    recording = read_metadata(first)
    assert (recording["num_frames"], recording["window"], recording["window_overlap"]) == (9, 4, 2)
    assert read_frames(first).shape[0] == 9
    assert_repeats(cli, first, tmp_path)
    other = ("--frames", 9, "--window", 3, "--window-overlap", 1, "--seed", 1)
    assert make("a cat", "-o", tmp_path / "w", *other).exit_code == 0
    assert read_metadata(tmp_path / "w")["window"] == 3
    assert (read_frames(tmp_path / "w") != read_frames(first)).any()


def test_one_window_is_a_plain_video(make, tmp_path):
    assert make("a cat", "-o", tmp_path / "plain", "--seed", 1).exit_code == 0
    assert make("a cat", "-o", tmp_path / "window", "--seed", 1, "--window", 4).exit_code == 0
    np.testing.assert_array_equal(read_frames(tmp_path / "plain"), read_frames(tmp_path / "window"))
    assert "window" not in read_metadata(tmp_path / "plain")


def test_a_loop(make, cli, tmp_path):
    first = tmp_path / "v"
    assert make("a cat", "-o", first, "--loop", "--frames", 6, "--seed", 1).exit_code == 0
    assert read_metadata(first)["loop"] is True
    assert read_frames(first).shape[0] == 6
    assert_repeats(cli, first, tmp_path)
    assert cli("generate", "--from", first, "--no-loop", "-o", tmp_path / "open").exit_code == 0
    assert (read_frames(tmp_path / "open") != read_frames(first)).any()


def test_a_video_made_anew(make, cli, clip, tmp_path):
    first = tmp_path / "v"
    result = make("a cat", "-o", first, "--video", clip, "--strength", 0.4, "--steps", 5, "--seed", 1)
    assert result.exit_code == 0, result.output
    recording = read_metadata(first)
    assert (recording["strength"], recording["video"]) == (0.4, clip.name)
    # The motion and the file have the frame rate of the clip.
    assert (recording["fps"], recording["playback_fps"]) == (pytest.approx(10), pytest.approx(10))
    assert read_frames(first).shape[0] == 6
    assert_repeats(cli, first, tmp_path)
    assert make("a cat", "-o", tmp_path / "w", "--video", clip, "--steps", 5, "--frames", 3).exit_code == 0
    assert read_frames(tmp_path / "w").shape[0] == 3
    assert read_metadata(tmp_path / "w")["strength"] == 0.6
    clip.write_bytes(clip.read_bytes() + b"\0")
    refused = cli("generate", "--from", first, "-o", tmp_path / "x")
    assert refused.exit_code == 2
    assert "clip.mp4 has changed" in refused.stderr.replace("\n", "")


def test_a_video_continued(make, cli, clip, tmp_path):
    first = tmp_path / "v"
    result = make("a cat", "-o", first, "--continue", clip, "--frames", 5, "--seed", 1)
    assert result.exit_code == 0, result.output
    frames = read_frames(first)
    assert frames.shape[0] == 6 + 5
    np.testing.assert_array_equal(frames[:6], read_frames(clip))
    assert read_metadata(first)["continued"] == clip.name
    assert_repeats(cli, first, tmp_path)


def test_a_model_that_wants_an_image_takes_it_from_the_clip(cli, i2v_folder, clip, tmp_path):
    for way in ("--continue", "--video"):
        result = cli("generate", "a cat", way, clip, "-m", i2v_folder, "-o", tmp_path / way, "--seed", 1)
        assert result.exit_code == 0, result.output
        assert read_metadata(tmp_path / way)["task"] == "i2v"


def test_from_one_picture_to_another(cli, t2v_folder, i2v_folder, pictures, tmp_path):
    first, last = pictures
    for folder in (t2v_folder, i2v_folder):
        out = tmp_path / folder.name
        ends = ("--image", first, "--image-end", last)
        result = cli("generate", "a cat", *ends, "-m", folder, "-o", out, "--seed", 1, "--frames", 5)
        assert result.exit_code == 0, result.output
        recording = read_metadata(out)
        assert (recording["image"], recording["image_end"]) == (first.name, last.name)
        assert read_frames(out).shape[0] == 5
    assert_repeats(cli, out, tmp_path)
    Image.new("RGB", (16, 16), "green").save(last)
    assert "last.png has changed" in cli("generate", "--from", out, "-o", tmp_path / "x").stderr.replace("\n", "")


def test_two_beginnings_and_one_end_are_refused(cli, i2v_folder, pictures, tmp_path):
    result = cli(
        "generate", "a cat", "-i", tmp_path, "--image-end", pictures[1], "-m", i2v_folder, "-o", tmp_path / "v"
    )
    assert result.exit_code == 2
    assert "one --image" in result.stderr


def test_a_clip_of_hours_is_refused_before_it_is_read(make, clip, tmp_path, monkeypatch):
    from videocrafter.generation import inputs as generate_inputs

    monkeypatch.setattr(generate_inputs, "_LARGEST_CLIP", 1000)
    result = make("a cat", "-o", tmp_path / "v.mp4", "--continue", clip)
    assert result.exit_code == 2
    assert "clip.mp4 has 6 frames of 16x16" in result.stderr.replace("\n", "")
    assert make("a cat", "-o", tmp_path / "v.mp4", "--video", clip, "--frames", 1).exit_code == 0

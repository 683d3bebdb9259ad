"""Recordings reveal no absolute paths, and --from finds the files that they name."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from videocrafter.generation.recorded_paths import find_recorded, recorded_path
from videocrafter.media.file_hash import file_sha256
from videocrafter.media.video_file import read_frames, read_metadata


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A folder with an image in `in` and a place for a video in `out`."""
    project = tmp_path / "home" / "maker" / "project"
    for name in ("in", "out"):
        (project / name).mkdir(parents=True)
    Image.new("RGB", (16, 16), "red").save(project / "in" / "red.png")
    monkeypatch.setenv("HOME", str(tmp_path / "home" / "maker"))
    return project


def test_paths_are_relative_to_the_video(project):
    out = project / "out"
    assert recorded_path(project / "in" / "red.png", out) == "../in/red.png"
    assert recorded_path(out / "red.png", out) == "red.png"
    assert recorded_path(project / "in" / "red.png", out, absolute=True) == str(project / "in" / "red.png")


def test_paths_outside_of_the_home_folder_are_bare_names(project):
    assert recorded_path(Path("/mnt/photos/red.png"), project / "out") == "red.png"
    assert recorded_path(project.parents[1] / "colleague" / "red.png", project / "out") == "red.png"


def test_a_file_is_found_by_its_path_its_name_and_its_content(project, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    image, out = project / "in" / "red.png", project / "out"
    sha256 = file_sha256(image)
    assert find_recorded("../in/red.png", out, sha256).resolve() == image
    shutil.move(image, out / "renamed.png")
    Image.new("RGB", (16, 16), "blue").save(out / "red.png")
    assert find_recorded("../in/red.png", out, sha256) == out / "renamed.png"
    shutil.move(out / "renamed.png", tmp_path / "red.png")
    assert find_recorded("../in/red.png", out, sha256) == Path("red.png")
    (tmp_path / "red.png").unlink()
    assert find_recorded("../in/red.png", out, sha256) == out / "red.png"  # changed, which is reported later
    assert find_recorded("../in/green.png", out, sha256) is None


def test_no_part_of_a_video_holds_an_absolute_path(cli, i2v_folder, project):
    shutil.copytree(i2v_folder, project / "model")
    command = ("generate", "a cat", "-m", project / "model", "-i", project / "in" / "red.png", "--seed", 1, "--quiet")
    for name in ("v.mp4", "v.webm", "v.gif", "v"):
        out = project / "out" / name
        assert cli(*command, "-o", out).exit_code == 0
        recording = read_metadata(out)
        assert (recording["image"], recording["model"]) == ("../in/red.png", "../model")
        files = [*out.iterdir()] if out.is_dir() else [out]
        for file in (*files, out.with_name(f"{name}.json")):
            assert str(project).encode() not in file.read_bytes()
    out = project / "out" / "absolute.gif"
    assert cli(*command, "-o", out, "--absolute-paths").exit_code == 0
    assert read_metadata(out)["image"] == str(project / "in" / "red.png")


def test_a_project_can_be_moved(cli, i2v_folder, project, tmp_path):
    shutil.copytree(i2v_folder, project / "model")
    command = ("generate", "a cat", "-m", project / "model", "-i", project / "in" / "red.png", "--seed", 1)
    assert cli(*command, "-o", project / "out" / "v").exit_code == 0
    frames = read_frames(project / "out" / "v")
    moved = shutil.move(project, tmp_path / "elsewhere")
    assert cli("generate", "--from", moved / "out" / "v", "-o", tmp_path / "again").exit_code == 0
    np.testing.assert_array_equal(read_frames(tmp_path / "again"), frames)
    shutil.rmtree(moved / "model")
    refused = cli("generate", "--from", moved / "out" / "v", "-o", tmp_path / "third")
    assert refused.exit_code == 2
    assert "made from ../model" in refused.stderr
    assert "pass it with --model" in refused.stderr


def test_recordings_with_absolute_paths_still_work(make, cli, tmp_path, t2v_folder):
    assert make("a cat", "-o", tmp_path / "v", "--seed", 1).exit_code == 0
    recording = read_metadata(tmp_path / "v") | {"model": str(t2v_folder)}
    old = tmp_path / "old.json"
    old.write_text(json.dumps(recording))
    assert cli("generate", "--from", old, "-o", tmp_path / "again").exit_code == 0
    np.testing.assert_array_equal(read_frames(tmp_path / "again"), read_frames(tmp_path / "v"))

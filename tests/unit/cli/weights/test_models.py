from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from videocrafter import presets
from videocrafter.checkpoints.hub.converted_models import fingerprint_file, hub_name
from videocrafter.presets import PRESETS


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    """A user without downloads."""
    monkeypatch.setenv("VIDEOCRAFTER_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "home"


@pytest.fixture
def installed(monkeypatch, t2v_folder):
    """An installation with only the tiny text-to-video model."""
    folder = t2v_folder.parent / "tiny-t2v"
    if not folder.exists():
        folder.symlink_to(t2v_folder, target_is_directory=True)
    monkeypatch.setattr(presets, "_ASSETS", t2v_folder.parent)


def test_list_tells_installed_from_known_and_what_each_knows(cli, installed):
    result = cli("models")
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    assert "tiny-t2v: text to video, installed" in text
    assert "tiny-i2v: image to video, missing from this installation" in text
    assert "t2v-1024: text to video, needs a download of 6.3 GB" in text
    assert "weights: https://huggingface.co/VideoCrafter/Text2Video-1024" in text
    assert "1.57 billion parameters; peak memory for one video in bfloat16: about 6 GiB (computed)" in text
    assert "t2v-512-early: text to video, no public weights" in text
    assert text.count("licence of the weights:") == len(PRESETS)
    assert "subjects: rocket, red car, soccer ball, cat" in text
    assert "fps_range 4 to 24" in text


def test_one_model_by_name_family_or_folder(cli, installed, t2v_folder):
    assert "tiny-i2v" not in cli("models", "tiny-t2v").stdout
    assert "tiny-i2v" in cli("models", "tiny").stdout
    by_folder = cli("models", t2v_folder)
    assert "soccer ball" in by_folder.stdout
    assert "needs" in cli("models", "vc2-t2v-512").stdout
    assert "the network takes no fps" in " ".join(cli("models", "t2v-512").stdout.split())


def test_a_converted_download_is_shown_with_what_it_holds(cli, installed, home, t2v_folder):
    folder = home / "models" / f"{hub_name(PRESETS['t2v-512'])}-{'0' * 16}"
    folder.parent.mkdir(parents=True)
    folder.symlink_to(t2v_folder, target_is_directory=True)
    text = " ".join(cli("models").stdout.split())
    assert "t2v-512: text to video, cached" in text
    assert "t2v-1024: text to video, needs a download" in text
    assert "soccer ball" in cli("models", "t2v-512").stdout


def test_a_checkpoint_file_is_shown_once_it_is_converted(cli, home, t2v_folder, tmp_path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {}}, path)
    result = cli("models", path)
    assert result.exit_code == 2
    assert "has not been converted; --model" in result.stderr
    assert result.stderr.count("\n") == 1
    (home / "models").mkdir(parents=True)
    (home / "models" / f"model-{fingerprint_file(path)}").symlink_to(t2v_folder, target_is_directory=True)
    assert "soccer ball" in cli("models", path).stdout


def test_unknown_model_is_one_line(cli):
    result = cli("models", "tinny")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: unknown model 'tinny'")

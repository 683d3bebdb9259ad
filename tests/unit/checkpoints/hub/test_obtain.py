from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from tests.fake_hub import FakeHub, running_hub
from tests.official_checkpoints import random_checkpoint
from tests.unit.checkpoints.official.official_shapes import mini_config
from videocrafter.checkpoints.hub import download as hub_module
from videocrafter.checkpoints.hub.obtain import model_status, obtain_model
from videocrafter.checkpoints.official.official_model import official_model_from_config
from videocrafter.checkpoints.official.to_folder import EXTRAS_FILE
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.presets import PRESETS

PRESET = PRESETS["i2v-512"]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("VIDEOCRAFTER_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    """A small image-to-video checkpoint in the official format."""
    path = tmp_path_factory.mktemp("official") / "mini.ckpt"
    model = official_model_from_config({"params": mini_config()})
    torch.save({"state_dict": random_checkpoint(model)}, path)
    return path


@pytest.fixture
def hub(tmp_path, monkeypatch, checkpoint) -> Iterator[FakeHub]:
    monkeypatch.setattr(hub_module, "_check_space", lambda *_: None)
    with running_hub(tmp_path / "hub", monkeypatch) as hub:
        hub.files[f"{PRESET.hub_id}/{PRESET.hub_file}"] = checkpoint.read_bytes()
        yield hub


def test_a_preset_is_downloaded_converted_and_then_there(hub, home, tmp_path):
    assert model_status(PRESET) == "needs a download of 5.2 GB"
    messages: list[str] = []
    folder = obtain_model("i2v-512", "i2v", notify=messages.append)
    assert folder.is_relative_to(home)
    assert [text.split()[0] for text in messages] == ["downloading", "converting", "detected"]
    assert isinstance(load_pipeline(folder), ImageToVideoPipeline)

    num_requests = len(hub.requests)
    assert model_status(PRESET) == "cached"
    # The download itself is no longer needed.
    next((tmp_path / "hub").rglob("model.ckpt")).unlink()
    assert obtain_model("i2v-512", "i2v", notify=messages.append) == folder
    assert (len(hub.requests), len(messages)) == (num_requests, 3)


def test_a_download_that_was_not_converted_is_known(hub):
    hub_module.download(PRESET)
    assert model_status(PRESET) == "downloaded, converted on first use"


def test_nothing_is_downloaded_that_was_not_named(hub, tmp_path):
    for name, task in (("tiny", "t2v"), ("tiny", "i2v"), ("tiny-t2v", "t2v")):
        obtain_model(name, task)
    for preset in PRESETS.values():
        model_status(preset)
    for name, task in (("i2v-512", "t2v"), ("t2v-256", "t2v"), ("t2v-512-early", "t2v"), ("t2v-51", "t2v")):
        with pytest.raises(ValueError) as caught:
            obtain_model(name, task)
        assert "\n" not in str(caught.value)
    assert hub.requests == []


def test_a_checkpoint_file_becomes_a_pipeline(checkpoint):
    progress: list[tuple[int, int]] = []
    folder = obtain_model(checkpoint, "i2v", on_progress=lambda *now: progress.append(now))
    assert progress[-1][0] == progress[-1][1] > 0
    messages: list[str] = []
    pipeline = load_pipeline(checkpoint, expect=ImageToVideoPipeline, notify=messages.append)
    assert messages == []
    assert pipeline.unet.config["image_cross_attention"]
    # Cached folders are never converted back, so they keep no unused weights.
    with safe_open(folder / EXTRAS_FILE, "pt") as extras:
        assert [key for key in extras.keys() if "." in key] == []  # noqa: SIM118  (no mapping)


def test_what_is_no_checkpoint_is_one_line(tmp_path, home):
    picture = tmp_path / "picture.png"
    picture.write_bytes(b"\x89PNG")
    broken = tmp_path / "broken.ckpt"
    broken.write_bytes(b"not a checkpoint")
    for path, message in ((picture, "is a PNG image; pass a checkpoint"), (broken, "broken.ckpt")):
        with pytest.raises(ValueError, match=message) as caught:
            obtain_model(path, "t2v")
        assert "\n" not in str(caught.value)
    assert list(home.rglob("model_index.json")) == []


def test_missing_weights_of_the_package_are_told_from_weights_elsewhere():
    assert model_status(replace(PRESETS["tiny-t2v"], asset="nowhere")) == "missing from this installation"
    assert model_status(PRESETS["tiny-t2v"]) == "installed"
    assert model_status(PRESETS["t2v-256"]) == "no public weights"

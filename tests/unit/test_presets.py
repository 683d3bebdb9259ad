import dataclasses
import os

import pytest

from videocrafter import presets
from videocrafter.pipelines.settings import GenerationDefaults
from videocrafter.presets import LORA_FILE, PRESETS, is_run_folder, resolve_model


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """An installation with tiny-t2v and its student, and without tiny-i2v."""
    for name in ("tiny-t2v", "tiny-t2v-fast"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text("{}")
    monkeypatch.setattr(presets, "_ASSETS", tmp_path)
    return tmp_path


def test_family_is_resolved_by_task(assets):
    assert resolve_model("tiny", "t2v") == assets / "tiny-t2v-fast"
    assert resolve_model("tiny-t2v", "t2v") == assets / "tiny-t2v"
    with pytest.raises(ValueError, match=r"tiny-i2v.*missing from this installation"):
        resolve_model("tiny", "i2v")


def test_folder_with_an_index_is_a_model_and_other_paths_are_not(assets, tmp_path):
    assert resolve_model(assets / "tiny-t2v", "i2v") == assets / "tiny-t2v"
    with pytest.raises(ValueError, match="not a pipeline folder"):
        resolve_model(tmp_path, "t2v")
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(ValueError, match=r"is a file.*videocrafter convert .*model.ckpt FOLDER"):
        resolve_model(tmp_path / "model.ckpt", "t2v")


def test_a_run_means_its_result(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    checkpoints = [tmp_path / "checkpoints" / f"low-step-{step:08d}" for step in (9, 7)]
    for checkpoint in checkpoints:
        checkpoint.mkdir(parents=True)
    with pytest.raises(ValueError, match=r"training run .* is not finished.*it has not saved a checkpoint yet"):
        resolve_model(tmp_path, "t2v")
    for when, checkpoint in enumerate(checkpoints):
        (checkpoint / "model_index.json").write_text("{}")
        os.utime(checkpoint, (when, when))
    with pytest.raises(ValueError, match=r"use its newest checkpoint, .*low-step-00000007"):
        resolve_model(tmp_path, "t2v")
    (tmp_path / "final").mkdir()
    with pytest.raises(ValueError, match=r"final is not a pipeline folder"):
        resolve_model(tmp_path, "t2v")
    (tmp_path / "final" / LORA_FILE).touch()
    (tmp_path / "loras" / "checkpoints" / "lora-step-00000005").mkdir(parents=True)
    (tmp_path / "loras" / "config.json").write_text("{}")
    (tmp_path / "loras" / "checkpoints" / "lora-step-00000005" / LORA_FILE).touch()
    with pytest.raises(ValueError, match=r"use its newest checkpoint, .*lora-step-00000005"):
        resolve_model(tmp_path / "loras", "t2v")
    for given in (tmp_path, tmp_path / "final"):
        with pytest.raises(ValueError, match=r"holds a LoRA.* --model.*--lora .*final"):
            resolve_model(given, "t2v")
    (tmp_path / "final" / "model_index.json").write_text("{}")
    assert resolve_model(tmp_path, "t2v") == tmp_path / "final"


def test_a_part_of_a_model_is_no_run(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    assert not is_run_folder(tmp_path)


def test_unknown_name_lists_names_and_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'tinny'; did you mean 'tiny'\? .*vc2-t2v-512"):
        resolve_model("tinny", "t2v")


@pytest.mark.parametrize("name", ["t2v-512", "t2v-1024", "i2v-512", "vc2-t2v-512"])
def test_official_models_are_not_there_and_say_where_they_are(name):
    preset = PRESETS[name]
    assert not preset.is_installed
    with pytest.raises(ValueError, match=f"{name}.*does not ship with the package") as caught:
        resolve_model(name, preset.task)
    assert preset.hub_url in str(caught.value)
    assert "\n" not in str(caught.value)


def test_models_without_a_download_say_how_to_get_them():
    for name, message in (("t2v-512-early", "if you have a copy, pass its path"), ("t2v-256", "videocrafter init")):
        with pytest.raises(ValueError, match=message):
            resolve_model(name, "t2v")


def test_preset_of_the_other_task_is_refused():
    with pytest.raises(ValueError, match="needs an image"):
        resolve_model("tiny-i2v", "t2v")
    with pytest.raises(ValueError, match="takes no image"):
        resolve_model("tiny-t2v", "i2v")


def test_official_presets_are_complete():
    official = [preset for preset in PRESETS.values() if preset.asset is None]
    assert len(official) == 6
    for preset in official:
        assert (preset.hub_id is None) == (preset.download_bytes is None) == bool(preset.source)
        assert preset.weights_licence
        assert preset.num_parameters * 2 < preset.memory_bytes < 100 * 2**30
        defaults = GenerationDefaults.from_config(preset.defaults)
        assert defaults.fps_range is None
        assert f"{defaults.width}x{defaults.height}" in preset.description
        assert (defaults.num_frames, defaults.num_inference_steps, defaults.guidance_scale) == (16, 50, 12.0)
        assert defaults.eta == 1.0


def test_what_the_official_configs_say():
    scales = {name: preset.signal_scale for name, preset in PRESETS.items()}
    unscaled = dict.fromkeys(("tiny-t2v", "tiny-t2v-fast", "tiny-i2v", "t2v-512", "t2v-256"))
    assert scales == {**unscaled, "t2v-1024": 0.3, "t2v-512-early": 0.7, "i2v-512": 0.7, "vc2-t2v-512": 0.7}
    assert [name for name, preset in PRESETS.items() if not preset.has_fps_condition] == ["t2v-512"]


def test_presets_are_frozen_and_named_by_their_key():
    assert all(preset.name == key for key, preset in PRESETS.items())
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["tiny-t2v"].name = "other"

import dataclasses

import pytest

from videocrafter import presets
from videocrafter.presets import PRESETS, resolve_model


@pytest.fixture
def assets(tmp_path, monkeypatch):
    """An installation with tiny-t2v and without tiny-i2v."""
    (tmp_path / "tiny-t2v").mkdir()
    (tmp_path / "tiny-t2v" / "model_index.json").write_text("{}")
    monkeypatch.setattr(presets, "_ASSETS", tmp_path)
    return tmp_path


def test_family_is_resolved_by_task(assets):
    assert resolve_model("tiny", "t2v") == assets / "tiny-t2v"
    assert resolve_model("tiny-t2v", "t2v") == assets / "tiny-t2v"
    with pytest.raises(ValueError, match=r"tiny-i2v.*missing from this installation"):
        resolve_model("tiny", "i2v")


def test_folder_with_an_index_is_a_model_and_other_paths_are_not(assets, tmp_path):
    assert resolve_model(assets / "tiny-t2v", "i2v") == assets / "tiny-t2v"
    with pytest.raises(ValueError, match="no pipeline folder"):
        resolve_model(tmp_path, "t2v")
    (tmp_path / "model.ckpt").touch()
    with pytest.raises(ValueError, match="is a file"):
        resolve_model(tmp_path / "model.ckpt", "t2v")


def test_unknown_name_lists_names_and_the_nearest():
    with pytest.raises(ValueError, match=r"unknown model 'tinny'; did you mean 'tiny'\? .*vc2-t2v-512"):
        resolve_model("tinny", "t2v")


@pytest.mark.parametrize(
    ("name", "task"), [("t2v-512", "t2v"), ("t2v-1024", "t2v"), ("i2v-512", "i2v"), ("vc2-t2v-512", "t2v")]
)
def test_official_models_say_in_one_line_what_they_need(name, task):
    assert not PRESETS[name].is_installed
    with pytest.raises(ValueError, match=f"{name}.*not in this release") as caught:
        resolve_model(name, task)
    assert PRESETS[name].hub_id in str(caught.value)
    assert "\n" not in str(caught.value)


def test_preset_of_the_other_task_is_refused():
    with pytest.raises(ValueError, match="needs an image"):
        resolve_model("tiny-i2v", "t2v")
    with pytest.raises(ValueError, match="takes no image"):
        resolve_model("tiny-t2v", "i2v")


def test_presets_are_frozen_and_named_by_their_key():
    assert all(preset.name == key for key, preset in PRESETS.items())
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["tiny-t2v"].name = "other"

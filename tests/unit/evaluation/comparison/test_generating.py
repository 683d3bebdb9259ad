import json

import numpy as np
import pytest

from tests.tiny_models import save_tiny_pipeline
from videocrafter.evaluation.comparison.generating import ModelColumn, generate_column, parse_setting, stage_folders
from videocrafter.evaluation.prompt_list import PromptItem
from videocrafter.evaluation.video_set import read_video_set
from videocrafter.generation.errors import GenerationError
from videocrafter.media.image_file import write_image
from videocrafter.media.video_file import read_metadata

ITEMS = (PromptItem(prompt="a cat"), PromptItem(prompt="a dog", seed=7))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("model") / "m", image=False)


def test_prompts_get_equal_seeds_and_finished_videos_are_kept(model, tmp_path):
    column = ModelColumn(
        model=str(model), settings=dict([parse_setting("steps=2"), parse_setting("scheduler=euler")])
    )
    seen = []
    generate_column(column, ITEMS, tmp_path / "c", seed=3, device="cpu", on_progress=lambda *one: seen.append(one))
    assert seen == [(0, 2), (1, 2), (2, 2)]
    paths = [tmp_path / "c" / "0000-3.mp4", tmp_path / "c" / "0001-7.mp4"]
    recorded = [read_metadata(path) for path in paths]
    assert [(one["prompt"], one["seed"], one["num_inference_steps"], one["scheduler"]) for one in recorded] == [
        ("a cat", 3, 2, "euler"),
        ("a dog", 7, 2, "euler"),
    ]
    first = paths[1].read_bytes()
    paths[0].unlink()
    paths[0].with_name("0000-3.mp4.json").unlink()
    time = paths[1].stat().st_mtime_ns
    generate_column(column, ITEMS, tmp_path / "c", seed=3, device="cpu")
    assert paths[0].is_file()
    assert (paths[1].read_bytes(), paths[1].stat().st_mtime_ns) == (first, time)
    with pytest.raises(ValueError, match="another model or other settings"):
        generate_column(ModelColumn(model=str(model)), ITEMS, tmp_path / "c", seed=3, device="cpu")
    other = (PromptItem(prompt="a bird"), ITEMS[1])
    with pytest.raises(ValueError, match=r"0000-3\.mp4 was generated with another prompt"):
        generate_column(column, other, tmp_path / "c", seed=3, device="cpu")


def test_input_images_are_found_again(tmp_path):
    model = save_tiny_pipeline(tmp_path / "m", image=True)
    write_image(tmp_path / "input.png", np.full((32, 32, 3), 99, np.uint8))
    items = [PromptItem(prompt="a cat", image=tmp_path / "input.png")]
    column = ModelColumn(model=str(model), settings={"num_inference_steps": 1})
    generate_column(column, items, tmp_path / "c", seed=3, device="cpu")
    (entry,) = read_video_set(tmp_path / "c").entries
    assert entry.image is not None
    assert entry.image.samefile(tmp_path / "input.png")
    write_image(tmp_path / "input.png", np.full((32, 32, 3), 98, np.uint8), overwrite=True)
    with pytest.raises(ValueError, match="another image"):
        generate_column(column, items, tmp_path / "c", seed=3, device="cpu")


def test_folders_of_others_and_missing_models_are_refused(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds files that are not of this comparison"):
        generate_column(ModelColumn(model="tiny"), ITEMS, tmp_path, seed=0)
    with pytest.raises(GenerationError, match="no-such-model"):
        generate_column(ModelColumn(model="no-such-model"), ITEMS, tmp_path / "c", seed=0)


def test_settings_are_parsed_strictly():
    assert parse_setting("guidance=7.5") == ("guidance_scale", 7.5)
    assert parse_setting("negative_prompt=blurry") == ("negative_prompt", "blurry")
    for text, word in (
        ("steps", "is not a setting"),
        ("colour=red", "is not a setting"),
        ("width=wide", "whole number"),
    ):
        with pytest.raises(ValueError, match=word):
            parse_setting(text)


def test_stages_come_in_the_order_of_training(tmp_path):
    import os

    for time, name in ((2, "b-first"), (3, "a-second"), (1, "not-a-model")):
        folder = tmp_path / "stages" / name
        folder.mkdir(parents=True)
        path = folder / ("config.json" if name == "not-a-model" else "model_index.json")
        path.write_text(json.dumps({}))
        os.utime(path, (time, time))
    assert list(stage_folders(tmp_path)) == ["b-first", "a-second"]
    with pytest.raises(ValueError, match="has not finished a stage yet"):
        stage_folders(tmp_path / "stages")

import json
import os

import pytest

from videocrafter.evaluation.comparison.columns import parse_setting, stage_folders


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
    for time, name in ((2, "b-first"), (3, "a-second"), (1, "not-a-model")):
        folder = tmp_path / "stages" / name
        folder.mkdir(parents=True)
        path = folder / ("config.json" if name == "not-a-model" else "model_index.json")
        path.write_text(json.dumps({}))
        os.utime(path, (time, time))
    assert list(stage_folders(tmp_path)) == ["b-first", "a-second"]
    with pytest.raises(ValueError, match="has not finished a stage yet"):
        stage_folders(tmp_path / "stages")

import inspect

import pytest

from videocrafter.cli.generate.command import generate
from videocrafter.cli.generate.options import OPTION_OF
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.sampling_settings import (
    IMAGE_SETTING_NAMES,
    SETTING_NAMES,
    SamplingSettings,
    given_settings,
)
from videocrafter.pipelines.settings import GenerationDefaults
from videocrafter.pipelines.text_to_video import TextToVideoPipeline

CHANGED = SamplingSettings(
    guidance_scale=3.0,
    image_guidance_scale=2.0,
    temporal_guidance_scale=0.5,
    guidance_rescale=0.7,
    guidance_interval=(0.1, 0.9),
    guidance_log_snr=(-8.0, 2.5),
    num_inference_steps=4,
    eta=0.5,
    image_scale=0.8,
)


@pytest.mark.parametrize("name", SETTING_NAMES)
def test_every_setting_is_a_keyword_of_the_pipelines_and_an_option(name: str) -> None:
    keyword = inspect.signature(ImageToVideoPipeline.__call__).parameters[name]
    assert (keyword.kind, keyword.default) == (inspect.Parameter.KEYWORD_ONLY, None)
    takes_image = name in IMAGE_SETTING_NAMES
    assert (name in inspect.signature(TextToVideoPipeline.__call__).parameters) != takes_image
    assert inspect.signature(generate).parameters[name].default is None
    assert OPTION_OF[name].startswith("--")


def test_settings_survive_their_json_form() -> None:
    config = CHANGED.to_config()
    assert tuple(config) == SETTING_NAMES
    assert config["guidance_interval"] == [0.1, 0.9]
    assert SamplingSettings(**config) == CHANGED
    assert GenerationDefaults.from_config(config).sampling == CHANGED, "a model may recommend any of them"


def test_changes_keep_the_rest_and_unknown_names_are_refused() -> None:
    changed = CHANGED.with_changes({"guidance_scale": 9.0, "eta": None})
    assert (changed.guidance_scale, changed.eta, changed.image_scale) == (9.0, 0.5, 0.8)
    with pytest.raises(TypeError, match="unknown setting 'guidence_scale'; did you mean 'guidance_scale'"):
        CHANGED.with_changes({"guidence_scale": 9.0})
    assert given_settings({"eta": 0.5, "image_scale": None, "prompt": "a cat"}) == {"eta": 0.5}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps must be at least 1, but is 0"),
        ({"num_inference_steps": 2.5}, "num_inference_steps must be a whole number, but is 2.5"),
        ({"num_inference_steps": True}, "num_inference_steps must be a number"),
        ({"eta": 7}, "eta must be between 0 and 1, but is 7"),
        ({"image_scale": -1.0}, "image_scale must be at least 0, but is -1"),
        ({"guidance_scale": -1.0}, "guidance_scale must be at least 0, but is -1"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SamplingSettings(**wrong)


@pytest.mark.parametrize("name", IMAGE_SETTING_NAMES)
def test_image_settings_need_a_model_with_image_branch(t2v: TextToVideoPipeline, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} needs an image-to-video model"):
        t2v.check_inputs("a cat", **{name: 0.5})


def test_a_misspelt_setting_is_an_error_that_names_it(t2v: TextToVideoPipeline) -> None:
    with pytest.raises(TypeError, match="unknown setting 'guidence_scale'"):
        t2v.check_inputs("a cat", guidence_scale=3.0)

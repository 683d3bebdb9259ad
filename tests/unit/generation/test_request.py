from pathlib import Path
from typing import Any

import pytest

from videocrafter.generation.request import GenerateOptions, PromptRow, check_options, with_preset


def options(**changes: Any) -> GenerateOptions:
    return GenerateOptions(output=Path("video.mp4"), rows=(PromptRow(prompt="a cat"),), **changes)


def test_a_preset_gives_what_was_not_given() -> None:
    fast = with_preset(options(preset="fast"), None)
    assert fast.scheduler == "dpm++2m"
    assert fast.sampling == {"num_inference_steps": 12}
    own = with_preset(
        options(preset="fast", scheduler="unipc", sampling={"num_inference_steps": 9, "eta": 0.5}), None
    )
    assert own.scheduler == "unipc"
    assert own.sampling == {"num_inference_steps": 9, "eta": 0.5}


def test_a_preset_may_take_another_model() -> None:
    student = {"presets": {"quality": {"model": "teacher", "num_inference_steps": 25}}}
    taken = with_preset(options(preset="quality", model="student"), student)
    assert (taken.model, taken.sampling) == ("teacher", {"num_inference_steps": 25})
    assert with_preset(options(preset="fast", model="student"), student).model == "student"


def test_no_preset_and_quality_change_nothing() -> None:
    assert with_preset(options(), None) == options()
    assert with_preset(options(preset="quality"), {"presets": {}}) == options(preset="quality")


def test_a_preset_that_does_not_exist_is_refused_before_a_model_is_loaded() -> None:
    with pytest.raises(ValueError, match="unknown preset 'rapid'"):
        check_options(options(preset="rapid"))

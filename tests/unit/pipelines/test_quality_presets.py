from typing import Any

import pytest

from videocrafter.pipelines.quality_presets import PRESETS, preset_settings, quickest_preset
from videocrafter.pipelines.settings import GenerationDefaults


def test_a_model_without_presets_has_the_general_ones() -> None:
    assert preset_settings("quality", None) == {}, "the model's own settings"
    assert preset_settings("fast", {}) == PRESETS["fast"]
    assert PRESETS["draft"]["num_inference_steps"] < PRESETS["fast"]["num_inference_steps"]


def test_a_models_own_presets_come_first() -> None:
    stored = {"fast": {"num_inference_steps": 8, "guidance_interval": [0.0, 0.5]}}
    defaults = GenerationDefaults.from_config({"presets": stored}).to_config()
    assert preset_settings("fast", defaults) == stored["fast"]
    assert preset_settings("draft", defaults) == PRESETS["draft"]


def test_a_student_keeps_its_own_steps_in_every_preset() -> None:
    defaults = GenerationDefaults(step_counts=(4,), num_inference_steps=4, guidance_scale=1.0).to_config()
    assert [preset_settings(name, defaults) for name in PRESETS] == [{}, {}, {}]
    assert GenerationDefaults.from_config(defaults).step_counts == (4,)


@pytest.mark.parametrize(
    ("defaults", "message"),
    [
        ({"presets": {"rapid": {}}}, r"\['rapid'\]; allowed are quality, fast, draft"),
        ({"presets": {"fast": {"seed": 1}}}, r"the preset 'fast' .* sets \['seed'\]"),
        ({"presets": {"fast": {"num_inference_steps": 0}}}, "num_inference_steps"),
        ({"presets": {"fast": {"scheduler": 7}}}, "the scheduler 7, not a name"),
        ({"presets": {"quality": {"model": ["a"]}}}, r"the model \['a'\], not a name"),
        ({"presets": {"quality": {"model": "a"}}}, "takes another model; it must also give num_inference_steps"),
        ({"presets": "fast"}, "expected settings by preset"),
        ({"step_counts": []}, "step_counts"),
        ({"step_counts": [0]}, "step_counts"),
        ({"step_counts": 4}, "step_counts"),
    ],
)
def test_damaged_defaults_are_refused(defaults: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GenerationDefaults.from_config(defaults)


def test_an_unknown_preset_names_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"unknown preset 'quallity'\. Did you mean quality"):
        preset_settings("quallity", None)


@pytest.mark.parametrize(
    ("own_steps", "expected"), [(25, ("draft", 6)), (6, ("quality", 6)), (4, ("quality", 4)), (None, ("draft", 6))]
)
def test_the_quickest_preset_of_a_model(own_steps: int | None, expected: tuple[str, int]) -> None:
    assert quickest_preset({"num_inference_steps": own_steps}) == expected
    assert quickest_preset({"presets": {"fast": {"num_inference_steps": 2}}}) == ("fast", 2)


@pytest.mark.parametrize(("own_steps", "taken"), [(25, True), (12, False), (4, False), (None, True)])
def test_a_model_of_few_steps_keeps_its_own_sampler(own_steps: int | None, taken: bool) -> None:
    assert ("scheduler" in preset_settings("fast", {"num_inference_steps": own_steps})) == taken

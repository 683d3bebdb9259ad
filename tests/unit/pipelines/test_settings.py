import pytest

from videocrafter.pipelines.settings import GenerationDefaults, check_size, per_video


def test_defaults_survive_their_configuration():
    defaults = GenerationDefaults(num_frames=8, fps_range=(4.0, 24.0), scheduler="ddim")
    assert GenerationDefaults.from_config(defaults.to_config()) == defaults
    assert defaults.longest == 32
    assert GenerationDefaults(num_frames=8, max_num_frames=8).longest == 8


@pytest.mark.parametrize(("value", "nearest"), [(63, "56 and 64 are"), (1, "8 is"), (0, "8 is"), (-3, "8 is")])
def test_size_error_names_value_multiple_and_nearest(value, nearest):
    with pytest.raises(ValueError, match=f"multiple of 8, but is {value}; {nearest} the nearest"):
        check_size("height", value, 8)


def test_size_that_fits_passes():
    check_size("height", 64, 8)


def test_values_are_spread_prompt_by_prompt():
    assert per_video(3, "fps", 2, 2, int) == [3, 3, 3, 3]
    assert per_video([3, 4], "fps", 2, 2, int) == [3, 3, 4, 4]
    with pytest.raises(ValueError, match="3 values for 2 prompts"):
        per_video([1, 2, 3], "fps", 2, 1, int)
    with pytest.raises(ValueError, match="fps must be"):
        per_video("fast", "fps", 2, 1, int)

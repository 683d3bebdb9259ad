from fractions import Fraction

import numpy as np
import pytest
import torch

from videocrafter.pipelines.plain_numbers import listed, plain_number, plain_numbers, whole_number


@pytest.mark.parametrize(
    "value",
    [8, 8.0, np.int64(8), np.uint8(8), np.float32(8), np.array(8), np.array(8.0), torch.tensor(8), Fraction(8), "8"],
)
def test_numbers_of_every_library_are_numbers(value):
    number, whole = plain_number("fps", value), whole_number("seeds", value)
    assert (number, whole) == (8, 8)
    assert type(number) in (int, float)
    assert type(whole) is int


@pytest.mark.parametrize("value", ["eight", "", True, np.bool_(True), None, 8j, [8], np.array([8]), b"8", {}])
def test_everything_else_is_refused_by_name(value):
    with pytest.raises(ValueError, match=r"^eta must be a number, but is "):
        plain_number("eta", value)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "nan"])
def test_what_cannot_be_rounded_is_refused(value):
    with pytest.raises(ValueError, match=r"^seeds must be a whole number, but is "):
        whole_number("seeds", value)


@pytest.mark.parametrize("value", [2.4, np.float64(2.4), "2.4"])
def test_a_fraction_is_rounded_with_a_warning(value):
    with pytest.warns(UserWarning, match=r"^num_inference_steps must be a whole number, but is .*; 2 is used$"):
        assert whole_number("num_inference_steps", value) == 2


def test_columns_and_arrays_are_lists():
    assert listed(np.array([1, 2])) == [1, 2]
    assert listed((1, 2)) == [1, 2]
    assert listed("ab") == "ab"
    assert listed(None) is None
    assert plain_numbers("fps", torch.tensor([4.0, 8.0])) == [4.0, 8.0]
    assert plain_numbers("fps", np.float32(4)) == 4.0


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": np.int64(1)},
        {"seeds": np.array([1])},
        {"fps": np.float32(8)},
        {"fps": np.array([8.0])},
        {"num_frames": 4.0},
        {"height": np.array(16), "width": np.int32(16)},
        {"num_inference_steps": np.int16(3), "guidance_scale": np.float16(4)},
        {"num_videos_per_prompt": np.uint8(1)},
        {"fps": "8", "height": "16", "guidance_scale": "7"},
        {"guidance_interval": np.array([0, 1])},
    ],
)
def test_every_argument_takes_them(t2v, change):
    assert t2v.check_inputs("a cat", **{"seeds": 1, **change}).seeds == (1,)


@pytest.mark.parametrize(
    "change",
    [
        {"seeds": "one"},
        {"seeds": [float("nan")]},
        {"fps": "fast"},
        {"num_frames": b"4"},
        {"height": "64px"},
        {"width": True},
        {"num_inference_steps": float("inf")},
        {"num_videos_per_prompt": [2]},
        {"guidance_scale": "high"},
        {"guidance_rescale": [0.5]},
        {"eta": True},
        {"image_scale": {}},
        {"guidance_interval": 0.5},
    ],
)
def test_every_argument_names_itself_in_errors(t2v, change):
    with pytest.raises(ValueError, match=f"^{next(iter(change))} must be"):
        t2v.check_inputs("a cat", **change)

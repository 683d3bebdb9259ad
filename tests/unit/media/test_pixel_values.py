import numpy as np
import pytest

from videocrafter.media.pixel_values import as_bytes

BYTES = np.arange(256, dtype=np.uint8).repeat(3).reshape(2, 8, 16, 3)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_floats_and_bytes_of_the_same_pixels_are_equal(dtype):
    np.testing.assert_array_equal(as_bytes((BYTES / 255).astype(dtype), "pixels"), BYTES)
    assert as_bytes(BYTES, "pixels") is BYTES


def test_rounding_beyond_the_range_is_allowed():
    np.testing.assert_array_equal(as_bytes(np.array([-1e-4, 1.0001]), "pixels"), [0, 255])


@pytest.mark.parametrize(
    ("pixels", "message"),
    [
        (np.array([-1.0, 1.0]), r"frames have values from -1 to 1; .*pass \(pixels \+ 1\) / 2"),
        (np.array([0.0, 255.0]), r"from 0 to 255; .*divided by 255"),
        (np.array([0.0, np.nan]), "NaN"),
        (np.array([0, 1]), "frames are int64; expected uint8, or floats from 0 to 1"),
        (np.stack([BYTES[1] / 255, BYTES[1] / 200]), "divided by 255"),
    ],
)
def test_other_values_are_refused_with_what_to_do(pixels, message):
    with pytest.raises(ValueError, match=message):
        as_bytes(pixels, "frames")

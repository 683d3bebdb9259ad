"""Samples fill the frame, have the shape nearest to their clip's, and depend only on their seed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.stub_clips import StubClip
from videocrafter.data.clip_sampling import ClipSampling
from videocrafter.data.cutting import CuttingConfig, cut_clip
from videocrafter.data.errors import BadSampleError

SHORT = ClipSampling(lengths=(4,))


def config(**changes) -> CuttingConfig:
    return CuttingConfig(**{"sampling": SHORT, "height": 16, "width": 16, **changes})


@given(
    height=st.integers(8, 90),
    width=st.integers(8, 90),
    crop=st.sampled_from(["center", "random"]),
    seed=st.integers(0, 99),
)
def test_no_bars_whatever_the_shape(height: int, width: int, crop: str, seed: int) -> None:
    clip = StubClip(number=200, size=(height, width))
    cut = cut_clip(clip, "video", seed, config(height=16, width=24, crop=crop))
    assert cut.pixels.shape == (4, 16, 24, 3)
    assert (cut.pixels[..., 0] == 200).all()
    assert cut.caption == "clip 200"


def test_a_cut_follows_from_its_seed() -> None:
    cuts = [cut_clip(StubClip(number=1), "video", seed, config(crop="random")) for seed in (5, 5, 6)]
    assert (cuts[0].pixels == cuts[1].pixels).all()
    assert cuts[0].fps == cuts[1].fps
    assert (cuts[0].pixels[..., 1] != cuts[2].pixels[..., 1]).any() or cuts[0].fps != cuts[2].fps


@pytest.mark.parametrize(
    ("size", "expected"),
    [((360, 640), (192, 320)), ((640, 360), (320, 192)), ((480, 480), (256, 256)), ((100, 700), (192, 320))],
)
def test_the_nearest_shape_is_taken(size: tuple[int, int], expected: tuple[int, int]) -> None:
    rules = config(height=256, width=256, max_aspect=2.0)
    assert rules.sizes == ((192, 320), (256, 256), (320, 192))
    assert cut_clip(StubClip(number=0, size=size), "image", 0, rules).pixels.shape[1:3] == expected


@given(height=st.integers(1, 8), width=st.integers(1, 8), step=st.sampled_from([8, 64]), slack=st.floats(1, 3))
def test_sizes_of_a_set_are_multiples_of_a_step_and_of_about_one_area(
    height: int, width: int, step: int, slack: float
) -> None:
    aspect = max(height, width) / min(height, width)
    most = min(8.0, aspect * slack)
    if most < aspect:
        return
    sizes = config(height=height * step, width=width * step, max_aspect=most, size_step=step).sizes
    assert (height * step, width * step) in sizes
    for high, wide in sizes:
        assert high % step == wide % step == 0
        assert max(high, wide) <= most * min(high, wide)
        assert (wide, high) in sizes or (high, wide) == (height * step, width * step)


def test_flips_happen_only_if_asked_for() -> None:
    def bright_sides(**changes: object) -> set[bool]:
        cuts = [cut_clip(StubClip(number=0), "video", seed, config(**changes)) for seed in range(20)]
        return {bool(cut.pixels[0, 0, 0, 2] == 255) for cut in cuts}

    assert bright_sides() == {True}
    assert bright_sides(flip=True) == {True, False}


def test_a_clip_that_would_be_enlarged_too_much_is_skipped() -> None:
    with pytest.raises(BadSampleError, match="16x12 pixels are too few for 64x64") as caught:
        cut_clip(StubClip(number=0), "video", 0, config(height=64, width=64, max_enlargement=2.0))
    assert caught.value.reason == "too_small"


def test_an_unexpected_error_is_a_bad_sample_with_its_message() -> None:
    with pytest.raises(BadSampleError, match="clip 3: ZeroDivisionError: nobody thought of this") as caught:
        cut_clip(StubClip(number=3, does="unforeseen"), "video", 0, config())
    assert caught.value.reason == "unexpected"


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"height": 0}, "expected 1 or more"),
        ({"crop": "left"}, "'center' or 'random'"),
        ({"max_aspect": 0.5}, r"max_aspect is 0\.5, expected none, or 1"),
        ({"height": 40, "width": 40, "max_aspect": 2.0}, "expected multiples of size_step, 64"),
        ({"max_enlargement": 0.0}, "above 0"),
    ],
)
def test_wrong_rules_are_refused_when_they_are_made(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CuttingConfig(**wrong)  # type: ignore[arg-type]

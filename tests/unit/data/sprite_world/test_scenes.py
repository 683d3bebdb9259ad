"""Scenes differ from each other and are the same at every resolution."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from videocrafter.data.sprite_world.scenes import NUM_VARIANTS, PLAIN_SCENES, SCENES, draw_scene

ALL_SCENES = SCENES + PLAIN_SCENES


@pytest.mark.parametrize("name", ALL_SCENES)
def test_pictures_are_in_range_and_repeatable(name: str) -> None:
    picture = draw_scene(name, 3, 24, 40)
    assert picture.shape == (24, 40, 3)
    assert picture.dtype == np.float32
    assert 0 <= picture.min() <= picture.max() <= 1
    np.testing.assert_array_equal(picture, draw_scene(name, 3, 24, 40))


@pytest.mark.parametrize("name", ALL_SCENES)
def test_variants_differ(name: str) -> None:
    pictures = {draw_scene(name, variant, 16, 16).tobytes() for variant in range(NUM_VARIANTS)}
    assert len(pictures) == NUM_VARIANTS


@pytest.mark.parametrize("name", SCENES)
def test_small_pictures_are_large_ones_scaled_down(name: str) -> None:
    large = draw_scene(name, 1, 64, 64).reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    small = draw_scene(name, 1, 32, 32)
    assert np.abs(large - small).mean() < 0.01


def mean_colour(name: str) -> np.ndarray:
    picture: np.ndarray = np.mean([draw_scene(name, variant, 8, 8) for variant in range(4)], axis=0)
    return picture


@pytest.mark.parametrize("names", [SCENES, PLAIN_SCENES], ids=["drawn", "plain"])
def test_scenes_differ_even_at_8_pixels(names: tuple[str, ...]) -> None:
    pictures = {name: mean_colour(name) for name in names}
    for first, second in itertools.combinations(names, 2):
        assert np.abs(pictures[first] - pictures[second]).mean() > 0.05, (first, second)


def test_an_unknown_scene_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"'the moon'.*blue sky.*red background"):
        draw_scene("the moon", 0, 8, 8)

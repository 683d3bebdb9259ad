"""Sprites have the right position, size and angle, and antialiased edges."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from videocrafter.data.sprite_world.captions import SUBJECTS
from videocrafter.data.sprite_world.renderer import SpriteRenderer, blob_of, load_sprite
from videocrafter.data.sprite_world.scenes import NUM_VARIANTS


def alpha_of(
    subject: str,
    *,
    center: tuple[float, float],
    diameter: float,
    angle: float = 0.0,
    height: int = 64,
    width: int = 64,
) -> torch.Tensor:
    """Return the sprite's coverage [H, W], computed from renderings over black and over white."""
    renderer = SpriteRenderer(
        height=height, width=width, subjects=(subject,), scenes=("black background", "white background")
    )
    over = renderer.render(
        np.array([0, 0]),
        np.array([0, NUM_VARIANTS]),
        centers=np.array([center, center]),
        diameters=np.array([diameter] * 2),
        angles=np.array([angle] * 2),
    )
    black, white = renderer.background(0), renderer.background(NUM_VARIANTS)
    coverage: torch.Tensor = 1 - ((over[1] - over[0]) / (white - black)).mean(0)
    return coverage


def centroid(coverage: torch.Tensor) -> np.ndarray:
    """Return the centre of the coverage's bounding box, in half-widths of the frame."""
    height, width = coverage.shape
    rows = torch.nonzero(coverage.amax(1) > 0.5)[[0, -1], 0].float().mean() + 0.5
    columns = torch.nonzero(coverage.amax(0) > 0.5)[[0, -1], 0].float().mean() + 0.5
    return np.array([(2 * columns - width) / width, (2 * rows - height) / width])


@pytest.mark.parametrize("subject", SUBJECTS)
def test_packaged_sprites_fill_their_square(subject: str) -> None:
    sprite = load_sprite(subject)
    assert sprite.shape == (4, 96, 96)
    covered = sprite[3] > 0.5
    extent = max(int(covered.any(0).sum()), int(covered.any(1).sum()))
    assert 84 <= extent <= 92
    assert (sprite[:3] <= sprite[3:] + 1e-6).all()  # premultiplied
    assert sprite[3, 0].max() == sprite[3, :, 0].max() == 0  # the margin


@pytest.mark.parametrize("size", [(64, 64), (32, 32), (48, 96), (96, 48)])
def test_center_and_size(size: tuple[int, int]) -> None:
    height, width = size
    coverage = alpha_of("ghost", center=(0.2, -0.1), diameter=0.42, height=height, width=width)
    np.testing.assert_allclose(centroid(coverage), [0.2, -0.1], atol=2.0 / width)
    extent = max(int((coverage.amax(0) > 0.5).sum()), int((coverage.amax(1) > 0.5).sum()))
    assert abs(extent - 0.42 * width) <= 2


def test_positions_are_finer_than_pixels() -> None:
    still = alpha_of("ghost", center=(0.0, 0.0), diameter=0.4)
    moved = alpha_of("ghost", center=(0.01, 0.0), diameter=0.4)  # a third of a pixel
    mass = (torch.arange(64) * (moved.sum(0) / moved.sum() - still.sum(0) / still.sum())).sum()
    assert mass.item() == pytest.approx(0.32, abs=0.05)


def test_turning_is_clockwise() -> None:
    upright = alpha_of("carrot", center=(0.0, 0.0), diameter=0.6)
    quarter = alpha_of("carrot", center=(0.0, 0.0), diameter=0.6, angle=np.pi / 2)
    assert (quarter - torch.rot90(upright, -1)).abs().mean() < 0.01
    assert (quarter - upright).abs().mean() > 0.05


def test_edges_are_soft_at_every_size() -> None:
    for diameter in (0.12, 0.42, 0.95):
        coverage = alpha_of("star", center=(0.013, 0.007), diameter=diameter)
        partial = ((coverage > 0.05) & (coverage < 0.95)).float().sum() / (coverage > 0.05).float().sum()
        assert partial > 0.03
        assert coverage.max() > 0.95


def test_small_sprites_keep_their_average_colour() -> None:
    """Sparse sampling of a large image would flicker; the pyramid preserves the sprite's mean."""
    large = alpha_of("butterfly", center=(0.0, 0.0), diameter=0.9).sum() / 0.9**2
    small = alpha_of("butterfly", center=(0.0, 0.0), diameter=0.15).sum() / 0.15**2
    assert small.item() == pytest.approx(large.item(), rel=0.05)


def test_a_sprite_outside_the_frame_leaves_the_scene_alone() -> None:
    assert alpha_of("cat", center=(3.0, 0.0), diameter=0.4).abs().max() < 1e-5


def test_sprites_look_different_at_26_pixels() -> None:
    small = torch.stack(
        [torch.nn.functional.interpolate(load_sprite(name)[None], size=(26, 26), mode="area")[0] for name in SUBJECTS]
    ).flatten(1)
    distances = torch.cdist(small, small) + torch.eye(len(SUBJECTS)) * 1e3
    assert distances.min() > 8


@pytest.mark.parametrize("subject", SUBJECTS)
def test_spinning_is_visible(subject: str) -> None:
    sprite = load_sprite(subject)
    for turns in (1, 2):
        assert (sprite - torch.rot90(sprite, turns, (1, 2))).abs().mean() > 0.03


def test_an_unknown_subject_names_the_known() -> None:
    with pytest.raises(ValueError, match=r"'unicorn'.*apple"):
        load_sprite("unicorn")


def test_a_blob_has_the_mean_colour_and_the_area_of_its_sprite() -> None:
    sprite = load_sprite("ladybug")
    blob = blob_of(sprite)
    assert blob.shape == sprite.shape
    torch.testing.assert_close(blob[3].sum(), sprite[3].sum(), rtol=0.01, atol=0.0)
    mean = sprite[:3].sum(dim=(1, 2)) / sprite[3].sum()
    inside = blob[:3, blob[3] == 1.0]
    torch.testing.assert_close(inside, mean[:, None].expand_as(inside))
    assert float(blob[3, 0, 0]) == 0.0

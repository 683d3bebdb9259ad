import math

import pytest
import torch

from videocrafter.evaluation.exam.measures import (
    confusions,
    cosine_distance,
    moving_centers,
    pairwise_distance,
    rmse,
    share,
    shares_by,
    ssim,
    velocity,
)


def test_share() -> None:
    result = share([True, True, True, False])
    assert (result.value, result.count) == (0.75, 4)
    assert math.isnan(share([]).value)


def test_shares_by_group() -> None:
    result = shares_by(["b", "a", "b"], [True, False, False])
    assert list(result) == ["b", "a"]
    assert (result["b"].value, result["b"].count, result["a"].value) == (0.5, 2, 0.0)
    with pytest.raises(ValueError, match="groups has 2 entries and successes 1"):
        shares_by(["a", "b"], [True])


def test_confusions_most_frequent_first_and_only_mistakes() -> None:
    asked = ["left", "up", "left", "up", "down"]
    seen = ["right", "up", "right", "down", "up"]
    assert confusions(asked, seen) == [("left", "right", 2), ("down", "up", 1), ("up", "down", 1)]


def test_velocity_of_straight_paths_is_exact_and_robust_to_one_bad_frame() -> None:
    time = torch.arange(8.0)[None, :, None]
    path = torch.tensor([[[0.1, -0.05]]]) * time + 0.3
    torch.testing.assert_close(velocity(path), torch.tensor([[0.1, -0.05]]))
    path[0, 3] += 0.1
    torch.testing.assert_close(velocity(path), torch.tensor([[0.1, -0.05]]), atol=0.002, rtol=0.0)
    with pytest.raises(ValueError, match="at least 2"):
        velocity(path[:, :1])


def test_moving_centers_find_a_moving_square() -> None:
    video = torch.linspace(-0.5, 0.5, 32).expand(1, 6, 3, 32, 32).clone()
    for frame in range(6):
        video[0, frame, :, 10:14, 4 * frame + 2 : 4 * frame + 6] = 1.0
    centers = moving_centers(video)[0]
    expected_x = torch.tensor([(4 * frame + 4) / 16 - 1 for frame in range(6)])
    torch.testing.assert_close(centers[:, 0], expected_x, atol=0.03, rtol=0.0)
    torch.testing.assert_close(centers[:, 1], torch.full((6,), 12 / 16 - 1), atol=0.03, rtol=0.0)
    assert float(moving_centers(torch.zeros(1, 4, 3, 8, 8)).abs().max()) == 0.0


def test_rmse_of_a_known_difference() -> None:
    black, white = -torch.ones(1, 3, 4, 4), torch.ones(1, 3, 4, 4)
    assert float(rmse(black, white)) == pytest.approx(2.0)
    assert float(rmse(black, black)) == 0.0


def test_ssim_is_one_for_equal_images_and_falls_with_noise() -> None:
    image = torch.rand(2, 3, 32, 32) * 2 - 1
    torch.testing.assert_close(ssim(image, image), torch.ones(2))
    noise = torch.randn(2, 3, 32, 32)
    little, much = ssim(image, image + 0.1 * noise), ssim(image, image + 0.8 * noise)
    assert (little > much).all()
    assert (much < 0.8).all()
    with pytest.raises(ValueError, match="11x11"):
        ssim(image[..., :8, :8], image[..., :8, :8])


def test_ssim_of_flat_images_is_the_formulas_brightness_term() -> None:
    grey, light = torch.full((1, 1, 16, 16), 0.0), torch.full((1, 1, 16, 16), 0.5)
    expected = (2 * 1.0 * 1.5 + 0.0004) / (1.0 + 2.25 + 0.0004)
    assert float(ssim(grey, light)) == pytest.approx(expected, rel=1e-4)


def test_pairwise_distance_is_the_mean_over_pairs() -> None:
    videos = torch.stack([torch.zeros(2, 3), torch.zeros(2, 3), torch.ones(2, 3)])
    assert pairwise_distance(videos) == pytest.approx(2 / 3)
    assert pairwise_distance(videos[:2]) == 0.0
    assert math.isnan(pairwise_distance(videos[:1]))


def test_cosine_distance() -> None:
    x = torch.tensor([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]])
    y = torch.tensor([[3.0, 0.0], [0.0, 2.0], [-1.0, 0.0]])
    torch.testing.assert_close(cosine_distance(x, y), torch.tensor([0.0, 1.0, 2.0]))

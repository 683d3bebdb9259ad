import math

import pytest
import torch

from videocrafter.diffusion.few_steps import few_step_times
from videocrafter.diffusion.schedule import alphas_cumprod, cosine_betas_shifted, linear_betas
from videocrafter.training.video.segments import (
    CLEAN,
    HUBER_SHARE,
    ddim_step,
    levels_with_clean,
    pseudo_huber,
    segment_grid,
    stratified,
)

MINIATURE = alphas_cumprod(cosine_betas_shifted(1000, 36))
PAPER = alphas_cumprod(linear_betas())


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("abar", [MINIATURE, PAPER])
def test_the_grid_covers_all_segments_and_knows_their_ends(abar: torch.Tensor) -> None:
    starts = few_step_times(abar)
    grid = segment_grid(abar, starts, 50)
    times = grid.times.tolist()
    assert 48 <= len(grid) <= 54
    assert times == sorted(set(times), reverse=True)
    assert set(starts) <= set(times)
    assert grid.nexts.tolist() == [*times[1:], CLEAN]
    for place, time in enumerate(times):
        segment = max(index for index, start in enumerate(starts) if time <= start)
        assert grid.segments[place] == segment
        assert grid.ends[place] == [*starts[1:], CLEAN][segment]
    counts = torch.bincount(grid.segments)
    assert counts.min() >= 8, "no segment is a few points"
    snr = torch.log(abar / (1 - abar))[grid.times[1:]]
    assert float(snr.diff().max()) < 0.5, "neighbours are close"


def test_a_grid_has_a_point_for_each_segment() -> None:
    with pytest.raises(ValueError, match="grid_size is 3; it must be at least 4"):
        segment_grid(MINIATURE, few_step_times(MINIATURE), 3)


def test_points_are_drawn_within_their_segment() -> None:
    grid = segment_grid(MINIATURE, (999, 100, 99), 20)
    segments = torch.tensor([0, 1, 2] * 200)
    times = grid.draw_within(segments, seeded())
    first, second, third = (set(times[segments == one].tolist()) for one in range(3))
    assert second == {100}, "it has one point"
    inside = set(grid.times[grid.segments == 0].tolist()) - {999}
    assert first == inside, "every point but the first"
    assert third == set(grid.times[grid.segments == 2].tolist()) - {99}


def test_draws_are_spread_evenly() -> None:
    assert sorted(stratified(4, 4, seeded()).tolist()) == [0, 1, 2, 3]
    counts = torch.bincount(stratified(4, 40, seeded(1)))
    assert counts.tolist() == [10, 10, 10, 10]
    assert len({tuple(stratified(4, 4, seeded(seed)).tolist()) for seed in range(5)}) > 1
    assert {int(stratified(4, 1, seeded(seed))) for seed in range(40)} == {0, 1, 2, 3}


def test_the_levels_end_in_the_clean_latent() -> None:
    levels = levels_with_clean(MINIATURE)
    assert levels.shape == (1001,)
    assert levels[CLEAN] == 1.0
    assert levels[999] == 0.0


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
def test_a_step_is_ddims_by_hand(kind: str) -> None:
    """Levels 0.64 and 0.36: signal 0.8 and 0.6, noise 0.6 and 0.8. From clean 2 and noise 1 to the other level."""
    noisy = torch.full((1, 1), 0.8 * 2 + 0.6 * 1)
    prediction = torch.full((1, 1), 1.0 if kind == "epsilon" else 0.8 * 1 - 0.6 * 2)
    moved = ddim_step(prediction, noisy, torch.tensor([0.64]), torch.tensor([0.36]), kind)  # type: ignore[arg-type]
    assert float(moved) == pytest.approx(0.6 * 2 + 0.8 * 1)
    clean = ddim_step(prediction, noisy, torch.tensor([0.64]), torch.tensor([1.0]), kind)  # type: ignore[arg-type]
    assert float(clean) == pytest.approx(2.0)


@pytest.mark.parametrize("level", [0.0, 1e-6, 0.3, 1.0])
def test_the_end_of_a_segment_is_a_fixed_point(level: float) -> None:
    """Whatever the network predicts there."""
    noisy, prediction = torch.randn(2, 3, generator=seeded()), torch.randn(2, 3, generator=seeded(1))
    levels = torch.full((2,), level)
    torch.testing.assert_close(ddim_step(prediction, noisy, levels, levels, "v_prediction"), noisy)


def test_the_distance_is_the_root_of_the_mean_square_but_smooth_at_zero() -> None:
    found, wanted = torch.tensor([[3.0, 4.0], [1.0, 1.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    losses = pseudo_huber(found, wanted)
    assert losses.shape == (2,)
    assert float(losses[0]) == pytest.approx(math.sqrt(12.5 + HUBER_SHARE**2) - HUBER_SHARE)
    assert float(losses[1]) == 0.0
    same = torch.ones(1, 2, requires_grad=True)
    pseudo_huber(same, torch.ones(1, 2)).sum().backward()
    assert torch.equal(same.grad, torch.zeros(1, 2))

import math

import pytest
import torch

from videocrafter.diffusion.objective import add_noise, target
from videocrafter.training.video.trajectory_matching import (
    HUBER,
    SNR_LIMIT,
    fake_score_loss,
    matching_loss,
    noise_further,
    noise_in,
)


def test_noising_in_two_steps_gives_the_distribution_of_one() -> None:
    """From clean 2 to level 0.81, then to 0.25: mean 0.5 · 2, variance 0.75."""
    generator = torch.Generator().manual_seed(0)
    clean, noise, more = torch.full((1, 100_000), 2.0), *torch.randn(2, 1, 100_000, generator=generator)
    first, second = torch.tensor([0.81]), torch.tensor([0.25])
    noisy = noise_further(add_noise(clean, noise, first), more, first, second)
    assert float(noisy.mean()) == pytest.approx(1.0, abs=0.01)
    assert float(noisy.var()) == pytest.approx(0.75, rel=0.02)
    # By hand: the signal shrinks by sqrt(0.25 / 0.81), and 1 - 0.25 / 0.81 of the variance is new.
    one = noise_further(torch.ones(1, 1), torch.ones(1, 1), first, second)
    assert float(one) == pytest.approx(math.sqrt(0.25 / 0.81) + math.sqrt(1 - 0.25 / 0.81))


def test_to_the_same_level_adds_nothing_and_to_pure_noise_leaves_nothing() -> None:
    latents, more = torch.full((2, 3), 7.0), torch.full((2, 3), -1.0)
    level = torch.tensor([0.5, 1.0])
    torch.testing.assert_close(noise_further(latents, more, level, level), latents)
    torch.testing.assert_close(noise_further(latents, more, level, torch.zeros(2)), more)


def test_the_noise_in_noisy_latents_is_recovered() -> None:
    clean, noise, level = torch.full((1, 3), 2.0), torch.tensor([[1.0, -2.0, 0.5]]), torch.tensor([0.3])
    torch.testing.assert_close(noise_in(add_noise(clean, noise, level), clean, level), noise)


def test_the_student_moves_along_the_difference_of_teacher_and_fake() -> None:
    """By hand: difference 0.3, mean distance to the teacher 0.5."""
    predicted = torch.tensor([[1.0, 1.0]], requires_grad=True)
    teachers, fakes = torch.tensor([[1.5, 0.5]]), torch.tensor([[1.2, 0.8]])
    loss = matching_loss(predicted, teachers, fakes)
    assert float(loss.detach()) == pytest.approx((math.sqrt(0.09 + HUBER**2) - HUBER) / 0.5, rel=1e-5)
    loss.sum().backward()
    slope = 0.3 / math.sqrt(0.09 + HUBER**2) / 2 / 0.5
    torch.testing.assert_close(predicted.grad, torch.tensor([[-slope, slope]]))


def test_a_student_whose_distribution_is_the_teachers_is_at_rest() -> None:
    predicted = torch.randn(2, 5, requires_grad=True)
    same = torch.randn(2, 5)
    loss = matching_loss(predicted, same, same)
    assert loss.tolist() == pytest.approx([0.0, 0.0], abs=1e-5)
    loss.sum().backward()
    torch.testing.assert_close(predicted.grad, torch.zeros(2, 5))
    assert torch.isfinite(matching_loss(same, same, same)).all(), "also where student and teacher agree exactly"


@pytest.mark.parametrize("kind", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("level", [0.0, 0.02, 0.5, 0.95])
def test_the_fake_score_learns_the_students_clean_latents(kind: str, level: float) -> None:
    if (kind, level) == ("epsilon", 0.0):
        pytest.skip("the noise does not determine the clean latents there")
    clean, noise, levels = torch.randn(3, 4), torch.randn(3, 4), torch.full((3,), level)
    noisy = add_noise(clean, noise, levels)
    exact = target(clean, noise, levels, kind)  # type: ignore[arg-type]
    zero = fake_score_loss(exact, clean, noisy, levels, kind)  # type: ignore[arg-type]
    assert zero.tolist() == pytest.approx([0.0] * 3, abs=1e-6)
    off = fake_score_loss(exact + 0.2, clean, noisy, levels, kind)  # type: ignore[arg-type]
    snr = level / (1 - level)
    weight = snr + 1 if kind == "v_prediction" else snr
    assert off.tolist() == pytest.approx([0.04 * min(1.0, SNR_LIMIT / max(weight, 1e-9))] * 3, rel=1e-3)

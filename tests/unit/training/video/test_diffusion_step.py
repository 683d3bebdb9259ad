from __future__ import annotations

import pytest
import torch

from videocrafter.training.video.diffusion_step import DiffusionConfig, draw_dropped, draw_timesteps


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("count", [1, 3, 16])
def test_timesteps_cover_all_levels_evenly_in_random_order(count: int) -> None:
    draws = [draw_timesteps(count, 1000, seeded(seed)) for seed in range(200)]
    for draw in draws:
        for index, level in enumerate(draw.sort().values.tolist()):
            assert index * 1000 // count <= level <= (index + 1) * 1000 // count
    assert len({tuple(draw.tolist()) for draw in draws}) > 150
    # Every position in the batch gets all levels equally often: no clip is always a noisy one.
    means = torch.stack(draws).double().mean(dim=0)
    assert bool(((means - 499.5).abs() < 5 * 1000 / (12 * 200) ** 0.5).all()), means


def test_single_timesteps_are_uniform() -> None:
    generator = seeded()
    levels = torch.cat([draw_timesteps(1, 4, generator) for _ in range(2000)])
    shares = torch.bincount(levels, minlength=4) / 2000
    assert shares.tolist() == pytest.approx([0.25] * 4, abs=0.04)


def test_a_power_draws_little_noise_more_often() -> None:
    levels = draw_timesteps(10_000, 1000, seeded(), power=2.0)
    assert float((levels < 250).float().mean()) == pytest.approx(0.5, abs=0.01)


def test_no_level_lies_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "rand", lambda *size, **_: torch.full(size, 1 - 2**-24))
    assert int(draw_timesteps(8, 1000, seeded()).max()) == 999


def test_conditions_are_dropped_as_often_as_told() -> None:
    dropped = draw_dropped(20_000, seeded(), DiffusionConfig(text_dropout=0.1, image_dropout=0.2, both_dropout=0.3))
    text, image = dropped.text, dropped.image
    assert float((text & ~image).float().mean()) == pytest.approx(0.1, abs=0.01)
    assert float((image & ~text).float().mean()) == pytest.approx(0.2, abs=0.01)
    assert float((text & image).float().mean()) == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("share", [0.0, 1.0])
@pytest.mark.parametrize("name", ["text", "image", "both"])
def test_none_and_all(name: str, share: float) -> None:
    shares = {**dict.fromkeys(("text_dropout", "image_dropout", "both_dropout"), 0.0), f"{name}_dropout": share}
    dropped = draw_dropped(1000, seeded(), DiffusionConfig(**shares))  # type: ignore[arg-type]
    assert bool((dropped.text == (share == 1 and name != "image")).all())
    assert bool((dropped.image == (share == 1 and name != "text")).all())

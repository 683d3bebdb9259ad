"""Signal-scaled sampling: the direct formula of the official code against stock schedulers."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, DiffusionPipeline, SchedulerMixin
from torch import Tensor

from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.diffusion.schedule import (
    ChangeOfVariables,
    alphas_cumprod,
    linear_betas,
    signal_scale,
    vp_change_of_variables,
)

ABAR = alphas_cumprod(linear_betas())
SHAPE = (2, 4, 3, 5, 5)


def network(x: Tensor, timestep: int) -> Tensor:
    """A network that is not linear in its input."""
    return torch.tanh(1.3 * x + 0.1) * 0.8 + 0.3 * torch.sin(x.flip(1) + timestep / 300)


def noises(count: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(SHAPE, generator=generator, dtype=torch.float64) for _ in range(count)]


def direct_ddim(scale: float, steps: list[int], eta: float, variance: Callable[[int, int], float]) -> Tensor:
    """DDIM on the scaled process itself; ``variance`` is that of the noise added at (step, next step)."""
    s = signal_scale(scale)
    first, *rest = noises(len(steps) + 1)
    x = first
    for index, t in enumerate(steps):
        prev = steps[index + 1] if index + 1 < len(steps) else 0
        eps = network(x, t)
        sigma2 = eta**2 * variance(t, prev)
        clean = (x - (1 - ABAR[t]).sqrt() * eps) / ABAR[t].sqrt() / s[t]
        x = ABAR[prev].sqrt() * s[prev] * clean + (1 - ABAR[prev] - sigma2).sqrt() * eps
        x = x + sigma2**0.5 * rest[index]
    return x


def scheduler_ddim(scheduler: SchedulerMixin, change: ChangeOfVariables, num_steps: int, eta: float) -> Tensor:
    """The same samples in variance-preserving variables; the network sees them times ``n_t``."""
    scheduler.set_timesteps(num_steps)
    first, *rest = noises(len(scheduler.timesteps) + 1)
    # The official sampler starts at x_T ~ N(0, 1) in its own variables.
    x = first / change.input_scale[scheduler.timesteps[0]]
    for t, noise in zip(scheduler.timesteps, rest, strict=True):
        eps = network(change.scale_model_input(x, t), int(t))
        # The stock step rejects noise if eta is 0.
        extra = {"eta": eta, "variance_noise": noise} if eta else {}
        x = scheduler.step(eps, t, x, **extra).prev_sample
    return x


def ddim_variance(abar: Tensor) -> Callable[[int, int], float]:
    return lambda t, prev: float((1 - abar[prev]) / (1 - abar[t]) * (1 - abar[t] / abar[prev]))


def relative_error(got: Tensor, wanted: Tensor) -> float:
    return ((got - wanted).square().mean().sqrt() / wanted.std()).item()


def exact_vp_alphas_cumprod(scale: float) -> Tensor:
    signal = ABAR * signal_scale(scale) ** 2
    return signal / (signal + 1 - ABAR)


@pytest.mark.parametrize("double", [True, False])
@pytest.mark.parametrize("scale", [1.0, 0.7, 0.3])
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_stock_ddim_samples_the_scaled_process(scale: float, eta: float, double: bool) -> None:
    """Stock DDIM equals the direct formula; its noise level follows from ``abar'``, times the next ``n``."""
    change = vp_change_of_variables(ABAR, signal_scale(scale))
    vp_abar = exact_vp_alphas_cumprod(scale)
    stock = DDIMScheduler(
        trained_betas=change.trained_betas, clip_sample=False, set_alpha_to_one=False, steps_offset=1
    )
    if double:
        # The only value that a stock scheduler rounds to float32; without it the two agree exactly.
        stock.alphas_cumprod, stock.final_alpha_cumprod = vp_abar, vp_abar[0]
    got = scheduler_ddim(stock, change, 50, eta)
    vp_variance = ddim_variance(vp_abar)
    wanted = direct_ddim(
        scale,
        stock.timesteps.tolist(),
        eta,
        lambda t, prev: vp_variance(t, prev) * float(change.input_scale[prev]) ** 2,
    )
    assert relative_error(got, wanted) < (1e-10 if double else 1e-6)


@pytest.mark.parametrize("num_steps", [10, 30, 50])
@pytest.mark.parametrize("scale", [1.0, 0.7, 0.3])
@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_official_ddim_is_the_direct_formula(scale: float, eta: float, num_steps: int) -> None:
    change = vp_change_of_variables(ABAR, signal_scale(scale))
    official = OfficialDDIMScheduler(signal_scale=scale)
    got = scheduler_ddim(official, change, num_steps, eta)
    wanted = direct_ddim(scale, official.timesteps.tolist(), eta, ddim_variance(ABAR))
    assert relative_error(got, wanted) < 1e-6


def test_the_two_variances_differ_only_with_a_scale() -> None:
    for scale, least, most in ((1.0, 0.0, 1e-4), (0.3, 0.05, 1.0)):
        official = OfficialDDIMScheduler(signal_scale=scale)
        official.set_timesteps(50)
        stock = DDIMScheduler.from_config(official.config)
        pairs = [(t, t - 20) for t in range(981, 21, -20)]
        ratios = [float(official._get_variance(*pair) / stock._get_variance(*pair)) for pair in pairs]
        assert least <= max(abs(ratio - 1) for ratio in ratios) <= most


@pytest.mark.parametrize(("asked", "steps", "stride"), [(50, 50, 20), (60, 63, 16), (30, 31, 33), (27, 27, 37)])
def test_official_time_steps(asked: int, steps: int, stride: int) -> None:
    scheduler = OfficialDDIMScheduler()
    scheduler.set_timesteps(asked)
    assert len(scheduler.timesteps) == steps
    assert scheduler.timesteps[-1] == 1
    assert set(np.diff(scheduler.timesteps.numpy()).tolist()) == {-stride}
    assert scheduler.timesteps[0] < 1000


def test_official_ddim_saves_loads_and_hands_over_its_schedule(tmp_path) -> None:
    scheduler = OfficialDDIMScheduler(signal_scale=0.3)
    scheduler.save_pretrained(tmp_path)
    loaded = OfficialDDIMScheduler.from_pretrained(tmp_path)
    assert loaded.config.signal_scale == 0.3
    assert torch.equal(loaded.alphas_cumprod, scheduler.alphas_cumprod)
    stock = DDIMScheduler.from_config(loaded.config)
    assert torch.equal(stock.alphas_cumprod, scheduler.alphas_cumprod)
    assert (stock.config.clip_sample, stock.config.steps_offset) == (False, 1)


def test_a_pipeline_folder_with_it_loads(tmp_path) -> None:
    class OnlyAScheduler(DiffusionPipeline):
        def __init__(self, scheduler: OfficialDDIMScheduler) -> None:
            super().__init__()
            self.register_modules(scheduler=scheduler)

    OnlyAScheduler(OfficialDDIMScheduler(signal_scale=0.7)).save_pretrained(tmp_path)
    loaded = OnlyAScheduler.from_pretrained(tmp_path).scheduler
    assert type(loaded) is OfficialDDIMScheduler
    assert loaded.config.signal_scale == 0.7

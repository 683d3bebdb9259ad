"""Every named sampler with an exact model: the data are N(MEAN, STD^2), so the samples must be too."""

import inspect
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from torch import Tensor

from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.diffusion.pure_noise import starts_at_zero
from videocrafter.diffusion.schedule import (
    alphas_cumprod,
    cosine_betas_shifted,
    linear_betas,
    scale_model_input,
    signal_scale,
    vp_change_of_variables,
)
from videocrafter.diffusion.schedulers import (
    SCHEDULERS,
    SPACINGS,
    build_scheduler,
    scheduler_name,
    scheduler_notes,
)

MEAN, STD = 0.7, 0.8
WITH_FREE_STEPS = [name for name in SCHEDULERS if name not in ("ddim-official", "few-step", "lcm")]


def base(kind: str) -> tuple[dict[str, Any], Tensor]:
    """A model's scheduler config and its input scale."""
    if kind == "miniature":
        config = DDIMScheduler(
            trained_betas=cosine_betas_shifted(1000, 36).tolist(),
            prediction_type="v_prediction",
            timestep_spacing="trailing",
            clip_sample=False,
        ).config
        return dict(config), torch.ones(1000)
    scale = {"variance preserving": 1.0, "scaled": 0.3}[kind]
    change = vp_change_of_variables(alphas_cumprod(linear_betas()), signal_scale(scale))
    return dict(OfficialDDIMScheduler(signal_scale=scale).config), change.input_scale


def exact_network(config: Mapping[str, Any], input_scale: Tensor, timestep: Tensor, consistency: bool):
    """The best prediction for the scaled input at a timestep; for LCM the end of its trajectory."""
    vp_abar = alphas_cumprod(torch.tensor(config["trained_betas"]))
    log_snr = torch.log(vp_abar / (1 - vp_abar))
    low = int(timestep)
    high = min(low + 1, 999)
    weight = float(timestep) - low
    level = log_snr[low] if weight == 0 else torch.lerp(log_snr[low], log_snr[high], weight)
    abar = torch.sigmoid(level)
    signal, sigma = abar.sqrt(), (1 - abar).sqrt()
    norm = scale_model_input(torch.ones(1), timestep, input_scale)

    def predict(x: Tensor) -> Tensor:
        vp_x = x / norm
        shift = vp_x - signal * MEAN
        variance = STD**2 * abar + 1 - abar
        clean = MEAN + (STD * shift / variance.sqrt() if consistency else STD**2 * signal * shift / variance)
        noise = (vp_x - signal * clean) / sigma
        return noise if config["prediction_type"] == "epsilon" else signal * noise - sigma * clean

    return predict


def sample(
    name: str, kind: str, num_steps: int, *, with_input_scale: bool = True, **options: Any
) -> tuple[float, float]:
    config, input_scale = base(kind)
    scheduler = build_scheduler(name, config, **options)
    if options.get("zero_terminal_snr"):
        config = {**config, "trained_betas": scheduler.config.trained_betas}
    scheduler.set_timesteps(num_steps)
    if hasattr(scheduler, "set_begin_index"):
        # Without it, solvers look the first step up by its timestep, which many steps may share after rounding.
        scheduler.set_begin_index(0)
    generator = torch.Generator().manual_seed(0)
    takes_generator = "generator" in inspect.signature(scheduler.step).parameters
    x = torch.randn(1, 20_000, generator=generator) * scheduler.init_noise_sigma
    for t in scheduler.timesteps:
        x_in = scheduler.scale_model_input(x, t)
        if with_input_scale:
            x_in = scale_model_input(x_in, t, input_scale)
        output = exact_network(config, input_scale, t, name == "lcm")(x_in).to(x.dtype)
        x = scheduler.step(output, t, x, **({"generator": generator} if takes_generator else {})).prev_sample
    assert torch.isfinite(x).all()
    return x.mean().item(), x.std().item()


@pytest.mark.parametrize("kind", ["variance preserving", "scaled", "miniature"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_samples_have_the_datas_mean_and_spread(name: str, kind: str) -> None:
    if (name, kind) == ("ddim-official", "miniature"):
        pytest.skip("its timesteps start below the last one, so it cannot sample a zero-SNR schedule")
    num_steps = {"lcm": 4, "heun": 100}.get(name, 200)
    mean, std = sample(name, kind, num_steps)
    # With the paper's schedule, starting from N(0, 1) leaves the mean 0.05 too low: its last SNR is not 0.
    assert mean == pytest.approx(MEAN, abs=0.06 if kind != "miniature" else 0.02)
    assert std == pytest.approx(STD, rel=0.08)


def test_even_log_snr_steps_keep_detail_on_a_noisy_schedule() -> None:
    """With 20 steps even in time, the last one starts at an SNR of about 4 and blurs; even log SNR does not."""
    assert sample("dpm++2m", "miniature", 20)[1] < 0.9 * STD
    assert sample("dpm++2m-lu", "miniature", 20)[1] == pytest.approx(STD, rel=0.05)


def test_leaving_out_the_input_scale_is_wrong() -> None:
    """Control for the test above: without the input scale, the scaled process is sampled wrongly."""
    mean, std = sample("dpm++2m", "scaled", 100, with_input_scale=False)
    assert abs(mean - MEAN) > 0.1 or abs(std / STD - 1) > 0.1


def test_stock_ddim_runs_from_exactly_zero_snr() -> None:
    config, _ = base("miniature")
    scheduler = DDIMScheduler.from_config(config)
    assert not scheduler.config.rescale_betas_zero_snr
    scheduler.set_timesteps(20)
    assert scheduler.timesteps[0] == 999
    assert scheduler.alphas_cumprod[-1] == 0
    x = torch.randn(1, 100)
    step = scheduler.step(torch.full_like(x, -0.5), scheduler.timesteps[0], x)
    assert torch.equal(step.pred_original_sample, torch.full_like(x, 0.5))
    assert torch.isfinite(step.prev_sample).all()


def test_pure_noise_end_is_touched_only_where_it_must() -> None:
    config, _ = base("miniature")
    config["trained_betas"] = cosine_betas_shifted(1000, 16).tolist()
    floor = 2**-24
    for name, choice in SCHEDULERS.items():
        last = build_scheduler(name, config).alphas_cumprod[-1].item()
        assert last == pytest.approx(0.0 if starts_at_zero(choice.scheduler_class) else floor, rel=1e-5)
    # On a noisier schedule, 2^-24 would be a higher signal level than that of the step before.
    darker = dict(config, trained_betas=cosine_betas_shifted(1000, 200).tolist())
    abar = build_scheduler("euler", darker).alphas_cumprod
    assert 0 < abar[-1] < abar[-2]
    scaled, _ = base("scaled")
    assert build_scheduler("euler", scaled).config.trained_betas == scaled["trained_betas"]


def test_clipping_stays_off_whatever_the_base_config_says() -> None:
    """Defaults are kept too: diffusers' own from_config would drop them and clip."""
    for base_config in (build_scheduler("euler", base("scaled")[0]).config, OfficialDDIMScheduler().config):
        for name in SCHEDULERS:
            config = build_scheduler(name, base_config).config
            assert not config.get("clip_sample", False)
            assert not config.get("thresholding", False)


def test_unknown_name_lists_allowed_and_nearest() -> None:
    with pytest.raises(ValueError, match=r"'dpmpp'.*dpm\+\+2m"):
        build_scheduler("dpmpp", {})
    with pytest.raises(ValueError, match=r"'eular'\. Did you mean euler"):
        build_scheduler("eular", {})


@pytest.mark.parametrize("kind", ["variance preserving", "scaled"])
@pytest.mark.parametrize("name", WITH_FREE_STEPS)
def test_a_schedule_stretched_to_pure_noise_gives_the_mean_exactly(name: str, kind: str) -> None:
    """The tolerance of 0.05 above is due to the last SNR, which is 0 here."""
    num_steps = 100 if name in ("ddim", "ddpm", "euler", "euler-a") else 40
    mean, std = sample(name, kind, num_steps, zero_terminal_snr=True)
    assert mean == pytest.approx(MEAN, abs=0.02)
    assert std == pytest.approx(STD, rel=0.08)


@pytest.mark.parametrize("name", [name for name in WITH_FREE_STEPS if name != "dpm++2m-lu"])
def test_spacing_decides_where_the_steps_begin_and_end(name: str) -> None:
    def steps(spacing: str) -> list[float]:
        scheduler = build_scheduler(name, base("scaled")[0], spacing=spacing)
        scheduler.set_timesteps(10)
        return scheduler.timesteps.tolist()

    assert steps("trailing")[0] == 999
    assert steps("trailing")[-1] == pytest.approx(99, abs=1)
    assert steps("linspace")[0] == 999
    assert steps("leading")[0] < 950


def test_zero_terminal_snr_takes_trailing_steps_and_ends_in_the_least_signal_that_works() -> None:
    scaled, miniature = base("scaled")[0], base("miniature")[0]
    for name in WITH_FREE_STEPS:
        scheduler = build_scheduler(name, scaled, zero_terminal_snr=True)
        assert scheduler.config.timestep_spacing == "trailing"
        assert 0 < scheduler.alphas_cumprod[-1] <= 2**-24
        before = build_scheduler(name, scaled).alphas_cumprod
        assert scheduler.alphas_cumprod[0] == pytest.approx(float(before[0]), rel=1e-6)
    # Velocity is informative in pure noise, so DDIM starts there; a schedule that ends there is not changed.
    assert build_scheduler("ddim", miniature, zero_terminal_snr=True).alphas_cumprod[-1] == 0
    unchanged = build_scheduler("ddim", miniature, zero_terminal_snr=True).alphas_cumprod
    torch.testing.assert_close(unchanged, build_scheduler("ddim", miniature).alphas_cumprod, rtol=1e-5, atol=1e-7)
    # A config without explicit betas works too.
    stock = dict(DDIMScheduler(beta_schedule="scaled_linear").config)
    assert build_scheduler("ddim", stock, zero_terminal_snr=True).alphas_cumprod[-1] <= 2**-24


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ddim", {"spacing": "trailling"}, "unknown spacing 'trailling'. Did you mean trailing"),
        ("ddim", {"spacing": "legacy"}, "legacy needs the scheduler ddim-official, but the scheduler is ddim"),
        ("ddim-official", {"spacing": "trailing"}, "fixed steps.*use ddim"),
        ("lcm", {"spacing": "leading"}, "fixed steps"),
        ("dpm++2m-lu", {"spacing": "linspace"}, "fixed steps"),
        ("ddim-official", {"zero_terminal_snr": True}, "fixed steps for the model.s own schedule"),
        ("euler", {"spacing": "leading", "zero_terminal_snr": True}, "trailing or linspace"),
    ],
)
def test_spacings_that_make_no_sense_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_scheduler(name, base("scaled")[0], **options)


def test_legacy_steps_are_the_official_ones_and_need_the_signal_scale() -> None:
    stock = {key: value for key, value in base("scaled")[0].items() if key != "signal_scale"}
    official = build_scheduler("ddim-official", stock, spacing="legacy", signal_scale=0.3)
    official.set_timesteps(30)
    assert len(official.timesteps) == 31
    assert official.config.signal_scale == 0.3
    # Its variance uses the unscaled schedule, so without the scale it is another sampler.
    wanted = float(OfficialDDIMScheduler(signal_scale=0.3)._get_variance(300, 100))
    assert float(official._get_variance(300, 100)) == pytest.approx(wanted, rel=1e-5)
    unscaled = float(build_scheduler("ddim-official", stock)._get_variance(300, 100))
    assert unscaled != pytest.approx(wanted, rel=1e-3)


def test_a_scheduler_is_known_by_its_name() -> None:
    for name in SCHEDULERS:
        assert scheduler_name(build_scheduler(name, base("scaled")[0])) == name
    assert scheduler_name(build_scheduler("ddim", base("scaled")[0], spacing="linspace")) == "ddim"


def test_off_training_options_say_so() -> None:
    noise, velocity = base("scaled")[0], base("miniature")[0]
    assert scheduler_notes(noise) == scheduler_notes(velocity, spacing="trailing") == []
    assert "not trained" in scheduler_notes(noise, spacing="trailing")[0]
    assert "not trained" in scheduler_notes(noise, zero_terminal_snr=True)[0]
    assert "changes nothing" in scheduler_notes(velocity, zero_terminal_snr=True)[0]
    early = {**velocity, "trained_betas": velocity["trained_betas"][:-1]}
    assert "not trained" in scheduler_notes(early, zero_terminal_snr=True)[0]
    assert "untrained" in SPACINGS["trailing"]

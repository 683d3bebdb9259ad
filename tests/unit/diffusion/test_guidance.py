import pytest
import torch

from videocrafter.diffusion.guidance import Guidance, classifier_free_guidance, rescale_guidance


def test_guidance_extrapolates_from_uncond_through_cond() -> None:
    cond, uncond = torch.full((1, 2), 3.0), torch.full((1, 2), 1.0)
    assert torch.equal(classifier_free_guidance(cond, uncond, 1.0), cond)
    assert torch.equal(classifier_free_guidance(cond, uncond, 0.0), uncond)
    assert torch.equal(classifier_free_guidance(cond, uncond, 12.0), torch.full((1, 2), 25.0))


def test_rescale_restores_each_samples_own_spread() -> None:
    generator = torch.Generator().manual_seed(0)
    cond = torch.randn(2, 4, 3, 5, 5, generator=generator) * torch.tensor([1.0, 3.0]).view(2, 1, 1, 1, 1)
    guided = cond * torch.tensor([5.0, 2.0]).view(2, 1, 1, 1, 1)
    torch.testing.assert_close(rescale_guidance(guided, cond, 1.0), cond)
    assert torch.equal(rescale_guidance(guided, cond, 0.0), guided)
    torch.testing.assert_close(rescale_guidance(guided, cond, 0.5), 0.5 * cond + 0.5 * guided)


def test_guidance_is_the_formula_of_its_module() -> None:
    full, none, image, still = torch.randn(4, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    joint = Guidance(guidance_scale=7.0).combine(full, none)
    assert torch.equal(joint, classifier_free_guidance(full, none, 7.0))
    separate = Guidance(guidance_scale=7.0, image_guidance_scale=2.0)
    wanted = none + 2 * (image - none) + 7 * (full - image)
    torch.testing.assert_close(separate.combine(full, none, image), wanted)
    # With equal scales the branch of the image alone cancels.
    torch.testing.assert_close(
        Guidance(guidance_scale=7.0, image_guidance_scale=7.0).combine(full, none, image), joint
    )
    temporal = Guidance(guidance_scale=7.0, temporal_guidance_scale=0.5).combine(full, none, still=still)
    torch.testing.assert_close(temporal, joint + 0.5 * (full - still))
    assert Guidance().combine(full) is full


def test_rescaling_is_the_last_thing_and_towards_the_full_condition() -> None:
    full, none, still = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    guided = Guidance(guidance_scale=9.0, temporal_guidance_scale=2.0, guidance_rescale=1.0).combine(
        full, none, still=still
    )
    torch.testing.assert_close(guided.std(dim=(1, 2)), full.std(dim=(1, 2)))


@pytest.mark.parametrize(
    ("interval", "acts"), [((0.0, 1.0), [1, 1, 1, 1]), ((0.25, 0.75), [0, 1, 1, 0]), ((0.3, 1.0), [0, 0, 1, 1])]
)
def test_guidance_acts_on_the_steps_that_begin_in_its_interval(
    interval: tuple[float, float], acts: list[int]
) -> None:
    guidance = Guidance(guidance_interval=interval)
    assert [int(guidance.acts_at(step / 4)) for step in range(4)] == acts


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"guidance_interval": (0.5, 0.5)}, r"guidance_interval must satisfy 0 <= start < end <= 1, .*\(0.5, 0.5\)"),
        ({"guidance_interval": (-0.1, 0.5)}, "-0.1"),
        ({"guidance_interval": (0.0, 1.5)}, "1.5"),
        ({"guidance_interval": (float("nan"), 1.0)}, "nan"),
        ({"guidance_interval": 0.5}, "guidance_interval must be two numbers"),
        ({"guidance_log_snr": (2.0, 1.0)}, r"guidance_log_snr must be finite with low < high, but is \(2, 1\)"),
        ({"guidance_log_snr": (float("-inf"), 1.0)}, "-inf"),
        ({"guidance_log_snr": 0.5}, "guidance_log_snr must be two numbers"),
        ({"guidance_interval": (0.1, 0.2, 0.3)}, "guidance_interval must be two numbers"),
        ({"guidance_scale": -1.0}, "guidance_scale must be at least 0, but is -1"),
        ({"guidance_scale": "strong"}, "guidance_scale must be a number, at least 0, but is 'strong'"),
        ({"temporal_guidance_scale": float("inf")}, "temporal_guidance_scale must be at least 0, but is inf"),
        ({"image_guidance_scale": -2.0}, "image_guidance_scale must be at least 0"),
        ({"guidance_rescale": 1.2}, "guidance_rescale must be between 0 and 1, but is 1.2"),
    ],
)
def test_values_out_of_range_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Guidance(**wrong)


def test_an_interval_from_json_is_the_same() -> None:
    assert Guidance(guidance_interval=[0.1, 0.8]) == Guidance(guidance_interval=(0.1, 0.8))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("settings", "branches"),
    [
        ({}, 1),
        ({"guidance_scale": 0.0}, 1),
        ({"guidance_scale": 4.0}, 2),
        ({"guidance_scale": 4.0, "image_guidance_scale": 4.0}, 2),
        ({"guidance_scale": 4.0, "image_guidance_scale": 1.0}, 2),
        ({"guidance_scale": 4.0, "image_guidance_scale": 0.0}, 3),
        ({"guidance_scale": 1.0, "image_guidance_scale": 4.0}, 3),
    ],
)
def test_branches_per_guided_step(settings: dict, branches: int) -> None:
    assert Guidance(**settings).num_branches == branches


def test_a_step_is_guided_if_its_share_and_its_noise_level_are_within():
    guidance = Guidance(guidance_interval=(0.0, 0.5), guidance_log_snr=(-2, 1))
    assert guidance.acts_at(0.25, -2.0)
    assert guidance.acts_at(0.25)
    assert not guidance.acts_at(0.25, 1.0)
    assert not guidance.acts_at(0.25, -2.5)
    assert not guidance.acts_at(0.75, 0.0)

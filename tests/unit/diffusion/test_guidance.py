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


def test_phi_outside_its_range_is_named() -> None:
    x = torch.randn(1, 4)
    with pytest.raises(ValueError, match=r"\[0, 1\].*1.2"):
        rescale_guidance(x, x, 1.2)


def test_guidance_is_the_formula_of_its_module() -> None:
    full, none, image, still = torch.randn(4, 2, 3, 4, generator=torch.Generator().manual_seed(0))
    joint = Guidance(scale=7.0).combine(full, none)
    assert torch.equal(joint, classifier_free_guidance(full, none, 7.0))
    separate = Guidance(scale=7.0, image_scale=2.0)
    wanted = none + 2 * (image - none) + 7 * (full - image)
    torch.testing.assert_close(separate.combine(full, none, image), wanted)
    # With equal scales the picture's own branch drops out.
    torch.testing.assert_close(Guidance(scale=7.0, image_scale=7.0).combine(full, none, image), joint)
    temporal = Guidance(scale=7.0, temporal_scale=0.5).combine(full, none, still=still)
    torch.testing.assert_close(temporal, joint + 0.5 * (full - still))
    assert Guidance().combine(full) is full


def test_rescaling_is_the_last_thing_and_towards_the_full_condition() -> None:
    full, none, still = torch.randn(3, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    guided = Guidance(scale=9.0, temporal_scale=2.0, rescale=1.0).combine(full, none, still=still)
    torch.testing.assert_close(guided.std(dim=(1, 2)), full.std(dim=(1, 2)))


@pytest.mark.parametrize(
    ("interval", "acts"), [((0.0, 1.0), [1, 1, 1, 1]), ((0.25, 0.75), [0, 1, 1, 0]), ((0.3, 1.0), [0, 0, 1, 1])]
)
def test_guidance_acts_on_the_steps_that_begin_in_its_interval(
    interval: tuple[float, float], acts: list[int]
) -> None:
    guidance = Guidance(interval=interval)
    assert [int(guidance.acts_at(step / 4)) for step in range(4)] == acts


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"interval": (0.5, 0.5)}, r"0 <= start < end <= 1.*0.5 \.\.\. 0.5"),
        ({"interval": (-0.1, 0.5)}, "-0.1"),
        ({"interval": (0.0, 1.5)}, "1.5"),
        ({"interval": (float("nan"), 1.0)}, "nan"),
        ({"scale": -1.0}, "guidance scale must be 0 or more, but is -1"),
        ({"temporal_scale": float("inf")}, "temporal_scale"),
        ({"image_scale": -2.0}, "image_scale"),
    ],
)
def test_settings_that_make_no_sense_are_refused(wrong: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Guidance(**wrong)

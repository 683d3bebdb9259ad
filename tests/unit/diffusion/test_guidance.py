import pytest
import torch

from videocrafter.diffusion.guidance import classifier_free_guidance, rescale_guidance


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

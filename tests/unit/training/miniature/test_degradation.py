import pytest
import torch

from videocrafter.training.miniature.degradation import Degradation, blur, degrade


def clips(count: int = 6) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    cells = torch.rand(count, 2, 3, 8, 8, generator=generator)
    return cells.repeat_interleave(8, 3).repeat_interleave(8, 4) * 1.6 - 0.8


def test_range_and_picture_are_kept() -> None:
    spoilt = degrade(clips(), torch.Generator().manual_seed(0), Degradation())
    assert spoilt.shape == clips().shape
    assert float(spoilt.abs().max()) <= 1.0
    difference = (spoilt - clips()).abs().mean(dim=(1, 2, 3, 4))
    assert (difference > 0.0).all(), "every clip is degraded"
    assert (difference < 0.4).all(), "none beyond recognition"


def test_recoloured_clips_keep_their_greys_and_lose_their_hues() -> None:
    red = torch.tensor([0.8, -0.1, -0.1]).view(1, 1, 3, 1, 1).expand(200, 1, 3, 8, 8)
    amount = Degradation(blurred_share=0.0, recoloured_share=1.0)
    generator = torch.Generator().manual_seed(0)
    means = degrade(red, generator, amount).mean(dim=(1, 3, 4))
    largest = means.argmax(dim=1)
    assert (torch.bincount(largest, minlength=3) > 40).all(), "red, green and blue are equally likely"
    grey = degrade(torch.full((200, 1, 3, 8, 8), 0.2), generator, amount).mean(dim=(1, 3, 4))
    assert float((grey.amax(dim=1) - grey.amin(dim=1)).mean()) < 0.12, "only the usual tint"


def test_blur_removes_detail() -> None:
    stripes = torch.tensor([1.0, -1.0]).repeat(32).expand(1, 3, 64, 64)
    assert float(blur(stripes, 16).abs().max()) < 0.3
    assert blur(stripes, 16).shape == stripes.shape


def test_impossible_amounts_are_refused() -> None:
    with pytest.raises(ValueError, match="recoloured_share is 2"):
        Degradation(recoloured_share=2)
    with pytest.raises(ValueError, match="smallest_side is 0"):
        Degradation(smallest_side=0)
    with pytest.raises(ValueError, match="brightness is -1"):
        Degradation(brightness=-1)

import pytest
import torch

from videocrafter.evaluation.exam.appearance import appearance
from videocrafter.training.miniature.degradation import blur


def test_blur_lowers_sharpness_and_a_flash_raises_flicker() -> None:
    squares = (torch.rand(3, 1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1).expand(3, 4, 3, 8, 8)
    sharp = squares.repeat_interleave(4, 3).repeat_interleave(4, 4)
    soft = torch.stack([blur(clip, 12) for clip in sharp])
    flashing = sharp.clone()
    flashing[:, 1] = (flashing[:, 1] + 0.2).clamp(-1, 1)
    ours, blurred = appearance(sharp), appearance(soft)
    assert (blurred.laplacian < 0.5 * ours.laplacian).all()
    assert (blurred.edges < ours.edges).all()
    assert ours.flicker.tolist() == [0.0, 0.0, 0.0]
    assert (appearance(flashing).flicker > 10.0).all(), "0.2 of 2 is 25 grey levels, in two of three steps"


def test_edges_of_vertical_stripes() -> None:
    stripes = torch.tensor([1.0, -1.0]).repeat(4).expand(1, 1, 3, 8, 8)
    assert appearance(stripes).edges[0] == pytest.approx(255.0, rel=1e-5)

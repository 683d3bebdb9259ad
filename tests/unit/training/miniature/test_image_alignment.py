"""Alignment of image tokens with those of captions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld, SpriteWorldConfig
from videocrafter.training.miniature.image_alignment import alignment_error, plain_caption, reading_accuracy

WORLD = SpriteWorld(SpriteWorldConfig(height=16, width=16))


def captions_with_ends() -> Tensor:
    """Text tokens [2, 4, 3] whose last rows, past the ends of the captions, are zero."""
    text_BLD = torch.randn(2, 4, 3, generator=torch.Generator().manual_seed(0))
    text_BLD[0, 2:], text_BLD[1, 3:] = 0, 0
    return text_BLD


@pytest.mark.parametrize("free_rows", [True, False])
def test_tokens_that_are_the_captions_leave_nothing_unexplained(free_rows: bool) -> None:
    text = captions_with_ends()
    assert [float(one) for one in alignment_error(text, text, free_rows=free_rows)] == [0, 0]


def test_the_mean_of_all_captions_leaves_all_differences_unexplained() -> None:
    text = captions_with_ends()
    error, unexplained = alignment_error(text.mean(dim=0).expand(2, 4, 3), text, free_rows=False)
    assert float(error) > 0
    assert float(unexplained) == pytest.approx(1)


def test_free_rows_may_hold_anything() -> None:
    text = captions_with_ends()
    image = text.clone()
    image[0, 3], image[1, 3] = 5, -5
    assert float(alignment_error(image, text, free_rows=True)[0]) == 0
    assert float(alignment_error(image, text, free_rows=False)[0]) == pytest.approx(25 * 2 / 8)
    image[1, 2] += 1
    assert float(alignment_error(image, text, free_rows=True)[0]) == pytest.approx(1 / 5), (
        "one row of five is off by 1"
    )


@pytest.mark.parametrize(("queries", "length"), [(2, 4), (4, 2)])
def test_as_many_rows_are_compared_as_both_have(queries: int, length: int) -> None:
    text = torch.randn(2, 4, 3)
    assert float(alignment_error(text[:, :queries], text[:, :length], free_rows=False)[0]) == 0


def say(captions: list[str]) -> Tensor:
    """Text tokens [B, 2, 2] that distinguish subjects: the second letters of the first words, twice."""
    letters = torch.tensor([[float(sum(map(ord, caption.split(" ")[1])))] for caption in captions])
    return letters[:, :, None].expand(len(captions), 2, 2)


def test_reading_accuracy_is_the_share_of_pictures_next_to_their_own_caption() -> None:
    scripts: list[SceneScript] = []
    index = 0
    while len(scripts) < 4:
        script = WORLD.script(index)
        if script.subject not in {one.subject for one in scripts}:
            scripts.append(script)
        index += 1
    own = say([plain_caption(script) for script in scripts])
    assert reading_accuracy(own, scripts, WORLD, say) == 100
    mixed = torch.cat([own[1:2], own[:1], own[2:]])
    assert reading_accuracy(mixed, scripts, WORLD, say) == 50

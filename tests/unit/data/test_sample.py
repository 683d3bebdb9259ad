"""Batches check their shapes, and errors name them."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from videocrafter.data.sample import VideoBatch

BATCH = VideoBatch(pixels=torch.zeros(2, 1, 3, 4, 6), captions=("a cat", "a dog"), fps=torch.ones(2), keys=("a", "b"))


def test_a_batch_knows_its_size() -> None:
    assert (len(BATCH), BATCH.num_frames) == (2, 1)


@pytest.mark.parametrize(
    "pixels", [torch.zeros(2, 1, 3, 4, 4, dtype=torch.uint8), torch.zeros(2, 3, 4, 4)], ids=["uint8", "no time"]
)
def test_wrong_pixels_are_refused(pixels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="expected floats"):
        dataclasses.replace(BATCH, pixels=pixels)


def test_a_batch_needs_one_caption_per_video() -> None:
    with pytest.raises(ValueError, match="'captions': 1"):
        dataclasses.replace(BATCH, captions=("one",))


def test_moving_a_batch_moves_its_tensors() -> None:
    batch = BATCH.to("meta")
    assert batch.pixels.device.type == batch.fps.device.type == "meta"


def test_a_batch_has_no_pixels_of_cached_videos() -> None:
    batch = dataclasses.replace(BATCH, pixels=BATCH.pixels[:1], cached=(None, "anything"))
    assert len(batch) == 2
    with pytest.raises(ValueError, match="'pixels': 1"):
        dataclasses.replace(batch, cached=(None, None))
    with pytest.raises(ValueError, match="'cached': 1"):
        dataclasses.replace(batch, cached=("anything",))

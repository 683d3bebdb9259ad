"""Samples and batches check their shapes and say what is wrong."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from videocrafter.data.sample import VideoBatch, VideoSample, stack_samples


def sample(frames: int = 2, key: str = "a") -> VideoSample:
    return VideoSample(pixels=torch.zeros(frames, 3, 4, 6), caption="a cat", fps=8.0, key=key)


def test_stacking_keeps_order_and_types() -> None:
    batch = stack_samples([sample(key="a"), sample(key="b")])
    assert batch.pixels.shape == (2, 2, 3, 4, 6)
    assert batch.keys == ("a", "b")
    assert batch.captions == ("a cat", "a cat")
    assert batch.fps.tolist() == [8.0, 8.0]
    assert (len(batch), batch.num_frames) == (2, 2)


def test_samples_of_different_length_do_not_stack() -> None:
    with pytest.raises(ValueError, match=r"one shape.*'a'.*'b'"):
        stack_samples([sample(2, "a"), sample(3, "b")])


def test_no_samples_do_not_stack() -> None:
    with pytest.raises(ValueError, match="at least one"):
        stack_samples([])


@pytest.mark.parametrize(
    "pixels", [torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.zeros(3, 4, 4)], ids=["uint8", "no time"]
)
def test_wrong_pixels_are_named(pixels: torch.Tensor) -> None:
    with pytest.raises(ValueError, match="'clip 7'"):
        VideoSample(pixels=pixels, caption="", fps=8.0, key="clip 7")


def test_fps_must_be_positive() -> None:
    with pytest.raises(ValueError, match="fps must be above 0"):
        dataclasses.replace(sample(), fps=0.0)


def test_a_batch_needs_one_caption_per_video() -> None:
    with pytest.raises(ValueError, match="'captions': 1"):
        VideoBatch(pixels=torch.zeros(2, 1, 3, 4, 4), captions=("one",), fps=torch.ones(2), keys=("a", "b"))


def test_moving_a_batch_moves_its_tensors() -> None:
    batch = stack_samples([sample()]).to("meta")
    assert batch.pixels.device.type == batch.fps.device.type == "meta"


def test_a_batch_has_pixels_of_what_is_not_known() -> None:
    batch = VideoBatch(
        pixels=torch.zeros(1, 2, 3, 4, 4),
        captions=("a", "b"),
        fps=torch.ones(2),
        keys=("x", "y"),
        known=(None, "whatever"),
    )
    assert len(batch) == 2
    with pytest.raises(ValueError, match="one caption, fps and key"):
        dataclasses.replace(batch, known=(None, None))
    with pytest.raises(ValueError, match="one caption, fps and key"):
        dataclasses.replace(batch, known=("whatever",))

"""Strides follow from the rates, fps is the true rate, and short clips follow the rule."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.data.stub_clips import StubVideo
from videocrafter.data.clip_sampling import ClipSampling, choose_image_time, choose_times
from videocrafter.data.errors import BadSampleError

RATES = st.sampled_from([5.0, 8.0, 12.5, 23.976, 24.0, 25.0, 29.97, 30.0, 60.0])
SEEDS = st.integers(0, 10_000)


def video(fps: float = 24.0, num_frames: int = 240) -> StubVideo:
    return StubVideo(number=0, caption="", fps=fps, num_frames=num_frames)


@given(fps=RATES, num_frames=st.integers(17, 2000), low=st.floats(1, 30), ratio=st.floats(1, 8), seed=SEEDS)
def test_frames_are_evenly_spaced_and_the_rate_is_the_true_one(
    fps: float, num_frames: int, low: float, ratio: float, seed: int
) -> None:
    sampling = ClipSampling(lengths=(16,), fps_range=(low, low * ratio))
    chosen = choose_times(video(fps, num_frames), sampling, random.Random(seed))
    frames = [int(time * fps) for time in chosen.times_s]
    strides = {later - earlier for earlier, later in itertools.pairwise(frames)}
    assert len(frames) == 16
    assert frames[0] >= 0
    assert frames[-1] < num_frames
    assert len(strides) == 1
    stride = strides.pop()
    assert chosen.fps == pytest.approx(fps / stride)
    # If some stride yields a rate within the range, and the clip is long enough, the true rate is within it.
    possible = [s for s in range(1, 100) if low <= fps / s <= low * ratio and 15 * s < num_frames]
    if possible and 15 * max(s for s in range(1, 500) if s == 1 or fps / s >= low) < num_frames:
        assert low * (1 - 1e-9) <= chosen.fps <= low * ratio * (1 + 1e-9)


def test_rates_of_a_range_are_all_used() -> None:
    sampling = ClipSampling(fps_range=(4.0, 24.0))
    rates = {choose_times(video(num_frames=900), sampling, random.Random(seed)).fps for seed in range(300)}
    assert rates == {24.0, 12.0, 8.0, 6.0, 4.8, 4.0}


def test_without_a_range_every_frame_is_taken() -> None:
    chosen = choose_times(video(12.0, 40), ClipSampling(fps_range=None, start="first"), random.Random(0))
    assert chosen.fps == 12.0
    assert chosen.times_s == pytest.approx([(index + 0.5) / 12 for index in range(16)])


@pytest.mark.parametrize(("start", "first"), [("first", 0), ("center", 12)])
def test_start_of_a_sample(start: str, first: int) -> None:
    sampling = ClipSampling(fps_range=None, start=start)  # type: ignore[arg-type]
    assert int(choose_times(video(num_frames=40), sampling, random.Random(5)).times_s[0] * 24) == first


def test_random_starts_reach_both_ends() -> None:
    sampling = ClipSampling(fps_range=None)
    firsts = {
        int(choose_times(video(num_frames=18), sampling, random.Random(seed)).times_s[0] * 24) for seed in range(60)
    }
    assert firsts == {0, 1, 2}


def test_the_longest_length_that_fits_is_taken() -> None:
    sampling = ClipSampling(lengths=(8, 16, 32), fps_range=(12.0, 12.0))
    lengths = [
        len(choose_times(video(num_frames=count), sampling, random.Random(0)).times_s)
        for count in (15, 30, 31, 62, 63, 999)
    ]
    assert lengths == [8, 8, 16, 16, 32, 32]


def test_a_short_clip_is_skipped_or_taken_at_a_lower_stride() -> None:
    fast = {"lengths": (16,), "fps_range": (6.0, 6.0)}
    chosen = choose_times(video(24.0, 40), ClipSampling(short_clips="lower_stride", **fast), random.Random(0))
    assert chosen.fps == 12.0  # stride 2 is the largest that fits; stride 4 was drawn
    with pytest.raises(BadSampleError, match="40 frames at 24 fps, expected enough for 16 at stride 4") as caught:
        choose_times(video(24.0, 40), ClipSampling(short_clips="skip", **fast), random.Random(0))
    assert caught.value.reason == "too_short"


@pytest.mark.parametrize("num_frames", [0, 1, 15])
def test_a_clip_with_too_few_frames_at_any_stride_is_skipped(num_frames: int) -> None:
    with pytest.raises(BadSampleError) as caught:
        choose_times(video(num_frames=num_frames), ClipSampling(), random.Random(0))
    assert caught.value.reason == "too_short"


def test_images_are_labelled_by_the_rule() -> None:
    still = video(1.0, 1)
    assert choose_image_time(still, ClipSampling(image_fps=8.0), random.Random(0)).fps == 8.0
    assert choose_image_time(still, ClipSampling(fps_range=None), random.Random(0)).fps == 1.0
    drawn = {choose_image_time(still, ClipSampling(fps_range=(4, 32)), random.Random(seed)).fps for seed in range(50)}
    assert len(drawn) > 40
    assert min(drawn) < 6
    assert max(drawn) > 20
    assert choose_image_time(still, ClipSampling(), random.Random(0)).times_s == (0.5,)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"lengths": ()}, "lengths is"),
        ({"lengths": (1,)}, "2 or more"),
        ({"lengths": (8, 8)}, "different"),
        ({"fps_range": (8.0, 4.0)}, "low <= high"),
        ({"fps_range": (0.0, 4.0)}, "0 < low"),
        ({"short_clips": "pad"}, "'skip' or 'lower_stride'"),
        ({"start": "end"}, "'random', 'center' or 'first'"),
        ({"image_fps": 0.0}, "above 0"),
    ],
)
def test_wrong_rules_are_refused_when_they_are_made(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ClipSampling(**wrong)  # type: ignore[arg-type]

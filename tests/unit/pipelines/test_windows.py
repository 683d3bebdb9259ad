import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.pipelines.windows import WindowedUNet, Windows


@st.composite
def any_windows(draw):
    length = draw(st.integers(1, 9))
    return Windows(
        num_frames=draw(st.integers(1, 40)),
        length=length,
        overlap=draw(st.integers(0, length - 1)),
        ring=draw(st.booleans()),
    )


class FakeUNet:
    """Returns three times the sample and records its calls."""

    def __init__(self):
        self.calls = []

    def __call__(self, sample, *conditions, **options):
        self.calls.append((sample, conditions, options))
        return 3.0 * sample


class TellsPlaces:
    """Returns the index of each frame in its window, like a network that counts frames."""

    def __call__(self, sample, *conditions):
        return torch.arange(sample.shape[2], dtype=sample.dtype)[:, None, None].expand_as(sample)


def latents(num_frames, dtype=torch.float32):
    return torch.randn(2, 3, num_frames, 2, 2, dtype=dtype, generator=torch.Generator().manual_seed(1))


@given(any_windows(), st.integers(0, 50))
def test_weights_sum_to_one_for_every_frame(windows, offset):
    total = torch.zeros(windows.num_frames)
    for frames, weights in zip(windows.frames(offset), windows.weights(offset), strict=True):
        assert len(set(frames.tolist())) == len(frames) == windows.size
        total[frames] += weights
    torch.testing.assert_close(total, torch.ones(windows.num_frames))


@given(any_windows())
def test_neighbouring_windows_share_the_overlap(windows):
    frames = [set(one.tolist()) for one in windows.frames()]
    for first, second in itertools.pairwise(frames):
        assert len(first & second) >= min(windows.overlap, windows.size)


def test_windows_of_a_line_end_with_the_video():
    starts = [int(frames[0]) for frames in Windows(num_frames=19, length=8, overlap=4).frames()]
    assert starts == [0, 4, 8, 11]


def test_windows_of_a_ring_reach_across_the_seam():
    frames = [one.tolist() for one in Windows(num_frames=6, length=4, overlap=1, ring=True).frames(offset=1)]
    assert frames == [[1, 2, 3, 4], [4, 5, 0, 1]]


@pytest.mark.parametrize("num_frames", [1, 5, 8])
def test_a_video_that_fits_gets_exactly_the_answer_of_the_network(num_frames):
    unet = FakeUNet()
    sample = latents(num_frames, torch.bfloat16)
    answer = WindowedUNet(unet, Windows(num_frames=num_frames, length=8, overlap=4))(sample, "time", fps_B=3)
    assert torch.equal(answer, 3.0 * sample)
    assert answer.dtype == torch.bfloat16
    assert unet.calls[0][0] is sample


@given(any_windows())
def test_a_network_that_treats_frames_alike_answers_as_if_there_were_no_windows(windows):
    sample = latents(windows.num_frames)
    torch.testing.assert_close(WindowedUNet(FakeUNet(), windows)(sample), 3.0 * sample)


def test_every_window_is_told_all_conditions():
    unet = FakeUNet()
    WindowedUNet(unet, Windows(num_frames=11, length=4, overlap=2))(latents(11), "time", "text", temporal=False)
    assert len(unet.calls) == 5
    assert all(conditions == ("time", "text") for _, conditions, _ in unet.calls)
    assert all(options == {"temporal": False} for *_, options in unet.calls)


def test_the_network_never_sees_more_than_one_window():
    unet = FakeUNet()
    WindowedUNet(unet, Windows(num_frames=300, length=8, overlap=4))(latents(300))
    assert {tuple(sample.shape) for sample, *_ in unet.calls} == {(2, 3, 8, 2, 2)}
    assert len(unet.calls) == 74


def test_answers_are_weighted_by_nearness_to_the_middle_of_the_window():
    answer = WindowedUNet(TellsPlaces(), Windows(num_frames=6, length=4, overlap=2))(latents(6))
    # Frame 2 is the third of the first window (weight 2) and the first of the second (weight 1).
    torch.testing.assert_close(answer[0, 0, :, 0, 0], torch.tensor([0, 1, 4 / 3, (3 + 2) / 3, 2, 3]))


def test_half_precision_is_averaged_in_full():
    sample = latents(12, torch.bfloat16)
    answer = WindowedUNet(FakeUNet(), Windows(num_frames=12, length=4, overlap=3))(sample)
    assert answer.dtype == torch.float32
    torch.testing.assert_close(answer, (3.0 * sample).float(), rtol=1e-6, atol=0)


@pytest.mark.parametrize(("num_frames", "length"), [(6, 8), (12, 4), (13, 5)])
def test_turning_a_ring_turns_the_answer(num_frames, length):
    # With a network that counts frames, the output rotates with the video only if the windows do too.
    class Counts(TellsPlaces):
        def __call__(self, sample, *conditions):
            return super().__call__(sample) * sample.cumsum(2)

    unet = WindowedUNet(Counts(), Windows(num_frames=num_frames, length=length, overlap=2, ring=True))
    sample = latents(num_frames, torch.float64)
    straight = unet(sample)
    unet.offset = 3
    torch.testing.assert_close(unet(sample.roll(3, dims=2)), straight.roll(3, dims=2))
    unet.offset = 4
    assert not torch.allclose(unet(sample.roll(3, dims=2)), straight.roll(3, dims=2))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"num_frames": 0}, "num_frames must be at least 1, but is 0"),
        ({"length": 0}, "window must be at least 1 frame, but is 0"),
        ({"overlap": 4}, r"overlap must be between 0 and 3 for windows of 4 frames, but is 4"),
        ({"overlap": -1}, r"overlap must be between 0 and 3"),
    ],
)
def test_impossible_windows_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        Windows(**{"num_frames": 8, "length": 4, "overlap": 2, **change})


def test_branches_of_guidance_share_the_windows():
    class TwoBranches:
        takes_branches = True

        def __call__(self, sample, text):
            return torch.cat([sample, 3.0 * sample])

    sample = torch.randn(1, 2, 10, 3, 3)
    windowed = WindowedUNet(TwoBranches(), Windows(num_frames=10, length=4, overlap=2))
    assert windowed.takes_branches
    torch.testing.assert_close(windowed(sample, None), torch.cat([sample, 3.0 * sample]))
    assert not WindowedUNet(FakeUNet(), Windows(num_frames=10, length=4)).takes_branches

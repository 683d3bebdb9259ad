from types import SimpleNamespace

import pytest

from videocrafter.media.video_timing import FrameIndex, measure


@pytest.mark.parametrize(
    ("ticks_per_s", "interval", "fps"),
    [(12800, 1280.0000000000002, 10.0), (90000, 3753.75, 24000 / 1001), (1000, 133.333333, 7.50000001875)],
)
def test_a_rate_has_no_rounding_errors(ticks_per_s, interval, fps):
    stream = SimpleNamespace(average_rate=None, guessed_rate=None)
    video = SimpleNamespace(ticks_per_s=ticks_per_s, stream=stream, format="mov,mp4", name="clip.mp4")
    index = FrameIndex(times=[number * interval for number in range(9)])
    assert measure(video, index, 0).fps == fps

import math

from videocrafter.evaluation.metrics.clip_video_score import VideoTextCosine


def test_a_video_without_frames_has_no_score():
    assert math.isnan(VideoTextCosine("clip").value())

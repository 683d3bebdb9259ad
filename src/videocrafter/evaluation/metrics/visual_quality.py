"""The metrics of visual quality."""

from __future__ import annotations

from videocrafter.evaluation.metrics.blockiness import blockiness
from videocrafter.evaluation.metrics.exposure import brightness, clipped_share
from videocrafter.evaluation.metrics.sharpness import laplacian_variance
from videocrafter.evaluation.metrics.video_metric import Start, VideoMetric, mean_of_frames, score_of
from videocrafter.evaluation.metrics.whole_clip import ScoreOfClip, dover_scores


def _dover(index: int) -> Start:
    return lambda facts: ScoreOfClip(
        facts.networks.video_network("dover").of_clip, lambda output: dover_scores(output)[index]
    )


VISUAL_QUALITY = (
    VideoMetric(
        name="sharpness",
        aspect="visual_quality",
        better="higher",
        summary="variance of the Laplacian of luma; noise raises it, too",
        start=mean_of_frames(lambda frame: laplacian_variance(frame.luma)),
    ),
    VideoMetric(
        name="blockiness",
        aspect="visual_quality",
        better="lower",
        summary="steps at the 8-pixel grid of codecs relative to steps elsewhere; 1 is none",
        start=mean_of_frames(lambda frame: blockiness(frame.luma)),
    ),
    VideoMetric(
        name="clipped_exposure",
        aspect="visual_quality",
        better="lower",
        summary="share of pixels that are nearly black or nearly white",
        start=mean_of_frames(lambda frame: clipped_share(frame.luma)),
    ),
    VideoMetric(
        name="brightness",
        aspect="visual_quality",
        better="neither",
        summary="mean luma, 0 to 1",
        start=mean_of_frames(lambda frame: brightness(frame.luma)),
    ),
    VideoMetric(
        name="vqa_aesthetic",
        aspect="visual_quality",
        better="higher",
        summary="DOVER, aesthetic branch, 0 to 100",
        needs=("dover",),
        start=_dover(0),
    ),
    VideoMetric(
        name="vqa_technical",
        aspect="visual_quality",
        better="higher",
        summary="DOVER, technical branch, 0 to 100",
        needs=("dover",),
        start=_dover(1),
    ),
    VideoMetric(
        name="imaging_quality",
        aspect="visual_quality",
        better="higher",
        summary="MUSIQ of frames divided by 100",
        needs=("musiq",),
        reads=("musiq",),
        start=mean_of_frames(lambda frame: score_of("musiq")(frame) / 100.0),
    ),
    VideoMetric(
        name="aesthetic_quality",
        aspect="visual_quality",
        better="higher",
        summary="LAION's aesthetic score of frames divided by 10",
        needs=("laion_aesthetic",),
        reads=("laion_aesthetic",),
        start=mean_of_frames(lambda frame: score_of("laion_aesthetic")(frame) / 10.0),
    ),
)

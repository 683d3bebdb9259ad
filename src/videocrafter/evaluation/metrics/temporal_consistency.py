"""The metrics of temporal consistency. A still video has the best value of each."""

from __future__ import annotations

import math
from collections.abc import Callable

from videocrafter.evaluation.metrics.clip_towers import CLIP, CLIP_COMPAT, TOWER
from videocrafter.evaluation.metrics.consistency import with_first, with_previous, with_previous_and_first
from videocrafter.evaluation.metrics.efficientnet_lite import FEATURES
from videocrafter.evaluation.metrics.flicker import flicker_score
from videocrafter.evaluation.metrics.frame import Frame
from videocrafter.evaluation.metrics.optical_flow import resized_to_short_side
from videocrafter.evaluation.metrics.video_metric import VideoMetric, mean_of_pairs
from videocrafter.evaluation.metrics.warping import warping_error

_OCCLUDED = "every pixel counts as occluded in every pair of frames"


def _flicker(frame: Frame) -> float:
    assert frame.previous is not None
    return flicker_score(frame.previous.rgb, frame.rgb)


def _dis_warping(frame: Frame) -> float:
    assert frame.previous is not None
    return warping_error(frame.previous.small_rgb, frame.small_rgb, *frame.flow())


def _raft_warping(network: str) -> Callable[[Frame], float]:
    """Return the warping error at half size, as EvalCrafter measures it."""

    def of_pair(frame: Frame) -> float:
        assert frame.previous is not None
        short_side = max(16, min(frame.rgb.shape[:2]) // 2)
        before, now = (resized_to_short_side(one.rgb, short_side) for one in (frame.previous, frame))
        estimate = frame.video.flow_networks[network]
        return warping_error(before, now, estimate(before, now), estimate(now, before))

    return of_pair


def _raft_warping_compat(frame: Frame) -> float:
    """Return the error as EvalCrafter's released code does, for which a pair without visible pixels has none."""
    error = _raft_warping("raft_compat")(frame)
    return 0.0 if math.isnan(error) else error


def _cosine_metric(
    name: str, summary: str, network: str, output: str, of_pair: Callable[[Frame], float]
) -> VideoMetric:
    return VideoMetric(
        name=name,
        aspect="temporal_consistency",
        better="higher",
        summary=summary,
        needs=(network,),
        reads=(output,),
        start=mean_of_pairs(of_pair),
    )


TEMPORAL_CONSISTENCY = (
    VideoMetric(
        name="flicker",
        aspect="temporal_consistency",
        better="higher",
        summary="1 - mean absolute change of colours between frames; motion lowers it, too",
        start=mean_of_pairs(_flicker),
    ),
    VideoMetric(
        name="dis_warping_error",
        aspect="temporal_consistency",
        better="lower",
        summary="mean squared change that DIS flow does not explain, visible pixels, colours 0 to 1",
        start=mean_of_pairs(_dis_warping),
        version=2,
        undefined=_OCCLUDED,
    ),
    VideoMetric(
        name="raft_warping_error",
        aspect="temporal_consistency",
        better="lower",
        summary="mean squared change that RAFT flow does not explain, at half size",
        needs=("raft",),
        start=mean_of_pairs(_raft_warping("raft")),
        version=2,
        undefined=_OCCLUDED,
    ),
    VideoMetric(
        name="raft_warping_error_compat",
        aspect="temporal_consistency",
        better="lower",
        summary="raft_warping_error with frames divided by 255 twice, as EvalCrafter's released code does",
        needs=("raft",),
        start=mean_of_pairs(_raft_warping_compat),
    ),
    _cosine_metric("clip_temp", "cosine of consecutive frames in CLIP", CLIP, CLIP, with_previous(CLIP)),
    _cosine_metric(
        "clip_temp_compat",
        "clip_temp of squashed frames that are not normalised, as EvalCrafter's released code computes it",
        CLIP,
        CLIP_COMPAT,
        with_previous(CLIP_COMPAT),
    ),
    _cosine_metric(
        "clip_first_frame",
        "cosine with the first frame in CLIP (EvalCrafter's face consistency)",
        CLIP,
        CLIP,
        with_first(CLIP),
    ),
    _cosine_metric(
        "clip_first_frame_compat",
        "clip_first_frame of squashed frames that are not normalised",
        CLIP,
        CLIP_COMPAT,
        with_first(CLIP_COMPAT),
    ),
    _cosine_metric(
        "background_consistency",
        "cosines with the frame before and the first one in CLIP (VBench)",
        CLIP,
        CLIP,
        with_previous_and_first(CLIP),
    ),
    _cosine_metric(
        "subject_consistency",
        "cosines with the frame before and the first one in DINO (VBench)",
        "dino",
        "dino",
        with_previous_and_first("dino"),
    ),
    _cosine_metric(
        "tower_temp",
        "cosine of consecutive frames in the model's own image encoder",
        TOWER,
        TOWER,
        with_previous(TOWER),
    ),
    _cosine_metric(
        "efficientnet_lite0_consistency",
        "cosines with the frame before and the first one in EfficientNet-Lite0",
        FEATURES,
        FEATURES,
        with_previous_and_first(FEATURES),
    ),
)

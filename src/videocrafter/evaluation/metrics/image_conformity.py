"""The metrics of image to video: likeness of the first frame, and of all frames, to the input image."""

from __future__ import annotations

from collections.abc import Callable

from videocrafter.evaluation.metrics.clip_towers import CLIP, TOWER
from videocrafter.evaluation.metrics.consistency import with_image
from videocrafter.evaluation.metrics.efficientnet_lite import FEATURES
from videocrafter.evaluation.metrics.frame import Frame
from videocrafter.evaluation.metrics.image_likeness import pixel_likeness
from videocrafter.evaluation.metrics.running import OfFirstFrame
from videocrafter.evaluation.metrics.video_metric import Facts, VideoMetric, mean_of_frames


def _no_image(facts: Facts) -> str:
    return "" if facts.video.image is not None else "the video has no input image"


def _pair(prefix: str, how: str, of_frame: Callable[[Frame], float], network: str = "") -> tuple[VideoMetric, ...]:
    names = (network,) if network else ()
    return (
        VideoMetric(
            name=f"{prefix}_first_frame",
            aspect="image_conformity",
            better="higher",
            summary=f"likeness of the first frame to the input image, {how}",
            needs=names,
            reads=names,
            start=lambda facts: OfFirstFrame(of_frame),
            lacks=_no_image,
            version=2,
        ),
        VideoMetric(
            name=f"{prefix}_all_frames",
            aspect="image_conformity",
            better="higher",
            summary=f"likeness of all frames to the input image, {how}",
            needs=names,
            reads=names,
            start=mean_of_frames(of_frame),
            lacks=_no_image,
            version=2,
        ),
    )


IMAGE_CONFORMITY = (
    *_pair("image_pixels", "1 - root mean square difference at a short side of 64", pixel_likeness),
    *_pair("image_efficientnet_lite0", "cosine in EfficientNet-Lite0", with_image(FEATURES), FEATURES),
    *_pair("image_tower", "cosine in the model's own image encoder", with_image(TOWER), TOWER),
    *_pair("image_clip", "cosine in CLIP", with_image(CLIP), CLIP),
)

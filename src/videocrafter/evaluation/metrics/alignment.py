"""The metrics of text-video alignment."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from videocrafter.evaluation.metrics.bleu import highest_bleu, mean_bleu
from videocrafter.evaluation.metrics.captions import CaptionScore
from videocrafter.evaluation.metrics.clip_towers import CLIP, CLIP_COMPAT
from videocrafter.evaluation.metrics.clip_video_score import VideoTextCosine
from videocrafter.evaluation.metrics.consistency import with_prompt
from videocrafter.evaluation.metrics.detection import DetectedObjects, Wanted, wanted_in
from videocrafter.evaluation.metrics.drawn_images import DRAWN, mean_cosine_with_drawn
from videocrafter.evaluation.metrics.running import Running
from videocrafter.evaluation.metrics.video_metric import Facts, Start, VideoMetric, mean_of_frames, no_prompt


def _captions(score: Callable[[Sequence[str], str], float], *, reverses_colours: bool) -> Start:
    return lambda facts: CaptionScore(
        facts.networks.captioner().of_frames, score, facts.video.prompt, reverses_colours=reverses_colours
    )


def _wanted(facts: Facts) -> Wanted | None:
    return wanted_in(facts.video.prompt, facts.networks.detector().labels, facts.attributes.get("count"))


def _object_score(part: str) -> Start:
    def start(facts: Facts) -> Running:
        detector = facts.networks.detector()
        wanted = _wanted(facts)
        assert wanted is not None
        return DetectedObjects(detector, wanted, part)

    return start


def _lacks_object(part: str) -> Callable[[Facts], str]:
    def reason(facts: Facts) -> str:
        wanted = _wanted(facts)
        if wanted is None:
            return "the prompt names no object that the detector knows"
        if part == "count" and wanted.count is None:
            return "the prompt asks for no number of objects"
        return "the prompt asks for no colour" if part.startswith("colour") and wanted.colour is None else ""

    return reason


def _no_pictures(facts: Facts) -> str:
    if facts.video.prompt in facts.networks.drawn:
        return ""
    return no_prompt(facts) or "there are no pictures of the prompt"


def _object_metric(name: str, part: str, summary: str) -> VideoMetric:
    return VideoMetric(
        name=name,
        aspect="text_video_alignment",
        better="higher",
        summary=summary,
        needs=("detector",),
        start=_object_score(part),
        lacks=_lacks_object(part),
        version=2,
    )


ALIGNMENT = (
    VideoMetric(
        name="clip_score",
        aspect="text_video_alignment",
        better="higher",
        summary="cosine of prompt and frame in CLIP, mean over frames",
        needs=(CLIP,),
        reads=(CLIP,),
        start=mean_of_frames(with_prompt(CLIP)),
        lacks=no_prompt,
    ),
    VideoMetric(
        name="clip_video_score",
        aspect="text_video_alignment",
        better="higher",
        summary="cosine of the prompt and the mean of all frames in CLIP",
        needs=(CLIP,),
        reads=(CLIP,),
        start=lambda facts: VideoTextCosine(CLIP),
        lacks=no_prompt,
    ),
    VideoMetric(
        name="clip_score_compat",
        aspect="text_video_alignment",
        better="higher",
        summary="clip_score of squashed frames that are not normalised, as EvalCrafter's released code computes it",
        needs=(CLIP,),
        reads=(CLIP_COMPAT,),
        start=mean_of_frames(with_prompt(CLIP_COMPAT)),
        lacks=no_prompt,
    ),
    VideoMetric(
        name="sd_score",
        aspect="text_video_alignment",
        better="higher",
        summary="cosine of frames and pictures of the same prompt by an image model in CLIP",
        needs=(CLIP, DRAWN),
        reads=(CLIP,),
        start=mean_of_frames(mean_cosine_with_drawn(CLIP)),
        lacks=_no_pictures,
    ),
    VideoMetric(
        name="sd_score_compat",
        aspect="text_video_alignment",
        better="higher",
        summary="sd_score of frames from 0 to 255 and pictures from 0 to 1, as in EvalCrafter's released code",
        needs=(CLIP, DRAWN),
        reads=(CLIP_COMPAT,),
        start=mean_of_frames(mean_cosine_with_drawn(CLIP_COMPAT)),
        lacks=_no_pictures,
    ),
    VideoMetric(
        name="blip_bleu",
        aspect="text_video_alignment",
        better="higher",
        summary="BLEU-4 of captions of five frames against the prompt, mean",
        needs=("captioner",),
        start=_captions(mean_bleu, reverses_colours=False),
        lacks=no_prompt,
    ),
    VideoMetric(
        name="blip_bleu_compat",
        aspect="text_video_alignment",
        better="higher",
        summary="largest BLEU over captions and orders, red and blue swapped, as in EvalCrafter's released code",
        needs=("captioner",),
        start=_captions(highest_bleu, reverses_colours=True),
        lacks=no_prompt,
    ),
    _object_metric("object_presence", "presence", "share of every fifth frame in which the named object is detected"),
    _object_metric("object_count", "count", "1 - relative error of the number of objects, at least 0"),
    _object_metric("object_colour", "colour", "share of every fifth frame in which the object has the asked hue"),
    _object_metric(
        "object_colour_compat",
        "colour_compat",
        "object_colour by the plain mean of all hues in the box, as in EvalCrafter's released code",
    ),
)

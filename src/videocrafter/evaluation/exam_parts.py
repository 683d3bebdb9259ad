"""The four parts of the exam: what is made, what the judge says of it, and the numbers that come out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from videocrafter.data.sprite_world.motions import DIRECTIONS
from videocrafter.data.sprite_world.world import SpriteWorld
from videocrafter.evaluation.judging import Marks, Verdicts, judge_videos, mark
from videocrafter.evaluation.measures import (
    cosine_distance,
    moving_centers,
    pairwise_distance,
    pearson,
    rmse,
    share,
    ssim,
    velocity,
)
from videocrafter.evaluation.questions import ExamWorld, Question
from videocrafter.models.judge import VideoJudge


class MakeVideos(Protocol):
    """Makes the videos of questions: float pixels [N, T, 3, H, W] in [-1, 1]."""

    def __call__(self, questions: Sequence[Question], images: Tensor | None = None) -> Tensor:
        """``images`` [N, 3, H, W] are given to an image-to-video model, one per question."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Outcome of one part.

    Attributes:
        scores: the numbers of the report, by name.
        questions, videos, verdicts, marks: what was asked, made, seen, and right; N each.
        images: [N, 3, H, W] given images, for image to video.
    """

    scores: dict[str, float]
    questions: Sequence[Question]
    videos: Tensor
    verdicts: Verdicts
    marks: Marks
    images: Tensor | None = field(default=None)


def accuracies(marks: Marks, prefix: str = "") -> dict[str, float]:
    """The four accuracies and, as ``<name>_standard_error``, their binomial standard errors."""
    scores: dict[str, float] = {}
    for name in ("subject", "motion", "scene", "all"):
        result = share(getattr(marks, name))
        scores[f"{prefix}{name}_accuracy"] = result.value
        scores[f"{prefix}{name}_accuracy_standard_error"] = result.standard_error
    return scores


def true_clips(world: ExamWorld, questions: Sequence[Question], like: Tensor) -> Tensor:
    """The real clips of the questions, as long and as large as videos ``like`` [N, T, 3, H, W]."""
    return _renderer(world, like).render([question.script for question in questions])


def _renderer(world: ExamWorld, like: Tensor) -> SpriteWorld:
    return world.world(num_frames=like.shape[1], height=like.shape[3], width=like.shape[4])


def examined(judge: VideoJudge, questions: Sequence[Question], videos: Tensor) -> tuple[Verdicts, Marks]:
    """What the judge sees in the videos, and what of it is right."""
    verdicts = judge_videos(judge, videos)
    return verdicts, mark(verdicts, [question.script for question in questions])


def text_part(judge: VideoJudge, questions: Sequence[Question], make: MakeVideos) -> Part:
    """Subject, motion and scene of videos made from prompts."""
    videos = make(questions)
    verdicts, marks = examined(judge, questions, videos)
    return Part(scores=accuracies(marks), questions=questions, videos=videos, verdicts=verdicts, marks=marks)


def ceiling_scores(
    judge: VideoJudge,
    world: ExamWorld,
    questions: Sequence[Question],
    like: Tensor,
    reconstruct: Callable[[Tensor], Tensor] | None,
) -> dict[str, float]:
    """The judge's own accuracies on the prompts' real clips, and on the autoencoder's copies of them."""
    real = true_clips(world, questions, like)
    scores = accuracies(examined(judge, questions, real)[1], "real_")
    if reconstruct is not None:
        scores |= accuracies(examined(judge, questions, reconstruct(real))[1], "reconstructed_")
    return scores


def speed_part(judge: VideoJudge, world: ExamWorld, questions: Sequence[Question], make: MakeVideos) -> Part:
    """Measured against expected displacement per frame of straight motions, over fps and speed words.

    ``speed_correlation`` is Pearson's correlation of the measured displacement per frame with the expected
    one (the path's speed / fps). Measured is the length of the velocity that is fitted to the judge's
    centres, whatever its direction: going the wrong way is an error of motion, not of speed.
    ``real_speed_…`` says how well two ways to measure do on the real clips; the judge's centres do better.
    """
    videos = make(questions)
    verdicts, marks = examined(judge, questions, videos)
    renderer = _renderer(world, videos)
    scripts = [question.script for question in questions]
    expected = velocity(torch.as_tensor(renderer.centers(scripts), dtype=torch.float32)).norm(dim=1)
    directions = torch.tensor([DIRECTIONS[script.motion] for script in scripts])
    fps = [script.fps for script in scripts]
    moved = velocity(verdicts.centers)
    measured = moved.norm(dim=1)
    real = renderer.render(scripts)
    scores = {
        "speed_correlation": _correlation(measured, expected),
        "speed_correlation_in_asked_direction": _correlation((moved * directions).sum(dim=1), expected),
        "speed_correlation_with_1_over_fps": pearson(measured.tolist(), [1.0 / value for value in fps]),
        "speed_correlation_with_fps": pearson(measured.tolist(), fps),
        "speed_ratio_median": float((measured / expected).median()),
        "speed_motion_accuracy": share(marks.motion).value,
    }
    trackers = {"judge": judge_videos(judge, real).centers, "difference": moving_centers(real)}
    for name, centers in trackers.items():
        found = velocity(centers).norm(dim=1)
        scores[f"real_speed_correlation_by_{name}"] = _correlation(found, expected)
        scores[f"real_speed_error_by_{name}"] = float((found - expected).abs().mean())
    return Part(scores=scores, questions=questions, videos=videos, verdicts=verdicts, marks=marks)


def _correlation(measured: Tensor, expected: Tensor) -> float:
    return pearson(measured.tolist(), expected.tolist())


def given_images(world: ExamWorld, questions: Sequence[Question], like: Tensor) -> Tensor:
    """The images that image to video starts from: the first frames of the true clips, [N, 3, H, W].

    A sprite that will go left stands to the right in its first frame, so these images hint at the motion.
    """
    return true_clips(world, questions, like)[:, 0]


def image_part(
    judge: VideoJudge, questions: Sequence[Question], images: Tensor, make: MakeVideos, prefix: str
) -> Part:
    """What of a given image is kept: the judge's verdict, and the first frame's distance to the image."""
    videos = make(questions, images)
    verdicts, marks = examined(judge, questions, videos)
    scores = accuracies(marks, prefix) | image_distances(judge, questions, images, videos, verdicts, prefix)
    return Part(scores=scores, questions=questions, videos=videos, verdicts=verdicts, marks=marks, images=images)


def image_distances(
    judge: VideoJudge,
    questions: Sequence[Question],
    images: Tensor,
    videos: Tensor,
    verdicts: Verdicts,
    prefix: str,
) -> dict[str, float]:
    """Distances of first frames to their own images and to images of another subject and scene.

    ``image_distance`` is the root mean squared difference of pixels in [-1, 1] (0 to 2),
    ``image_dissimilarity`` 1 - SSIM, ``image_feature_distance`` the cosine distance of the judge's features;
    ``shuffled_…`` the same to the other images.
    """
    first = videos[:, 0]
    features = judge_videos(judge, images[:, None]).features[:, 0]
    scores: dict[str, float] = {}
    own = list(range(len(questions)))
    for name, order in (("image", own), ("shuffled", other_pictures(questions))):
        scores[f"{prefix}{name}_distance"] = float(rmse(first, images[order]).mean())
        scores[f"{prefix}{name}_dissimilarity"] = float((1.0 - ssim(first, images[order])).mean())
        distances = cosine_distance(verdicts.features[:, 0], features[order])
        scores[f"{prefix}{name}_feature_distance"] = float(distances.mean())
    return scores


def other_pictures(questions: Sequence[Question]) -> list[int]:
    """For each question the next one, in a circle, that shows another subject and scene (if any does)."""
    count = len(questions)
    scripts = [question.script for question in questions]
    order = []
    for place, own in enumerate(scripts):
        following = [(place + step) % count for step in range(1, count)]
        others = (
            other
            for other in following
            if scripts[other].subject != own.subject and scripts[other].scene != own.scene
        )
        order.append(next(others, (place + 1) % count))
    return order


def variety_part(
    judge: VideoJudge, world: ExamWorld, questions: Sequence[Question], copies: int, make: MakeVideos
) -> Part:
    """How far videos of one prompt and different seeds lie apart (root mean squared difference of pixels)."""
    videos = make(questions)
    verdicts, marks = examined(judge, questions, videos)
    real = true_clips(world, questions, videos)
    distances = [pairwise_distance(group) for group in videos.split(copies)]
    scores = {
        "variety": _mean(distances),
        "variety_smallest": min(distances),
        "real_variety": _mean([pairwise_distance(group) for group in real.split(copies)]),
    }
    return Part(scores=scores, questions=questions, videos=videos, verdicts=verdicts, marks=marks)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def video_maker(
    pipeline: Callable[..., Any],
    *,
    batch_size: int,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> MakeVideos:
    """Make videos by a public pipeline, ``batch_size`` at a time; None means the model's recommended value.

    Seeds are each question's own, so the batch size does not change what is made.
    """

    def make(questions: Sequence[Question], images: Tensor | None = None) -> Tensor:
        parts = []
        for start in range(0, len(questions), batch_size):
            some = questions[start : start + batch_size]
            pictures = {} if images is None else {"image": list(images[start : start + batch_size])}
            output = pipeline(
                prompt=[question.prompt for question in some],
                fps=[question.script.fps for question in some],
                seeds=[question.seed for question in some],
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                output_type="pt",
                **pictures,
            )
            parts.append(output.frames.float().cpu())
            if on_progress is not None:
                on_progress(len(some))
        return torch.cat(parts)

    return make

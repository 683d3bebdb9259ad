"""The four parts of the exam: generate videos, label them with the judge, compute scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from videocrafter.data.sprite_world.motions import DIRECTIONS
from videocrafter.data.sprite_world.world import SpriteWorld
from videocrafter.evaluation.correlation import pearson
from videocrafter.evaluation.exam.judging import Marks, Verdicts, judge_videos, mark
from videocrafter.evaluation.exam.measures import (
    cosine_distance,
    moving_centers,
    pairwise_distance,
    rmse,
    share,
    ssim,
    velocity,
)
from videocrafter.evaluation.exam.questions import ExamWorld, Question
from videocrafter.models.judge import VideoJudge


class MakeVideos(Protocol):
    """Generates the videos for questions: floats [N, T, 3, H, W] in [-1, 1]."""

    def __call__(self, questions: Sequence[Question], images: Tensor | None = None) -> Tensor:
        """Generate videos; `images` [N, 3, H, W] are the inputs of an image-to-video model, one per question."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """Outcome of one part.

    Attributes:
        scores: scores of the report by name.
        questions, videos, verdicts, marks: N questions, videos, labels by the judge, and their correctness.
        images: [N, 3, H, W] input images for image to video.
    """

    scores: dict[str, float]
    questions: Sequence[Question]
    videos: Tensor
    verdicts: Verdicts
    marks: Marks
    images: Tensor | None = field(default=None)


def accuracies(marks: Marks, prefix: str = "") -> dict[str, float]:
    """Return the four accuracies and, as `<name>_standard_error`, their binomial standard errors."""
    scores: dict[str, float] = {}
    for name in ("subject", "motion", "scene", "all"):
        result = share(getattr(marks, name))
        scores[f"{prefix}{name}_accuracy"] = result.value
        scores[f"{prefix}{name}_accuracy_standard_error"] = result.standard_error
    return scores


def true_clips(world: ExamWorld, questions: Sequence[Question], like: Tensor) -> Tensor:
    """Return the real clips of the questions, with the length and size of the videos `like` [N, T, 3, H, W]."""
    return _renderer(world, like).render([question.script for question in questions])


def _renderer(world: ExamWorld, like: Tensor) -> SpriteWorld:
    return world.world(num_frames=like.shape[1], height=like.shape[3], width=like.shape[4])


def examined(judge: VideoJudge, questions: Sequence[Question], videos: Tensor) -> tuple[Verdicts, Marks]:
    """Return the judge's labels of videos, and their correctness."""
    verdicts = judge_videos(judge, videos)
    return verdicts, mark(verdicts, [question.script for question in questions])


def text_part(judge: VideoJudge, questions: Sequence[Question], make: MakeVideos) -> Part:
    """Measure subject, motion and scene of videos generated from prompts."""
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
    """Return the judge's accuracies on the real clips and on their reconstructions by the autoencoder."""
    real = true_clips(world, questions, like)
    scores = accuracies(examined(judge, questions, real)[1], "real_")
    if reconstruct is not None:
        scores |= accuracies(examined(judge, questions, reconstruct(real))[1], "reconstructed_")
    return scores


def speed_part(judge: VideoJudge, world: ExamWorld, questions: Sequence[Question], make: MakeVideos) -> Part:
    """Compare measured and expected displacement per frame of straight motions, over fps and speed words.

    `speed_correlation` is Pearson's correlation of the measured displacement per frame with the expected one (speed
    of the path / fps). The measured one is the norm of the velocity fitted to the judge's centres. Its direction is
    ignored: a wrong direction is an error of motion, not of speed. `real_speed_…` compares two trackers on the real
    clips; the judge's centres are more accurate.
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
    """Return the input images for image to video: the first frames of the real clips, [N, 3, H, W].

    A sprite that will move left starts on the right, so these images hint at the motion.
    """
    return true_clips(world, questions, like)[:, 0]


def image_part(
    judge: VideoJudge, questions: Sequence[Question], images: Tensor, make: MakeVideos, prefix: str
) -> Part:
    """Measure how well videos preserve their input images: accuracies, and distances of first frames."""
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
    """Return distances of first frames to their input images, and to images of another subject and scene.

    `image_distance` is the root-mean-square difference of pixels in [-1, 1] (0 to 2), `image_dissimilarity` is
    1 - SSIM, and `image_feature_distance` is the cosine distance of the judge's features. `shuffled_…` are the same
    distances to the other images.
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
    """Return for each question the index of the next one, cyclically, with another subject and scene if possible."""
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
    """Measure the distance between videos of one prompt with different seeds (root-mean-square pixel difference)."""
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
    """Return a function that generates videos with a public pipeline, in batches.

    Each question has its own seed, so the batch size does not affect the videos. None means the model's recommended
    value.
    """

    def make(questions: Sequence[Question], images: Tensor | None = None) -> Tensor:
        parts = []
        for start in range(0, len(questions), batch_size):
            some = questions[start : start + batch_size]
            pictures = {} if images is None else {"image": list((images[start : start + batch_size] + 1) / 2)}
            output = pipeline(
                prompt=[question.prompt for question in some],
                fps=[question.script.fps for question in some],
                seeds=[question.seed for question in some],
                num_inference_steps=num_inference_steps,
                guidance_scale=guidance_scale,
                output_type="pt",
                **pictures,
            )
            parts.append(output.frames.float().cpu() * 2 - 1)
            if on_progress is not None:
                on_progress(len(some))
        return torch.cat(parts)

    return make

"""The four parts of the exam: generate videos, label them with the judges, compute scores."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from videocrafter.data.sprite_world.motions import DIRECTIONS
from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld
from videocrafter.evaluation.exam import estimates
from videocrafter.evaluation.exam.appearance import Appearance, appearance
from videocrafter.evaluation.exam.clips import ChangedClips, Clips, RealClips, in_batches
from videocrafter.evaluation.exam.judging import Marks, Verdicts, judge_videos, mark
from videocrafter.evaluation.exam.measures import (
    cosine_distance,
    moving_centers,
    pairwise_distance,
    rmse,
    ssim,
    velocity,
)
from videocrafter.evaluation.exam.questions import ExamWorld, Question, other_takes
from videocrafter.evaluation.exam.video_store import StoredVideos, fingerprint
from videocrafter.evaluation.metrics.distances import TooFewSamplesError
from videocrafter.evaluation.uncertainty import Estimate
from videocrafter.models.judge import VideoJudge, named_subjects

Scores = dict[str, Estimate]


class MakeVideos(Protocol):
    """Generates the videos of questions."""

    def __call__(self, part: str, questions: Sequence[Question], images: Tensor | None = None) -> Clips:
        """Generate videos; `images` [N, 3, H, W] are the inputs of an image-to-video model, one per question."""


@dataclass(frozen=True, kw_only=True)
class Judges:
    """The judge of subjects, motions and scenes, and a second one of subjects, which may be absent."""

    first: VideoJudge
    second: VideoJudge | None = None


@dataclass(frozen=True, kw_only=True)
class Part:
    """Outcome of one part.

    Attributes:
        scores: scores of the report by name.
        questions, videos, verdicts, marks: N questions, videos, labels by the judge, and their correctness.
        second: N subjects by the second judge.
        images: [N, 3, H, W] input images for image to video.
        reasons: why a score is missing, by its name.
    """

    scores: Scores
    questions: Sequence[Question]
    videos: Clips
    verdicts: Verdicts
    marks: Marks
    second: Sequence[str] | None = None
    images: Tensor | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Examined:
    """Labels of N clips, their correctness, the accuracies, and measurements of their pixels."""

    verdicts: Verdicts
    marks: Marks
    second: Sequence[str] | None
    scores: Scores
    looks: Appearance


def examine(judges: Judges, scripts: Sequence[SceneScript], clips: Clips, prefix: str = "") -> Examined:
    """Label and measure clips in one pass. The names of the accuracies begin with `prefix`."""
    labels, looks, second = [], [], []
    for batch in in_batches(clips):
        labels.append(judge_videos(judges.first, batch))
        looks.append(appearance(batch))
        if judges.second is not None:
            second += named_subjects(judges.second, batch.to(judges.second.device))
    verdicts = Verdicts.joined(labels)
    marks = mark(verdicts, scripts)
    scores = {
        f"{prefix}{name}_accuracy": estimates.shares(getattr(marks, name))
        for name in ("subject", "motion", "scene", "all")
    }
    if judges.second is not None:
        right = [seen == script.subject for seen, script in zip(second, scripts, strict=True)]
        scores[f"{prefix}second_subject_accuracy"] = estimates.shares(right)
    return Examined(
        verdicts=verdicts, marks=marks, second=second or None, scores=scores, looks=Appearance.joined(looks)
    )


def scripts_of(questions: Sequence[Question]) -> list[SceneScript]:
    """Return the scripts of the questions' real clips."""
    return [question.script for question in questions]


def renderer(world: ExamWorld, like: Clips) -> SpriteWorld:
    """Return a world whose clips have the length and size of other clips."""
    frames, _, height, width = like[0:1].shape[1:]
    return world.world(num_frames=frames, height=height, width=width)


def text_part(
    judges: Judges,
    world: ExamWorld,
    questions: Sequence[Question],
    videos: Clips,
    reconstruct: Callable[[Tensor], Tensor] | None,
) -> Part:
    """Measure videos generated from prompts, the real clips of the same prompts, and their reconstructions.

    `sharpness_ratio` and `edge_energy_ratio` are relative to the real clips. `still_flicker` is the mean change
    between frames, in grey levels, where the prompt asks for standing still; it is 0 in real clips.
    `frechet_video_distance` is between the judge's logits of the videos and of the real clips; for `real_…`, of other
    real clips of the same prompts, which is the floor.
    """
    scripts = scripts_of(questions)
    source = renderer(world, videos)
    real = RealClips(source, scripts)
    ours, theirs = examine(judges, scripts, videos), examine(judges, scripts, real, "real_")
    scores = ours.scores | theirs.scores | _appearance_scores(scripts, ours.looks, theirs.looks)
    if reconstruct is not None:
        prefix = "reconstructed_"
        rebuilt = examine(judges, scripts, ChangedClips(real, reconstruct), prefix)
        scores |= rebuilt.scores | _appearance_scores(scripts, rebuilt.looks, theirs.looks, prefix)
    takes = judge_videos(judges.first, RealClips(source, other_takes(questions)))
    reasons = {}
    distances = {"frechet_video_distance": ours.verdicts, "real_frechet_video_distance": takes}
    try:
        scores |= {name: _frechet(verdicts, theirs.verdicts) for name, verdicts in distances.items()}
    except TooFewSamplesError as error:
        reasons = dict.fromkeys(distances, str(error))
    return Part(
        scores=scores,
        questions=questions,
        videos=videos,
        verdicts=ours.verdicts,
        marks=ours.marks,
        second=ours.second,
        reasons=reasons,
    )


def _frechet(verdicts: Verdicts, real: Verdicts) -> Estimate:
    return estimates.frechet(verdicts.logits.numpy(), real.logits.numpy())


def _appearance_scores(
    scripts: Sequence[SceneScript], ours: Appearance, real: Appearance, prefix: str = ""
) -> Scores:
    still = [index for index, script in enumerate(scripts) if script.motion == "still"]
    scores = {
        "sharpness_ratio": estimates.ratio(ours.laplacian, real.laplacian),
        "edge_energy_ratio": estimates.ratio(ours.edges, real.edges),
        "still_flicker": estimates.mean(ours.flicker[still]),
    }
    return {prefix + name: score for name, score in scores.items()}


def speed_part(judges: Judges, world: ExamWorld, questions: Sequence[Question], videos: Clips) -> Part:
    """Compare measured and expected displacement per frame of straight motions, over fps and speed words.

    `speed_correlation` is Pearson's correlation of the measured displacement per frame with the expected one (speed
    of the path / fps). The measured one is the norm of the velocity fitted to the judge's centres. Its direction is
    ignored: a wrong direction is an error of motion, not of speed. `real_speed_…` compares two trackers on the real
    clips; the judge's centres are more accurate.
    """
    scripts, source = scripts_of(questions), renderer(world, videos)
    ours = examine(judges, scripts, videos)
    expected = velocity(torch.as_tensor(source.centers(scripts), dtype=torch.float32)).norm(dim=1)
    directions = torch.tensor([DIRECTIONS[script.motion] for script in scripts])
    fps = torch.tensor([script.fps for script in scripts])
    moved = velocity(ours.verdicts.centers)
    measured = moved.norm(dim=1)
    scores = {
        "speed_correlation": estimates.correlation(measured, expected),
        "speed_correlation_in_asked_direction": estimates.correlation((moved * directions).sum(dim=1), expected),
        "speed_correlation_with_1_over_fps": estimates.correlation(measured, 1.0 / fps),
        "speed_correlation_with_fps": estimates.correlation(measured, fps),
        "speed_ratio_median": estimates.median(measured / expected),
        "speed_motion_accuracy": ours.scores["motion_accuracy"],
    }
    real = RealClips(source, scripts)
    difference = torch.cat([moving_centers(batch) for batch in in_batches(real)])
    for name, centers in (("judge", judge_videos(judges.first, real).centers), ("difference", difference)):
        found = velocity(centers).norm(dim=1)
        scores[f"real_speed_correlation_by_{name}"] = estimates.correlation(found, expected)
        scores[f"real_speed_error_by_{name}"] = estimates.mean((found - expected).abs())
    return Part(scores=scores, questions=questions, videos=videos, verdicts=ours.verdicts, marks=ours.marks)


def given_images(source: SpriteWorld, questions: Sequence[Question]) -> Tensor:
    """Return the input images for image to video: the first frames of the real clips, [N, 3, H, W].

    A sprite that will move left starts on the right, so these images hint at the motion.
    """
    return _first_frames(RealClips(source, scripts_of(questions)))


def _first_frames(clips: Clips) -> Tensor:
    return torch.cat([batch[:, 0] for batch in in_batches(clips)])


def image_part(judges: Judges, questions: Sequence[Question], images: Tensor, videos: Clips, prefix: str) -> Part:
    """Measure how well videos preserve their input images: accuracies, and distances of first frames."""
    ours = examine(judges, scripts_of(questions), videos, prefix)
    scores = ours.scores | image_distances(judges.first, questions, images, videos, ours.verdicts, prefix)
    return Part(
        scores=scores,
        questions=questions,
        videos=videos,
        verdicts=ours.verdicts,
        marks=ours.marks,
        second=ours.second,
        images=images,
    )


def image_distances(
    judge: VideoJudge,
    questions: Sequence[Question],
    images: Tensor,
    videos: Clips,
    verdicts: Verdicts,
    prefix: str,
) -> Scores:
    """Return distances of first frames to their input images, and to images of another subject and scene.

    `image_distance` is the root-mean-square difference of pixels in [-1, 1] (0 to 2), `image_dissimilarity` is
    1 - SSIM, and `image_feature_distance` is the cosine distance of the judge's features. `shuffled_…` are the same
    distances to the other images.
    """
    first = _first_frames(videos)
    features = judge_videos(judge, images[:, None]).features[:, 0]
    scores: Scores = {}
    own = list(range(len(questions)))
    for name, order in (("image", own), ("shuffled", other_pictures(questions))):
        scores[f"{prefix}{name}_distance"] = estimates.mean(rmse(first, images[order]))
        scores[f"{prefix}{name}_dissimilarity"] = estimates.mean(1.0 - ssim(first, images[order]))
        distances = cosine_distance(verdicts.features[:, 0], features[order])
        scores[f"{prefix}{name}_feature_distance"] = estimates.mean(distances)
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


def variety_part(judges: Judges, world: ExamWorld, questions: Sequence[Question], copies: int, videos: Clips) -> Part:
    """Measure the distance between videos of one prompt with different seeds (root-mean-square pixel difference)."""
    ours = examine(judges, scripts_of(questions), videos)
    real = RealClips(renderer(world, videos), scripts_of(questions))
    distances = [pairwise_distance(group) for group in in_batches(videos, copies)]
    smallest = min(distances)
    scores = {
        "variety": estimates.mean(distances),
        "variety_smallest": Estimate(
            value=smallest, low=None, high=None, num_prompts=len(distances), num_videos=len(questions)
        ),
        "real_variety": estimates.mean([pairwise_distance(group) for group in in_batches(real, copies)]),
    }
    return Part(scores=scores, questions=questions, videos=videos, verdicts=ours.verdicts, marks=ours.marks)


def video_maker(
    pipeline: Callable[..., Any],
    identity: Mapping[str, Any],
    folder: Callable[[str], Path],
    *,
    batch_size: int,
    num_inference_steps: int | None = None,
    guidance_scale: float | None = None,
    on_generated: Callable[[int], None] = lambda videos: None,
    on_found: Callable[[int], None] = lambda videos: None,
) -> MakeVideos:
    """Return a function that generates videos with a public pipeline, in batches, and keeps finished ones on disk.

    Each question has its own seed, so the batch size does not affect the videos. None means the model's recommended
    value.

    Args:
        identity: everything else that determines the videos, apart from their questions and these settings.
        folder: returns the folder of a part's videos.
        on_generated: called after every batch with its number of videos.
        on_found: called with the number of videos of a part that were on disk.
    """
    chosen = {"num_inference_steps": num_inference_steps, "guidance_scale": guidance_scale}

    def make(part: str, questions: Sequence[Question], images: Tensor | None = None) -> Clips:
        fingerprints = [
            fingerprint(
                {**identity, **chosen, "prompt": one.prompt, "seed": one.seed, "fps": one.script.fps},
                None if images is None else images[number],
            )
            for number, one in enumerate(questions)
        ]
        videos = StoredVideos(folder(part), fingerprints)
        waiting = videos.missing()
        if len(waiting) < len(questions):
            on_found(len(questions) - len(waiting))
        for start in range(0, len(waiting), batch_size):
            numbers = waiting[start : start + batch_size]
            some = [questions[number] for number in numbers]
            pictures = {} if images is None else {"image": list((images[numbers] + 1) / 2)}
            output = pipeline(
                prompt=[question.prompt for question in some],
                fps=[question.script.fps for question in some],
                seeds=[question.seed for question in some],
                output_type="pt",
                **chosen,
                **pictures,
            )
            for number, frames in zip(numbers, output.frames, strict=True):
                videos.write(number, frames.float().cpu() * 2 - 1)
            on_generated(len(some))
        return videos

    return make

"""The exam of models trained on the sprite world: `videocrafter evaluate tiny`.

Protocol: prompts describe held-out combinations of subject, motion and scene, balanced over motions and subjects, in
the world's varied wording. The public pipelines generate videos with the model's recommended settings and fixed
seeds. An independently trained classifier, the judge, labels each video without seeing the prompt. The judge's score
on the real clips of the same prompts is the ceiling. `parts.py` defines each score.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from videocrafter import __version__
from videocrafter.data.sprite_world.world import MOTIONS
from videocrafter.evaluation.exam.judging import load_judge
from videocrafter.evaluation.exam.measures import confusions, shares_by
from videocrafter.evaluation.exam.parts import (
    Part,
    ceiling_scores,
    given_images,
    image_part,
    speed_part,
    text_part,
    variety_part,
    video_maker,
)
from videocrafter.evaluation.exam.questions import ExamWorld, Questions
from videocrafter.evaluation.exam.report import check_report_folder, write_report
from videocrafter.evaluation.model_identity import describe_model
from videocrafter.models.autoencoder import decode_video, encode_video
from videocrafter.models.judge import VideoJudge
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline

_VERSION = 1  # raised whenever an answer or a score changes

Progress = Callable[[int, int], None]
"""Called after every batch with (videos generated, total number of videos)."""


@dataclass(frozen=True, kw_only=True)
class ExamConfig:
    """Size and contents of the exam.

    Attributes:
        num_prompts: number of videos from prompts, for the accuracies.
        num_speed_prompts: number of videos for the speed; 18 cover every fps and speed word once.
        num_images: number of input images. Each is used twice: with a prompt that names only the motion, and with a
            full caption.
        num_variety_prompts, num_variety_seeds: number of repeated prompts, and of videos per prompt.
        fps: fps condition, except where speed is measured.
        seed: determines prompts, images and video seeds.
        batch_size: videos per batch; does not affect the results.
        num_inference_steps, guidance_scale: None uses the model's recommended values.
        world: subjects, motions and scenes to examine.
    """

    num_prompts: int = 240
    num_speed_prompts: int = 108
    num_images: int = 96
    num_variety_prompts: int = 12
    num_variety_seeds: int = 4
    fps: float = 8.0
    seed: int = 0
    batch_size: int = 8
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    world: ExamWorld = field(default_factory=ExamWorld)

    def __post_init__(self) -> None:
        if self.num_prompts < 1:
            raise ValueError(f"num_prompts is {self.num_prompts}, expected 1 or more")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}, expected 0 or more")
        if min(self.num_speed_prompts, self.num_images, self.num_variety_prompts) < 0:
            raise ValueError(
                f"num_speed_prompts, num_images and num_variety_prompts are {self.num_speed_prompts}, "
                f"{self.num_images} and {self.num_variety_prompts}, expected 0 (to skip a part) or more"
            )
        if self.num_variety_seeds < 2:
            raise ValueError(f"num_variety_seeds is {self.num_variety_seeds}, expected 2 or more")
        if self.batch_size < 1:
            raise ValueError(f"batch_size is {self.batch_size}, expected 1 or more")

    @classmethod
    def quick(cls) -> ExamConfig:
        """Return a config for about a tenth of the full exam."""
        return cls(num_prompts=28, num_speed_prompts=18, num_images=8, num_variety_prompts=2, num_variety_seeds=2)

    def num_videos(self, *, t2v: bool, i2v: bool) -> int:
        """Return the number of videos to generate for these models."""
        text = self.num_prompts + self.num_speed_prompts + self.num_variety_prompts * self.num_variety_seeds
        return text * t2v + 2 * self.num_images * i2v


def run_exam(
    output: Path,
    t2v: TextToVideoPipeline | None,
    i2v: ImageToVideoPipeline | None = None,
    *,
    config: ExamConfig | None = None,
    judge: VideoJudge | None = None,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Examine a text-to-video model, an image-to-video model, or both.

    Args:
        output: folder for report.json, report.md, answers.jsonl and the contact sheets.
        t2v, i2v: the models; None skips the parts of that model.
        config: size and contents of the exam.
        judge: None uses the shipped one.
        overwrite: replace an existing report in `output`.
        on_progress: called after every batch.

    Returns:
        Contents of report.json, without the scores of skipped parts.

    Raises:
        OutputExistsError: `output` contains a report.
        ValueError: no model was given.
    """
    if t2v is None and i2v is None:
        raise ValueError("t2v and i2v are None, expected at least one pipeline")
    config = config or ExamConfig()
    output = check_report_folder(Path(output), overwrite=overwrite)
    judge = load_judge() if judge is None else judge
    clock = time.perf_counter()
    count = _Count(config.num_videos(t2v=t2v is not None, i2v=i2v is not None), on_progress)
    parts, scores = _answers(config, judge, t2v, i2v, count.add)
    report: dict[str, Any] = {
        "protocol": _protocol(config, judge),
        **scores,
        **_tables(parts),
        "num_videos": count.total,
        "settings": asdict(config),
        "models": {
            name: describe_model(model)
            for name, model in (("t2v", t2v), ("i2v", i2v), ("judge", judge))
            if model is not None
        },
        "versions": _versions(),
        "seconds": time.perf_counter() - clock,
    }
    write_report(output, report, parts, copies=config.num_variety_seeds)
    return report


def _answers(
    config: ExamConfig,
    judge: VideoJudge,
    t2v: TextToVideoPipeline | None,
    i2v: ImageToVideoPipeline | None,
    on_progress: Callable[[int], None],
) -> tuple[dict[str, Part], dict[str, float]]:
    """Return all parts by name, and all scores."""
    world, questions = config.world, Questions(config.world, config.seed)
    settings: dict[str, Any] = {
        "batch_size": config.batch_size,
        "num_inference_steps": config.num_inference_steps,
        "guidance_scale": config.guidance_scale,
        "on_progress": on_progress,
    }
    parts: dict[str, Part] = {}
    ceiling: dict[str, float] = {}
    if t2v is not None:
        make = video_maker(t2v, **settings)
        parts["text"] = text_part(judge, questions.text(config.num_prompts, config.fps), make)
        ceiling = ceiling_scores(judge, world, parts["text"].questions, parts["text"].videos, _reconstruction(t2v))
        if speed_questions := questions.speed(config.num_speed_prompts):
            parts["speed"] = speed_part(judge, world, speed_questions, make)
        if repeated := questions.variety(config.num_variety_prompts, config.num_variety_seeds, config.fps):
            parts["variety"] = variety_part(judge, world, repeated, config.num_variety_seeds, make)
    if i2v is not None and config.num_images:
        make = video_maker(i2v, **settings)
        motion_only, full = questions.image(config.num_images, config.fps)
        defaults = i2v.generation_defaults
        images = given_images(world, full, torch.empty(1, defaults.num_frames, 3, defaults.height, defaults.width))
        parts["i2v"] = image_part(judge, motion_only, images, make, "i2v_")
        parts["i2v_full"] = image_part(judge, full, images, make, "i2v_full_caption_")
    scores = {name: value for part in parts.values() for name, value in part.scores.items()}
    return parts, scores | ceiling


def _reconstruction(pipeline: TextToVideoPipeline) -> Callable[[Tensor], Tensor] | None:
    """Return a function that encodes and decodes videos with the pipeline's autoencoder, or None."""
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        return None

    @torch.no_grad()
    def reconstruct(videos: Tensor) -> Tensor:
        latents = encode_video(vae, videos.to(vae.device, vae.dtype), sample=False)
        return decode_video(vae, latents).float().clamp(-1.0, 1.0).cpu()

    return reconstruct


def _tables(parts: dict[str, Part]) -> dict[str, Any]:
    """Return accuracies per motion, subject, scene and speed, and the confusions."""
    part = parts.get("text") or parts.get("i2v")
    if part is None:
        return {}
    scripts = [question.script for question in part.questions]
    asked = {
        "motion": [script.motion for script in scripts],
        "subject": [script.subject for script in scripts],
        "scene": [script.scene for script in scripts],
        "speed": [script.speed for script in scripts],
    }
    seen = {"motion": part.verdicts.motions, "subject": part.verdicts.subjects, "scene": part.verdicts.scenes}
    tables: dict[str, Any] = {}
    for group, names in asked.items():
        columns = {
            what: shares_by(names, getattr(part.marks, what)) for what in ("subject", "motion", "scene", "all")
        }
        rows = sorted(set(names), key=lambda name: (MOTIONS.index(name) if group == "motion" else 0, name))
        tables[group] = {
            name: {
                "count": columns["all"][name].count,
                **{what: columns[what][name].value for what in columns},
            }
            for name in rows
        }
    return {
        "per": tables,
        "confusions": {what: confusions(asked[what], seen[what]) for what in ("subject", "motion", "scene")},
    }


class _Count:
    """Counts generated videos and reports progress."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self.total, self.done, self._on_progress = total, 0, on_progress

    def add(self, videos: int) -> None:
        self.done += videos
        if self._on_progress is not None:
            self._on_progress(self.done, self.total)


def _protocol(config: ExamConfig, judge: VideoJudge) -> dict[str, Any]:
    """Return the identity of the exam: two reports are comparable only if their hashes are equal."""
    settings = asdict(config)
    for name in ("batch_size", "num_inference_steps", "guidance_scale"):  # belong to the model that is examined
        del settings[name]
    content = [_VERSION, settings, describe_model(judge)["weights_sha256"]]
    digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return {"name": "exam", "version": _VERSION, "sha256": digest}


def _versions() -> dict[str, str]:
    others = {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")}
    return {"videocrafter": __version__, "python": platform.python_version(), **others}

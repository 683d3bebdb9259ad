"""The exam for models of the sprite world: `videocrafter evaluate tiny`.

Protocol: prompts name held-out combinations of subject, motion and scene, balanced over motions and subjects, in
varied wording. The public pipelines generate the videos with the model's default settings and fixed seeds. A judge
that shares no network with the model and never sees a prompt classifies each video. Its score on real clips of the
same prompts is the ceiling. `exam_parts.py` defines each score.
"""

from __future__ import annotations

import hashlib
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter import __version__
from videocrafter.data.sprite_world.world import MOTIONS
from videocrafter.evaluation.exam_parts import (
    Part,
    ceiling_scores,
    given_images,
    image_part,
    speed_part,
    text_part,
    variety_part,
    video_maker,
)
from videocrafter.evaluation.judging import load_judge
from videocrafter.evaluation.measures import confusions, shares_by
from videocrafter.evaluation.questions import ExamWorld, Questions
from videocrafter.evaluation.report import check_report_folder, write_report
from videocrafter.models.autoencoder import decode_video, encode_video
from videocrafter.models.judge import VideoJudge
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline

Progress = Callable[[int, int], None]
"""Called after every batch with (videos generated, total number of videos)."""


@dataclass(frozen=True, kw_only=True)
class ExamConfig:
    """Length and content of an exam.

    Attributes:
        num_prompts: prompts for the accuracies.
        num_speed_prompts: prompts for the speed; 18 cover each combination of fps and speed word once.
        num_images: conditioning images; each is used twice, with the motion alone as prompt and with a full caption.
        num_variety_prompts, num_variety_seeds: number of repeated prompts, and seeds for each.
        fps: motion speed of all videos except those that measure speed.
        seed: determines prompts, images and the seeds of the videos.
        batch_size: videos generated at a time; results do not depend on it.
        num_inference_steps, guidance_scale: None for the model's defaults.
        world: subjects, motions and scenes to draw from.
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
            raise ValueError(f"num_prompts is {self.num_prompts}; it must be at least 1")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; it must be at least 0")
        if min(self.num_speed_prompts, self.num_images, self.num_variety_prompts) < 0:
            raise ValueError("the numbers of prompts and images must not be negative; 0 skips a part of the exam")
        if self.num_variety_seeds < 2 or self.batch_size < 1:
            raise ValueError("num_variety_seeds must be at least 2 and batch_size at least 1")

    @classmethod
    def quick(cls) -> ExamConfig:
        """Return a config of about a tenth of the full exam."""
        return cls(num_prompts=28, num_speed_prompts=18, num_images=8, num_variety_prompts=2, num_variety_seeds=2)

    def num_videos(self, *, t2v: bool, i2v: bool) -> int:
        """Number of videos in the exam of these kinds of model."""
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
        t2v, i2v: the models; None skips the parts for that kind of model.
        config: length and content of the exam.
        judge: None for the shipped judge.
        overwrite: replace a report in ``output``.
        on_progress: called after every batch.

    Returns:
        The content of report.json; scores that were not measured are absent.

    Raises:
        OutputExistsError: ``output`` contains a report and ``overwrite`` is False.
        ValueError: neither model was given.
    """
    if t2v is None and i2v is None:
        raise ValueError("no model to examine; pass a text-to-video or an image-to-video pipeline, or both")
    config = config or ExamConfig()
    output = check_report_folder(Path(output), overwrite=overwrite)
    judge = load_judge() if judge is None else judge
    clock = time.perf_counter()
    count = _Count(config.num_videos(t2v=t2v is not None, i2v=i2v is not None), on_progress)
    parts, scores = _answers(config, judge, t2v, i2v, count.add)
    report: dict[str, Any] = {
        **scores,
        **_tables(parts),
        "num_videos": count.total,
        "settings": asdict(config),
        "models": {
            name: _description(model)
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
    """Run all parts; return them by name, and all scores."""
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
    """A function that encodes and decodes videos with the pipeline's autoencoder; None if it has none."""
    vae = getattr(pipeline, "vae", None)
    if vae is None:
        return None

    @torch.no_grad()
    def reconstruct(videos: Tensor) -> Tensor:
        latents = encode_video(vae, videos.to(vae.device, vae.dtype), sample=False)
        return decode_video(vae, latents).float().clamp(-1.0, 1.0).cpu()

    return reconstruct


def _tables(parts: dict[str, Part]) -> dict[str, Any]:
    """Accuracies per motion, subject, scene and speed, and the judge's confusions."""
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
    """Counter of generated videos that reports each new total."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self.total, self.done, self._on_progress = total, 0, on_progress

    def add(self, videos: int) -> None:
        self.done += videos
        if self._on_progress is not None:
            self._on_progress(self.done, self.total)


def _description(model: Any) -> dict[str, Any]:
    """A model's fingerprint (SHA-256 over all weights by name), size and default settings."""
    networks = {"": model} if isinstance(model, nn.Module) else dict(getattr(model, "components", {}))
    digest, num_parameters = hashlib.sha256(), 0
    for name, network in sorted(networks.items()):
        if not isinstance(network, nn.Module):
            continue
        for key, tensor in sorted(network.state_dict().items()):
            digest.update(f"{name}.{key}{tuple(tensor.shape)}".encode())
            digest.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
        num_parameters += sum(parameter.numel() for parameter in network.parameters())
    described: dict[str, Any] = {"weights_sha256": digest.hexdigest(), "num_parameters": num_parameters}
    if hasattr(model, "generation_defaults"):
        described["defaults"] = asdict(model.generation_defaults)
    return described


def _versions() -> dict[str, str]:
    others = {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")}
    return {"videocrafter": __version__, "python": platform.python_version(), **others}

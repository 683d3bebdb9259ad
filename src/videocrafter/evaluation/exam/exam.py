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
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
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
    Judges,
    MakeVideos,
    Part,
    given_images,
    image_part,
    speed_part,
    text_part,
    variety_part,
    video_maker,
)
from videocrafter.evaluation.exam.questions import ExamWorld, Questions
from videocrafter.evaluation.exam.report import VIDEOS, check_report_folder, write_report
from videocrafter.evaluation.model_identity import describe_model
from videocrafter.models.autoencoder import decode_video, encode_video
from videocrafter.models.judge import VideoJudge
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline

_VERSION = 2  # raised whenever an answer or a score changes

Progress = Callable[[int, int], None]
"""Called after every batch with (videos generated, total number of videos)."""


@dataclass(frozen=True, kw_only=True)
class ExamConfig:
    """Size and contents of the exam.

    Attributes:
        num_prompts: number of videos from prompts, for the accuracies.
        num_speed_prompts: number of videos for the speed; 12 cover every fps and speed word once.
        num_images: number of input images. Each is used twice: with a prompt that names only the motion, and with a
            full caption.
        num_variety_prompts, num_variety_seeds: number of repeated prompts, and of videos per prompt.
        fps: fps condition, except where speed is measured.
        seed: determines prompts, images and video seeds.
        batch_size: videos per batch; does not affect the results.
        num_inference_steps, guidance_scale: None uses the model's recommended values.
        world: subjects, motions and scenes to examine, and their sizes; None for the world of the judge.
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
    world: ExamWorld | None = None

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
        return cls(num_prompts=28, num_speed_prompts=24, num_images=8, num_variety_prompts=2, num_variety_seeds=2)

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
    second_judge: VideoJudge | None = None,
    overwrite: bool = False,
    on_progress: Progress | None = None,
) -> dict[str, Any]:
    """Examine a text-to-video model, an image-to-video model, or both.

    Finished videos are kept in `output`; after an interruption, the same call generates only the missing ones.

    Args:
        output: folder for report.json, report.html, report.md, answers.jsonl, the contact sheets and the videos.
        t2v, i2v: the models; None skips the parts of that model.
        config: size and contents of the exam.
        judge: None uses the shipped one.
        second_judge: labels subjects once more; None skips this.
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
    judges = Judges(first=load_judge() if judge is None else judge, second=second_judge)
    config = config or ExamConfig()
    config = replace(config, world=config.world or ExamWorld.of_judge(judges.first))
    output = check_report_folder(Path(output), overwrite=overwrite)
    clock = time.perf_counter()
    count = _Count(config.num_videos(t2v=t2v is not None, i2v=i2v is not None), on_progress)
    models = {"t2v": t2v, "i2v": i2v, "judge": judges.first, "second_judge": judges.second}
    described = {name: describe_model(model) for name, model in models.items() if model is not None}
    parts = _Exam(config, judges, output / VIDEOS, described, count).parts(t2v, i2v)
    scores = {name: score for part in parts.values() for name, score in part.scores.items()}
    report: dict[str, Any] = {
        "protocol": exam_protocol(config, described),
        **{name: score.value for name, score in scores.items()},
        "intervals": {
            name: {"low": score.low, "high": score.high, "num_prompts": score.num_prompts}
            for name, score in scores.items()
        },
        "not_measured": {name: reason for part in parts.values() for name, reason in part.reasons.items()},
        **_tables(parts),
        **count.numbers(),
        "settings": asdict(config),
        "models": described,
        "versions": _versions(),
        "seconds": time.perf_counter() - clock,
    }
    write_report(output, report, parts, copies=config.num_variety_seeds)
    return report


class _Exam:
    """Generates and examines all parts of an exam."""

    def __init__(
        self,
        config: ExamConfig,
        judges: Judges,
        folder: Path,
        described: Mapping[str, Any],
        count: _Count,
    ) -> None:
        assert config.world is not None
        self._config, self._judges, self._world = config, judges, config.world
        self._folder, self._described, self._count = folder, described, count
        self._questions = Questions(config.world, config.seed)

    def parts(self, t2v: TextToVideoPipeline | None, i2v: ImageToVideoPipeline | None) -> dict[str, Part]:
        """Return all parts by name."""
        return self._text_parts(t2v) | self._image_parts(i2v)

    def _text_parts(self, t2v: TextToVideoPipeline | None) -> dict[str, Part]:
        if t2v is None:
            return {}
        config, judges, world = self._config, self._judges, self._world
        make = self._maker(t2v, "t2v")
        asked = self._questions.text(config.num_prompts, config.fps)
        parts = {"text": text_part(judges, world, asked, make("text", asked), _reconstruction(t2v))}
        if asked := self._questions.speed(config.num_speed_prompts):
            parts["speed"] = speed_part(judges, world, asked, make("speed", asked))
        copies = config.num_variety_seeds
        if asked := self._questions.variety(config.num_variety_prompts, copies, config.fps):
            parts["variety"] = variety_part(judges, world, asked, copies, make("variety", asked))
        return parts

    def _image_parts(self, i2v: ImageToVideoPipeline | None) -> dict[str, Part]:
        if i2v is None or not self._config.num_images:
            return {}
        make, sizes = self._maker(i2v, "i2v"), i2v.generation_defaults
        motion_only, full = self._questions.image(self._config.num_images, self._config.fps)
        source = self._world.world(num_frames=sizes.num_frames, height=sizes.height, width=sizes.width)
        images = given_images(source, full)
        return {
            name: image_part(self._judges, asked, images, make(name, asked, images), prefix)
            for name, asked, prefix in (("i2v", motion_only, "i2v_"), ("i2v_full", full, "i2v_full_caption_"))
        }

    def _maker(self, pipeline: Any, name: str) -> MakeVideos:
        config = self._config
        return video_maker(
            pipeline,
            {**self._described[name], "protocol_version": _VERSION, "videocrafter": __version__},
            lambda part: self._folder / part,
            batch_size=config.batch_size,
            num_inference_steps=config.num_inference_steps,
            guidance_scale=config.guidance_scale,
            on_generated=self._count.add,
            on_found=self._count.add_found,
        )


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
    """Counts videos, and those among them that an earlier run had generated, and reports progress."""

    def __init__(self, total: int, on_progress: Progress | None) -> None:
        self.total, self.done, self.found, self._on_progress = total, 0, 0, on_progress

    def add(self, videos: int) -> None:
        self.done += videos
        if self._on_progress is not None:
            self._on_progress(self.done, self.total)

    def add_found(self, videos: int) -> None:
        self.found += videos
        self.add(videos)

    def numbers(self) -> dict[str, int]:
        """Return the entries of the report."""
        return {"num_videos": self.total, "num_videos_found": self.found}


def exam_protocol(config: ExamConfig, described: Mapping[str, Any]) -> dict[str, Any]:
    """Return the identity of the exam: two reports are comparable only if their hashes are equal.

    Args:
        config: size and contents of the exam; its world must be given.
        described: descriptions by `describe_model`, of which those of `judge` and `second_judge` count.
    """
    settings = asdict(config)
    for name in ("batch_size", "num_inference_steps", "guidance_scale"):  # belong to the model that is examined
        del settings[name]
    judges = [described[name]["weights_sha256"] for name in ("judge", "second_judge") if name in described]
    digest = hashlib.sha256(json.dumps([_VERSION, settings, judges], sort_keys=True, default=str).encode())
    return {"name": "exam", "version": _VERSION, "sha256": digest.hexdigest()}


def _versions() -> dict[str, str]:
    others = {name: version(name) for name in ("torch", "diffusers", "transformers", "numpy")}
    return {"videocrafter": __version__, "python": platform.python_version(), **others}

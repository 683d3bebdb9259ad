"""The task that trains the exam's judge: a classifier of rendered clips of the sprite world, supervised.

It learns all combinations of subject, motion and scene, including the held-out ones: a judge that has seen only the
training combinations would prefer them, and the exam tests the others. Training clips are degraded as generated
videos may be (blur, blotches, noise, shifted colours), so that the judge does not expect clean ones.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from videocrafter.data.sprite_world.world import (
    MOTIONS,
    PLAIN_SCENES,
    SCENES,
    SUBJECTS,
    SceneScript,
    SpriteWorld,
    SpriteWorldConfig,
)
from videocrafter.models.judge import JudgeLabels, VideoJudge, judge_loss
from videocrafter.training.randomness import derive_seed, make_generator

_VALIDATION_SEED = 20_231_030
_VALIDATION_FPS = (4, 8, 16, 24)
# The batches that one step accumulates show different clips; no step accumulates this many.
_MICRO_STEPS = 1024


@dataclass(frozen=True, kw_only=True)
class JudgeBatch:
    """Degraded clips [B, T, 3, H, W] and their labels."""

    pixels: Tensor
    labels: JudgeLabels


@dataclass(frozen=True, kw_only=True)
class JudgeTaskConfig:
    """Training settings of the judge.

    Attributes:
        batch_size: clips per batch.
        size: side of the clips in pixels.
        num_frames: frames per clip.
        fps_range: lowest and highest fps of the clips.
        position_jitter: largest offset of a path from the middle, in half-widths; larger than in the generator's
            training, because generated videos are not always in the right place.
        widths: channels of the judge's four levels.
        num_validation: clean held-out clips per validated fps.
    """

    batch_size: int = 16
    size: int = 64
    num_frames: int = 8
    fps_range: tuple[float, float] = (4.0, 24.0)
    position_jitter: float = 0.25
    widths: tuple[int, int, int, int] = (32, 64, 96, 128)
    num_validation: int = 128

    def validation_metrics(self) -> list[str]:
        """The loss and the metrics of ``judge_loss`` over all fps, and two accuracies at each fps."""
        accuracies = ["subject_accuracy", "motion_accuracy"]
        at_fps = [f"{name}_at_{fps}_fps" for fps in _VALIDATION_FPS for name in accuracies]
        return ["loss", *accuracies, "scene_accuracy", "center_error", "size_error", *at_fps]


class JudgeTask:
    """Trains a ``VideoJudge`` (see ``training/task.py`` for the contract of each method).

    Args:
        start: folder of a judge that is trained further; None begins with random weights.
    """

    def __init__(
        self, config: JudgeTaskConfig, start: Path | None, seed: int, stage_index: int, device: torch.device
    ) -> None:
        self.config, self.seed, self.stage_index, self.device = config, seed, stage_index, device
        judge = (
            VideoJudge(
                subjects=list(SUBJECTS),
                motions=list(MOTIONS),
                scenes=list(SCENES + PLAIN_SCENES),
                size=config.size,
                widths=list(config.widths),
            )
            if start is None
            else VideoJudge.from_pretrained(start, torch_dtype=torch.float32)
        )
        self.judge = judge.to(device, memory_format=torch.channels_last).train()
        self.world = SpriteWorld(
            SpriteWorldConfig(
                height=config.size,
                width=config.size,
                num_frames=config.num_frames,
                fps_range=config.fps_range,
                scenes=SCENES + PLAIN_SCENES,
                position_jitter=config.position_jitter,
                split="all",
                seed=derive_seed(seed, stage_index, "judge's world"),
            )
        )

    def modules(self) -> Mapping[str, nn.Module]:
        """The judge alone."""
        return {"judge": self.judge}

    def trainable_parameters(self) -> list[nn.Parameter]:
        """All parameters of the judge."""
        return list(self.judge.parameters())

    def batch(self, step: int, micro_step: int = 0) -> JudgeBatch:
        """Rendered and degraded clips, different in every step."""
        first = (step * _MICRO_STEPS + micro_step) * self.config.batch_size
        scripts = [self.world.script(first + offset) for offset in range(self.config.batch_size)]
        generator = make_generator(torch.device("cpu"), self.seed, self.stage_index, "spoiling", step, micro_step)
        pixels = spoil(self.world.render(scripts), generator)
        return JudgeBatch(
            pixels=pixels.to(self.device), labels=labels_of(self.world, self.judge, scripts, self.device)
        )

    def loss(self, batch: JudgeBatch, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """``judge_loss``, which is deterministic: the generator is not used."""
        loss, metrics = judge_loss(self.judge, batch.pixels, batch.labels)
        return loss, {"loss": loss.detach(), **metrics}

    def names(self, batch: JudgeBatch) -> list[str]:
        """None: the step identifies the clips."""
        return []

    def num_samples(self, batch: JudgeBatch) -> int:
        """Clips in the batch."""
        return len(batch.pixels)

    @torch.no_grad()
    def validate(self) -> Mapping[str, float]:
        """Accuracies on clean held-out clips: over all fps, and per fps as ``motion_accuracy_at_8_fps``."""
        means: dict[str, list[float]] = {}
        scores: dict[str, float] = {}
        for fps in _VALIDATION_FPS:
            world, scripts = self._validation(fps, self.config.num_validation)
            labels = labels_of(world, self.judge, scripts, self.device)
            loss, metrics = judge_loss(self.judge, world.render(scripts).to(self.device), labels)
            for name, value in {"loss": float(loss), **metrics}.items():
                means.setdefault(name, []).append(value)
            scores[f"motion_accuracy_at_{fps}_fps"] = metrics["motion_accuracy"]
            scores[f"subject_accuracy_at_{fps}_fps"] = metrics["subject_accuracy"]
        return {**{name: float(np.mean(values)) for name, values in means.items()}, **scores}

    @torch.no_grad()
    def write_samples(self, folder: Path) -> None:
        """Write ``verdicts.json``: true and predicted labels of validation clips."""
        world, scripts = self._validation(8, 24)
        reading = self.judge(world.render(scripts).to(self.device))
        names = self.judge.config
        verdicts = [
            {
                "shown": [script.subject, script.motion, script.scene],
                "seen": [names.subjects[subject], names.motions[motion], names.scenes[scene]],
            }
            for script, subject, motion, scene in zip(
                scripts,
                reading.subject_logits.argmax(1).tolist(),
                reading.motion_logits.argmax(1).tolist(),
                reading.scene_logits.argmax(1).tolist(),
                strict=True,
            )
        ]
        (folder / "verdicts.json").write_text(json.dumps(verdicts, indent=1))

    def save_pipeline(self, folder: Path) -> None:
        """Write the judge's own folder (config, and weights in half precision) into ``folder``."""
        copy.deepcopy(self.judge).half().save_pretrained(folder)

    def _validation(self, fps: float, count: int) -> tuple[SpriteWorld, list[SceneScript]]:
        world = SpriteWorld(
            SpriteWorldConfig(
                height=self.config.size,
                width=self.config.size,
                num_frames=self.config.num_frames,
                fps_range=(fps, fps),
                split="held_out",
                seed=_VALIDATION_SEED,
            )
        )
        return world, [world.script(index) for index in range(count)]


def labels_of(world: SpriteWorld, judge: VideoJudge, scripts: list[SceneScript], device: torch.device) -> JudgeLabels:
    """Return the labels of rendered clips, by the judge's own numbering of the names."""
    names = judge.config

    def numbers(known: list[str], given: list[str]) -> Tensor:
        return torch.tensor([known.index(name) for name in given], device=device)

    return JudgeLabels(
        subject=numbers(names.subjects, [script.subject for script in scripts]),
        motion=numbers(names.motions, [script.motion for script in scripts]),
        scene=numbers(names.scenes, [script.scene for script in scripts]),
        centers=torch.as_tensor(world.centers(scripts), dtype=torch.float32, device=device),
        log_size=torch.as_tensor(np.log(world.sizes(scripts)), dtype=torch.float32, device=device),
    )


def spoil(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Degrade clean clips [B, T, 3, H, W] as a generator would: blur, colours, blotches, noise, by random amounts.

    Half of the clips stay sharp.
    """
    batch, _, _, height, width = pixels.shape

    def amounts(largest: float, *shape: int) -> Tensor:
        return largest * torch.rand((batch, *shape), generator=generator).view(batch, *shape)

    blurred = torch.rand(batch, generator=generator) < 0.5
    reduced = [int(height * float(f)) for f in (0.35 + 0.5 * torch.rand(batch, generator=generator))]
    pixels = torch.stack(
        [_blur(clip, side) if bool(soft) else clip for clip, side, soft in zip(pixels, reduced, blurred, strict=True)]
    )
    contrast = 1.0 + amounts(0.3, 1, 1, 1, 1) - 0.15
    tint = amounts(0.24, 1, 1, 1, 1) - 0.12 + amounts(0.16, 1, 3, 1, 1) - 0.08
    pixels = pixels * contrast + tint
    still_blotches = torch.randn(batch, 1, 3, 8, 8, generator=generator)
    moving_blotches = torch.randn(batch, pixels.shape[1], 3, 8, 8, generator=generator)
    blotches = amounts(0.12, 1, 1, 1, 1) * still_blotches + amounts(0.10, 1, 1, 1, 1) * moving_blotches
    pixels = pixels + functional.interpolate(
        blotches.flatten(0, 1), (height, width), mode="bilinear", align_corners=False
    ).view_as(pixels)
    strength = (amounts(0.3, 1, 1, 1, 1) - 0.15).clamp(min=0.0)
    pixels = pixels + strength * torch.randn(pixels.shape, generator=generator)
    return pixels.clamp(-1.0, 1.0)


def _blur(clip: Tensor, side: int) -> Tensor:
    """Shrink a clip [T, 3, H, W] to ``side`` pixels and enlarge it again."""
    small = functional.interpolate(clip, (side, side), mode="bilinear", antialias=True)
    return functional.interpolate(small, clip.shape[-2:], mode="bicubic", align_corners=False)

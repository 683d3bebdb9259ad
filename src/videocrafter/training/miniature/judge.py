"""The task that trains the exam's judge: a classifier of rendered clips of the sprite world, supervised.

It learns all combinations of subject, motion and scene, including the held-out ones: a judge that has seen only the
training combinations would prefer them, and the exam tests the others. Training clips are degraded as generated
videos may be (blur, blotches, noise, shifted colours), so that the judge does not expect clean ones.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from videocrafter.data.sprite_world.world import (
    MOTIONS,
    PLAIN_SCENES,
    SCENES,
    SUBJECTS,
    SceneScript,
    SpriteWorld,
    SpriteWorldConfig,
)
from videocrafter.models.judge import IGNORED, JudgeLabels, VideoJudge, fit, judge_loss
from videocrafter.training.miniature.degradation import Degradation, degrade
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
        world: size, length, fps and diameters of the clips. The task itself chooses scenes, split and seed. The
            position jitter is larger than in the generator's training, because generated videos are not always in
            the right place.
        size: side in pixels of the frames that the judge sees; larger ones are averaged down.
        degradation: what is done to the clips of training.
        widths: channels of the judge's four levels.
        stills: train on single moments of clips, as many as `batch_size`. They differ more than the frames of one
            clip, so subjects are learned faster; motions are not learned.
        num_validation: clean held-out clips per validated fps.
    """

    batch_size: int = 16
    world: SpriteWorldConfig = field(default_factory=lambda: SpriteWorldConfig(position_jitter=0.25))
    size: int = 64
    degradation: Degradation = Degradation()  # noqa: RUF009  it is frozen
    widths: tuple[int, int, int, int] = (32, 64, 96, 128)
    stills: bool = False
    num_validation: int = 128

    def validated_fps(self) -> tuple[int, ...]:
        """The fps of validation clips: those of a fixed list within the world's range."""
        low, high = self.world.fps_range
        return tuple(fps for fps in _VALIDATION_FPS if low <= fps <= high) or (round(low),)

    def validation_metrics(self) -> list[str]:
        """The loss and the metrics of ``judge_loss`` over all fps, and two accuracies at each fps."""
        accuracies = ["subject_accuracy", "motion_accuracy"]
        at_fps = [f"{name}_at_{fps}_fps" for fps in self.validated_fps() for name in accuracies]
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
        judge.register_to_config(diameter=config.world.diameter, fps_range=list(config.world.fps_range))
        self.judge = judge.to(device, memory_format=torch.channels_last).train()
        self.world = SpriteWorld(
            replace(
                config.world,
                scenes=SCENES + PLAIN_SCENES,
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
        draw = self.world.image_script if self.config.stills else self.world.script
        scripts = [draw(first + offset) for offset in range(self.config.batch_size)]
        generator = make_generator(torch.device("cpu"), self.seed, self.stage_index, "spoiling", step, micro_step)
        pixels = degrade(self._seen(self.world, scripts), generator, self.config.degradation)
        return JudgeBatch(
            pixels=pixels.to(self.device), labels=labels_of(self.world, self.judge, scripts, self.device)
        )

    def loss(self, batch: JudgeBatch, generator: torch.Generator) -> tuple[Tensor, Mapping[str, float | Tensor]]:
        """``judge_loss``, which is deterministic: the generator is not used."""
        loss, metrics = judge_loss(self.judge, batch.pixels, batch.labels)
        known = {name: value for name, value in metrics.items() if not math.isnan(value)}
        return loss, {"loss": loss.detach(), **known}

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
        for fps in self.config.validated_fps():
            world, scripts = self._validation(fps, self.config.num_validation)
            labels = labels_of(world, self.judge, scripts, self.device)
            loss, metrics = judge_loss(self.judge, self._seen(world, scripts).to(self.device), labels)
            for name, value in {"loss": float(loss), **metrics}.items():
                means.setdefault(name, []).append(value)
            scores[f"motion_accuracy_at_{fps}_fps"] = metrics["motion_accuracy"]
            scores[f"subject_accuracy_at_{fps}_fps"] = metrics["subject_accuracy"]
        return {**{name: float(np.mean(values)) for name, values in means.items()}, **scores}

    @torch.no_grad()
    def write_samples(self, folder: Path) -> None:
        """Write ``verdicts.json``: true and predicted labels of validation clips."""
        world, scripts = self._validation(self.config.validated_fps()[0], 24)
        reading = self.judge(self._seen(world, scripts).to(self.device))
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

    def _seen(self, world: SpriteWorld, scripts: list[SceneScript]) -> Tensor:
        """Return rendered clips at the judge's size."""
        pixels = world.render(scripts)
        return fit(pixels.flatten(0, 1), self.judge.config.size).unflatten(0, pixels.shape[:2])

    def _validation(self, fps: float, count: int) -> tuple[SpriteWorld, list[SceneScript]]:
        config = replace(
            self.config.world,
            fps_range=(fps, fps),
            scenes=SCENES,
            position_jitter=SpriteWorldConfig().position_jitter,
            split="held_out",
            seed=_VALIDATION_SEED,
        )
        world = SpriteWorld(config)
        return world, [world.script(index) for index in range(count)]


def labels_of(world: SpriteWorld, judge: VideoJudge, scripts: list[SceneScript], device: torch.device) -> JudgeLabels:
    """Return the labels of rendered clips or stills, by the judge's own numbering of the names."""
    names = judge.config

    def numbers(known: list[str], given: list[str]) -> Tensor:
        return torch.tensor([known.index(name) for name in given], device=device)

    return JudgeLabels(
        subject=numbers(names.subjects, [script.subject for script in scripts]),
        motion=torch.tensor(
            [IGNORED if one.image_frame is not None else names.motions.index(one.motion) for one in scripts],
            device=device,
        ),
        scene=numbers(names.scenes, [script.scene for script in scripts]),
        centers=torch.as_tensor(world.centers(scripts), dtype=torch.float32, device=device),
        log_size=torch.as_tensor(np.log(world.sizes(scripts)), dtype=torch.float32, device=device),
    )

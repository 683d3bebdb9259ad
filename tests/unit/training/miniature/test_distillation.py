from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tiny_parts import WORLD, build, video_config
from videocrafter.diffusion.few_steps import FewStepScheduler
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.training.config import OptimizerConfig, RecipeConfig, StageConfig
from videocrafter.training.miniature.distillation import VideoDistillationTask, VideoDistillationTaskConfig
from videocrafter.training.miniature.networks import NoiseConfig
from videocrafter.training.run import train
from videocrafter.training.saving.state import trained_parameters
from videocrafter.training.tracking.log import read_log
from videocrafter.training.video.distillation_config import Distillation


def config(parts: Path, distillation: Distillation, **changes: Any) -> VideoDistillationTaskConfig:
    plain = video_config(parts, text_dropout=0.0, image_share=0.0, **changes)
    return VideoDistillationTaskConfig(**vars(plain), distillation=distillation)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("method", ["consistency", "matching"])
def test_a_teacher_of_the_sprite_world_is_distilled(
    parts: Path, t2v_start: Path, tmp_path: Path, method: str
) -> None:
    settings = Distillation(method=method, teacher=str(t2v_start), grid_size=12)  # type: ignore[arg-type]
    stage = StageConfig(
        name="distilled",
        task=config(parts, settings),
        num_steps=2,
        optimizer=OptimizerConfig(lr=2e-3, warmup_steps=0),
        ema_decay=0.5,
        precision="fp32",
        log_every=1,
        validate_every=2,
        sample_every=2,
        checkpoint_every=0,
    )
    train(RecipeConfig(name="toy", stages=(stage,), init=str(t2v_start)), tmp_path, device="cpu")
    trained = [line for line in read_log(tmp_path) if line["kind"] == "train"]
    names = {"loss_clips"} if method == "consistency" else {"loss_student", "loss_fake"}
    assert all(names <= set(line) for line in trained)
    student = load_pipeline(tmp_path / "final")
    assert isinstance(student.scheduler, FewStepScheduler)
    assert student.generation_defaults.step_counts == (4,)
    assert student.knowledge.subjects == WORLD.subjects
    frames = student("a rocket", seeds=0, output_type="uint8").frames
    assert frames.shape == (1, 4, 16, 16, 3)
    teacher = load_pipeline(t2v_start).unet.state_dict()
    assert any(not torch.equal(value, teacher[key]) for key, value in student.unet.state_dict().items())


def test_the_teacher_is_guided_by_the_miniatures_scale_and_the_loss_falls(parts: Path, t2v_start: Path) -> None:
    task = build(config(parts, Distillation(), guidance_scale=2.5), t2v_start)
    assert isinstance(task, VideoDistillationTask)
    assert task.distiller.guidance.guidance_scale == 2.5
    own = build(config(parts, Distillation(guidance_scale=5.0)), t2v_start)
    assert own.distiller.guidance.guidance_scale == 5.0
    assert {name.partition(".")[0] for name in trained_parameters(task)} == {"unet"}
    loss, metrics = task.loss(task.batch(0), seeded())
    assert float(loss.detach()) == float(metrics["loss_clips"])
    optimizer = torch.optim.AdamW(task.trainable_parameters(), lr=2e-3)
    for _ in range(10):
        optimizer.zero_grad()
        task.loss(task.batch(0), seeded())[0].backward()
        optimizer.step()
    assert float(task.loss(task.batch(0), seeded())[0].detach()) < 0.8 * float(loss.detach())


def test_a_student_keeps_its_teachers_noise_schedule(parts: Path, t2v_start: Path) -> None:
    with pytest.raises(ValueError, match=r"another noise schedule than NoiseConfig.*set noise\.schedule"):
        build(config(parts, Distillation(), noise=NoiseConfig(snr_shift=3)), t2v_start)


def test_distillation_starts_from_a_model(parts: Path) -> None:
    with pytest.raises(ValueError, match="starts from a trained model; name it with --init"):
        build(config(parts, Distillation()))
    with pytest.raises(ValueError, match="set them to 0"):
        VideoDistillationTaskConfig(text_dropout=0.1)

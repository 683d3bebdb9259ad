"""LoRAs of students bring their steps, and only intact ones are loaded."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.tiny_loras import layers_of_student, save_student
from tests.tiny_models import tiny_pipeline
from videocrafter.diffusion.few_steps import FewStepScheduler
from videocrafter.pipelines.few_step_settings import is_student
from videocrafter.presets import LORA_FILE


@pytest.mark.parametrize("name", [LORA_FILE, "student.bin"])
def test_a_students_steps_are_read_whatever_the_files_name(tmp_path: Path, name: str) -> None:
    path = save_student(tmp_path, 999, 500).rename(tmp_path / name)
    pipeline = tiny_pipeline(False)
    pipeline.load_lora_weights(path)
    assert isinstance(pipeline.scheduler, FewStepScheduler)
    assert tuple(pipeline.scheduler.times) == (999, 500)
    assert pipeline.generation_defaults.num_inference_steps == 2


def test_a_student_that_tried_another_sampler_returns_to_its_own_steps(tmp_path: Path) -> None:
    pipeline = tiny_pipeline(False)
    pipeline.load_lora_weights(save_student(tmp_path, 999, 500))
    pipeline.use_scheduler("dpm++2m")
    assert not isinstance(pipeline.scheduler, FewStepScheduler)
    pipeline.use_scheduler("few-step")
    assert tuple(pipeline.scheduler.times) == (999, 500)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "truncated or damaged"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "web page"),
    ],
)
def test_files_that_are_no_lora_are_refused_in_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = save_student(tmp_path, 999, 500)
    path.write_bytes(path.read_bytes()[:-8] if content is None else content)
    with pytest.raises(ValueError, match=message) as raised:
        tiny_pipeline(False).load_lora_weights(path)
    assert "\n" not in str(raised.value)


def test_a_pickle_with_the_name_of_safetensors_is_read(tmp_path: Path) -> None:
    pipeline = tiny_pipeline(False)
    torch.save(layers_of_student(pipeline), tmp_path / LORA_FILE)
    assert pipeline.load_lora_weights(tmp_path / LORA_FILE).num_layers["unet"] == 1
    assert not isinstance(pipeline.scheduler, FewStepScheduler)


def test_deleting_a_student_restores_the_steps_before_it(tmp_path: Path) -> None:
    first, second = save_student(tmp_path / "one", 999, 500), save_student(tmp_path / "two", 999, 600, 300)
    pipeline = tiny_pipeline(False)
    scheduler, defaults = pipeline.scheduler, pipeline.generation_defaults
    pipeline.load_lora_weights(layers_of_student(pipeline), "style")
    for name, path in (("first", first), ("second", second), ("third", first)):
        pipeline.load_lora_weights(path, name)
    pipeline.delete_adapters(["style", "first"])
    assert tuple(pipeline.scheduler.times) == (999, 500), "the third student's steps stay"
    pipeline.delete_adapters("third")
    assert tuple(pipeline.scheduler.times) == (999, 600, 300)
    assert pipeline.generation_defaults.num_inference_steps == 3
    pipeline.delete_adapters("second")
    assert pipeline.scheduler is scheduler
    assert pipeline.generation_defaults == defaults


def test_a_fused_student_keeps_its_steps_when_later_loras_are_unloaded(tmp_path: Path) -> None:
    pipeline = tiny_pipeline(False)
    pipeline.load_lora_weights(save_student(tmp_path, 999, 500))
    pipeline.fuse_lora()
    pipeline.unload_lora_weights()
    pipeline.load_lora_weights(layers_of_student(pipeline))
    pipeline.unload_lora_weights()
    assert tuple(pipeline.scheduler.times) == (999, 500)


def test_a_student_is_recognised_by_its_header(tmp_path: Path) -> None:
    path = save_student(tmp_path, 999, 500)
    assert is_student(path)
    plain = tmp_path / "plain.safetensors"
    save_file({"a": torch.zeros(1)}, plain)
    assert not is_student(plain)
    path.write_bytes(path.read_bytes()[:20])
    assert not is_student(path)

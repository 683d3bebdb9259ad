"""Distillation of pipelines of toy size on clips: networks, losses, LoRAs, results, and resumed runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from safetensors.torch import load_file
from torch import Tensor

from tests.same_state import assert_same
from tests.tiny_clips import CPU, SIZE, SPRITES, clip_config, clip_recipe
from videocrafter.checkpoints.lora.lora_file import LORA_FILE
from videocrafter.data.sample import VideoBatch
from videocrafter.diffusion.few_steps import FewStepScheduler
from videocrafter.diffusion.schedule import linear_betas
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.training.config import OptimizerConfig, RecipeConfig
from videocrafter.training.registry import build_task
from videocrafter.training.run import train
from videocrafter.training.saving.state import trained_parameters
from videocrafter.training.tracking.log import read_log
from videocrafter.training.video.clip_distillation import ClipDistillationTask, ClipDistillationTaskConfig
from videocrafter.training.video.distillation_config import Distillation
from videocrafter.training.video.lora import LoraTraining
from videocrafter.training.video.task_config import SampleConfig

LORA = LoraTraining(rank=2, layers="all")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def config(*, method: str = "consistency", **changes: Any) -> ClipDistillationTaskConfig:
    own = {name: changes.pop(name) for name in tuple(changes) if name in Distillation.__dataclass_fields__}
    plain = clip_config(SPRITES, samples=SampleConfig(num_inference_steps=None, count=1), **changes)
    distillation = Distillation(**{"method": method, "grid_size": 12, **own})
    return ClipDistillationTaskConfig(**vars(plain), distillation=distillation)


def build(start: Path, **changes: Any) -> ClipDistillationTask:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        task = build_task(config(**changes), start, 0, 0, CPU)
    assert isinstance(task, ClipDistillationTask)
    return task


def clips(count: int = 2) -> VideoBatch:
    return VideoBatch(
        pixels=torch.rand(count, 4, 3, SIZE, SIZE, generator=seeded(7)) * 2 - 1,
        captions=("a rocket moving left", "a cat at night")[:count],
        fps=torch.tensor([8.0, 16.0])[:count],
        keys=("one", "two")[:count],
    )


@pytest.mark.parametrize("model", ["tiny_t2v", "tiny_i2v"])
def test_the_teachers_guided_step_is_the_pipelines(model: str, request: pytest.FixtureRequest) -> None:
    """Its first DDIM step, with the pipeline's own guidance scale of 4."""
    start = request.getfixturevalue(model)
    task, pipeline, batch = build(start), load_pipeline(start), clips(1)
    pipeline.set_progress_bar_config(disable=True)
    noise = torch.randn(1, 4, 4, SIZE // 4, SIZE // 4, generator=seeded())
    seen: list[tuple[int, Tensor]] = []

    def after_step(_: Any, __: int, time: Tensor, state: dict[str, Tensor]) -> dict[str, Tensor]:
        seen.append((int(time), state["latents"].clone()))
        return state

    image = () if model == "tiny_t2v" else ((batch.pixels[0, 0] + 1) / 2,)
    noise = torch.randn(1, *pipeline._latent_shape(pipeline.check_inputs("a")), generator=seeded())
    pipeline(
        *image,
        batch.captions[0],
        latents=noise,
        num_inference_steps=5,
        fps=8.0,
        callback_on_step_end=after_step,
        output_type="latent",
    )
    given = task.encoder.encode(batch)
    if given.image_tokens is not None:
        given = replace(given, image_tokens=pipeline_tokens(pipeline, batch))
    full, empty = task._conditions(given)
    times = torch.tensor([seen[0][0], seen[1][0]])
    with torch.no_grad():
        moved = task.distiller.teacher_step(noise, times[:1], times[1:], full, empty)
    torch.testing.assert_close(moved, seen[0][1], atol=1e-4, rtol=1e-4)


def pipeline_tokens(pipeline: Any, batch: VideoBatch) -> Tensor:
    from videocrafter.models.image_encoder import encode_image

    with torch.no_grad():
        return encode_image(pipeline.image_encoder, batch.pixels[:, 0])


@pytest.mark.parametrize("method", ["consistency", "matching"])
@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_the_student_learns_and_the_teacher_stays(
    tiny_t2v: Path, method: str, lora: LoraTraining | None, checkpointing: bool
) -> None:
    task = build(tiny_t2v, method=method, lora=lora, teacher=str(tiny_t2v), gradient_checkpointing=checkpointing)
    if lora is not None:
        with torch.no_grad():
            for name, parameter in task.unet.named_parameters():
                if ".lora_B." in name:
                    parameter.normal_(std=0.1, generator=seeded())
    task.loss(clips(), seeded(3))[0].backward()
    parameters = trained_parameters(task)
    kinds = {"unet", "fake_score"} if method == "matching" and lora is None else {"unet"}
    assert {name.partition(".")[0] for name in parameters} == kinds
    silent = [name for name, one in parameters.items() if one.grad is None or not one.grad.any()]
    assert silent == []
    if lora is not None:
        adapters = {name.split(".")[-2] for name in parameters}
        assert adapters == ({"default", "fake_score"} if method == "matching" else {"default"})


def test_gradients_do_not_depend_on_checkpointing(tiny_t2v: Path) -> None:
    """With LoRAs, a layer that is recomputed must have the LoRA that it had in the forward pass."""
    gradients = []
    for checkpointing in (False, True):
        own = {"teacher": str(tiny_t2v), "gradient_checkpointing": checkpointing}
        task = build(tiny_t2v, method="matching", lora=LORA, **own)
        with torch.no_grad():
            for name, parameter in task.unet.named_parameters():
                if ".lora_B." in name:
                    parameter.normal_(std=0.1, generator=seeded())
        task.loss(clips(), seeded(3))[0].backward()
        gradients.append({name: one.grad for name, one in trained_parameters(task).items()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)


def test_a_new_lora_is_the_teacher_and_an_average_replaces_it(tiny_t2v: Path) -> None:
    task = build(tiny_t2v, lora=LORA, target_decay=0.5)
    networks, average = task.distiller.networks, task.modules()["target"]
    inputs = (torch.randn(1, 4, 4, 4, 4), torch.tensor([5]), torch.randn(1, 12, 16), torch.tensor([8.0]), None)
    with torch.no_grad():
        plain = networks.teacher(*inputs)
        assert torch.equal(networks.student(*inputs), plain)
        for parameter in networks.trained().values():
            parameter.normal_(std=0.05, generator=seeded())
        assert torch.equal(networks.teacher(*inputs), plain)
        assert not torch.allclose(networks.student(*inputs), plain)
        assert torch.equal(networks.averaged(average, *inputs), plain)
        task.begin_step(0)
        assert torch.equal(networks.averaged(average, *inputs), plain), "no step was taken yet"
        for step in range(1, 40):
            task.begin_step(step)
        torch.testing.assert_close(networks.averaged(average, *inputs), networks.student(*inputs))


def recipe(start: Path, *, lora: LoraTraining | None = None, num_steps: int = 3, **changes: Any) -> RecipeConfig:
    plain = clip_recipe(start, SPRITES, num_steps=num_steps)
    stage = replace(
        plain.stages[0],
        name="consistency",
        task=config(lora=lora, teacher=str(start), target_decay=0.5),
        optimizer=OptimizerConfig(lr=2e-3, warmup_steps=0),
        **changes,
    )
    second = replace(stage, name="matching", task=config(method="matching", lora=lora, teacher=str(start)))
    return replace(plain, stages=(stage, second))


@pytest.mark.slow
@pytest.mark.parametrize("lora", [None, LORA])
def test_a_stopped_run_is_resumed_bit_for_bit(
    tiny_t2v: Path, tmp_path: Path, lora: LoraTraining | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped after every step, in both stages: averages, LoRAs and fake scores are all restored."""
    made = recipe(tiny_t2v, lora=lora, num_steps=2)
    assert train(made, tmp_path / "whole", device="cpu").finished
    for _ in range(20):
        if train(made, tmp_path / "broken", device="cpu", stop_after_s=0.0).finished:
            break
    for name in ("consistency", "matching"):
        file = f"checkpoints/{name}-step-00000002/training_state/state.pt"
        states = [torch.load(tmp_path / run / file, weights_only=True) for run in ("whole", "broken")]
        for state in states:
            del state["seconds"]
        assert_same(*states)
        networks = {"unet"} | ({"teacher"} if lora is None else set())
        networks |= {"target"} if name == "consistency" else ({"fake_score"} if lora is None else set())
        assert set(states[0]["modules"]) == networks
        if lora is None:
            assert states[0]["modules"]["teacher"] == {}, "frozen weights are not saved again"
    files = LORA_FILE if lora is not None else "unet/diffusion_pytorch_model.safetensors"
    one, other = (load_file(tmp_path / run / "final" / files) for run in ("whole", "broken"))
    assert_same(dict(sorted(one.items())), dict(sorted(other.items())))


@pytest.mark.parametrize("lora", [None, LORA])
@pytest.mark.parametrize(("method", "name"), [("consistency", "loss_clips"), ("matching", "loss_fake")])
def test_the_loss_falls(tiny_t2v: Path, method: str, name: str, lora: LoraTraining | None) -> None:
    """On the same clips, noise and points of the path."""
    task = build(tiny_t2v, method=method, teacher=str(tiny_t2v), lora=lora, student_every=2)
    # While the student learns, the data of its fake score change.
    task.begin_step(1)
    optimizer = torch.optim.AdamW(task.trainable_parameters(), lr=3e-3 if lora is not None else 1e-3)
    losses = []
    for _ in range(8):
        loss, metrics = task.loss(clips(), seeded(3))
        losses.append(float(metrics[name]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.8 * losses[0]


def test_the_folder_is_a_student(tiny_t2v: Path, tmp_path: Path) -> None:
    made = recipe(tiny_t2v, num_steps=1, validate_every=1, sample_every=1)
    made = replace(made, stages=made.stages[:1])
    before = build(tiny_t2v)
    assert train(made, tmp_path, device="cpu").finished
    assert [set(line) & {"loss"} for line in read_log(tmp_path) if line["kind"] == "validation"] == [{"loss"}]
    assert (tmp_path / "samples/consistency-step-00000001/sample-00.mp4").is_file()
    student = load_pipeline(tmp_path / "final")
    assert isinstance(student.scheduler, FewStepScheduler)
    assert student.scheduler.times == before.distiller.times
    defaults = student.generation_defaults
    assert (defaults.num_inference_steps, defaults.guidance_scale, defaults.step_counts) == (4, 1.0, (4,))
    calls = []
    student.unet.register_forward_pre_hook(lambda _, inputs: calls.append((len(inputs[0]), int(inputs[1][0]))))
    student.set_progress_bar_config(disable=True)
    student("a cat", seeds=0)
    assert calls == [(1, time) for time in before.distiller.times], "one branch, at its own timesteps"


def test_a_lora_brings_its_steps_to_the_model_that_it_was_distilled_from(tiny_t2v: Path, tmp_path: Path) -> None:
    task = build(tiny_t2v, lora=LORA)
    task.save_pipeline(tmp_path)
    pipeline = load_pipeline(tiny_t2v)
    before = (pipeline.scheduler, pipeline.generation_defaults)
    pipeline.load_lora_weights(tmp_path)
    assert pipeline.scheduler.times == task.distiller.times
    assert pipeline.generation_defaults.step_counts == (4,)
    assert pipeline.generation_defaults.guidance_scale == 1.0
    pipeline.unload_lora_weights()
    assert (pipeline.scheduler, pipeline.generation_defaults) == before
    pipeline.scheduler = DDIMScheduler(trained_betas=linear_betas().tolist())
    with pytest.raises(ValueError, match="distilled on another noise schedule"):
        pipeline.load_lora_weights(tmp_path)


def test_a_student_of_an_image_to_video_model_keeps_its_image_branch(tiny_i2v: Path, tmp_path: Path) -> None:
    task = build(tiny_i2v)
    assert all(name.startswith("unet.") for name in trained_parameters(task))
    task.loss(clips(), seeded())[0].backward()
    task.save_pipeline(tmp_path)
    assert load_pipeline(tmp_path).takes_image
    assert isinstance(task.modules()["teacher"], VideoUNet)


def test_what_cannot_be_distilled_is_refused(tiny_t2v: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"distillation\.teacher is none, but 'matching' starts from a student"):
        build(tiny_t2v, method="matching")
    with pytest.raises(ValueError, match="set them to 0"):
        config(text_dropout=0.1)
    with pytest.raises(ValueError, match="a student keeps its teacher's schedule"):
        config(signal_scale=0.3)
    with pytest.raises(ValueError, match="phase is 'temporal_only'"):
        config(phase="temporal_only")
    build(tiny_t2v, lora=LORA).save_pipeline(tmp_path)
    with pytest.raises(ValueError, match=r"starts from the LoRA in .*set task.lora as for that LoRA"):
        build(tmp_path)
    with pytest.raises(ValueError, match=r"give all stages the same task\.lora"):
        build(tmp_path, lora=LoraTraining(rank=2), method="matching", teacher=str(tiny_t2v))

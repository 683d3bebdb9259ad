import json

import torch
from safetensors.torch import load_file

from videocrafter.data.sprite_world.world import SpriteWorldConfig, is_held_out
from videocrafter.models.judge import IGNORED, VideoJudge
from videocrafter.training.miniature.judge import JudgeTask, JudgeTaskConfig

CPU = torch.device("cpu")


def small_task(seed: int = 0) -> JudgeTask:
    config = JudgeTaskConfig(batch_size=4, widths=(8, 8, 8, 8), num_validation=6)
    return JudgeTask(config, None, seed, 0, CPU)


def test_a_batch_is_a_function_of_seed_and_step() -> None:
    task, again, other = small_task(), small_task(), small_task(seed=1)
    assert torch.equal(task.batch(3).pixels, again.batch(3).pixels)
    assert torch.equal(task.batch(3).labels.centers, again.batch(3).labels.centers)
    for different in (task.batch(4), task.batch(3, 1), other.batch(3)):
        assert not torch.equal(task.batch(3).pixels, different.pixels)


def test_it_learns_held_out_combinations_too() -> None:
    task = small_task()
    scripts = [task.world.script(index) for index in range(200)]
    share = sum(is_held_out(one.subject, one.motion, one.scene) for one in scripts) / 200
    assert 0.03 < share < 0.2


def test_labels_are_numbers_of_the_judges_names() -> None:
    task = small_task()
    batch, script = task.batch(2), task.world.script(2 * 1024 * 4 + 1)
    assert task.judge.config.subjects[batch.labels.subject[1]] == script.subject
    assert task.judge.config.motions[batch.labels.motion[1]] == script.motion
    assert task.judge.config.scenes[batch.labels.scene[1]] == script.scene


def test_a_larger_world_is_averaged_down_and_recorded(tmp_path) -> None:
    world = SpriteWorldConfig(height=128, width=128, num_frames=3, fps_range=(8.0, 24.0), diameter=0.56)
    config = JudgeTaskConfig(batch_size=2, world=world, widths=(8, 8, 8, 8), num_validation=2)
    task = JudgeTask(config, None, 0, 0, CPU)
    assert task.batch(0).pixels.shape == (2, 3, 3, 64, 64)
    assert config.validated_fps() == (8, 16, 24)
    assert set(config.validation_metrics()) == set(task.validate())
    task.save_pipeline(tmp_path)
    again = JudgeTask(JudgeTaskConfig(batch_size=2), tmp_path, 0, 0, CPU).judge
    assert again.config.diameter == 0.42, "a judge that is trained further is the judge of its new world"
    assert VideoJudge.from_pretrained(tmp_path).config.diameter == 0.56


def test_stills_teach_subjects_and_scenes_but_no_motion() -> None:
    task = JudgeTask(JudgeTaskConfig(batch_size=4, stills=True, widths=(8, 8, 8, 8)), None, 0, 0, CPU)
    batch = task.batch(1)
    assert batch.pixels.shape == (4, 1, 3, 64, 64)
    assert set(batch.labels.motion.tolist()) == {IGNORED}
    loss, metrics = task.loss(batch, torch.Generator())
    assert torch.isfinite(loss)
    assert "motion_accuracy" not in metrics, "NaN would end the run"
    assert 0.0 <= metrics["subject_accuracy"] <= 1.0


def test_one_step_lowers_the_loss_of_its_batch_and_the_folder_loads(tmp_path) -> None:
    task = small_task()
    optimizer = torch.optim.SGD(task.trainable_parameters(), lr=0.01)
    batch = task.batch(0)
    before, metrics = task.loss(batch, torch.Generator())
    before.backward()
    optimizer.step()
    assert float(task.loss(batch, torch.Generator())[0].detach()) < float(before.detach())
    assert {"loss", "subject_accuracy", "motion_accuracy", "center_error"} <= set(metrics)
    assert task.num_samples(batch) == 4

    task.save_pipeline(tmp_path)
    stored = load_file(tmp_path / "diffusion_pytorch_model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert task.judge.dtype == torch.float32, "saving must not touch the weights in training"
    go_on = JudgeTask(JudgeTaskConfig(batch_size=4), tmp_path, 0, 0, CPU)
    assert go_on.judge.dtype == torch.float32


def test_validation_reports_each_fps_and_samples_are_written(tmp_path) -> None:
    task = small_task()
    scores = task.validate()
    assert {"subject_accuracy", "motion_accuracy_at_4_fps", "motion_accuracy_at_24_fps"} <= set(scores)
    assert set(task.config.validation_metrics()) == set(scores)
    assert scores == task.validate()
    task.write_samples(tmp_path)
    verdicts = json.loads((tmp_path / "verdicts.json").read_text())
    assert len(verdicts) == 24
    assert len(verdicts[0]["seen"]) == 3

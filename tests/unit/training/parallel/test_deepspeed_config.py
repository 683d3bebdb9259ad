from __future__ import annotations

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
from toy_run import toy_recipe

from videocrafter.training.config import ParallelConfig, SettingsError, StageConfig
from videocrafter.training.parallel.deepspeed_config import completed_config, read_config
from videocrafter.training.run import train

ZERO = {"zero_optimization": {"stage": 2, "overlap_comm": True, "reduce_bucket_size": "auto"}}


def a_stage(*, accumulate: int = 8, lr: float = 1e-3, **changes: Any) -> StageConfig:
    stage = toy_recipe().stages[0]
    optimizer = dataclasses.replace(stage.optimizer, accumulate=accumulate, lr=lr, grad_clip=0.5, decay="linear")
    return dataclasses.replace(stage, optimizer=optimizer, **changes)


@pytest.mark.parametrize(
    "given",
    [
        {},
        {
            "train_batch_size": "auto",
            "train_micro_batch_size_per_gpu": "auto",
            "gradient_accumulation_steps": "auto",
            "gradient_clipping": "auto",
            "bf16": {"enabled": "auto"},
            "fp16": {"enabled": "auto", "loss_scale": 0},
            "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": "auto", "torch_adam": True}},
            "scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": "auto"}},
        },
        {
            "gradient_accumulation_steps": 2,
            "gradient_clipping": 0.5,
            "fp16": {"enabled": False},
            "optimizer": {"type": "Adam", "params": {"lr": 1e-3, "betas": [0.9, 0.98]}},
        },
    ],
)
def test_the_recipe_fills_in_how_a_step_is_computed(given: dict[str, Any]) -> None:
    completed = completed_config({**ZERO, **given}, a_stage(), 4)
    assert completed == {
        "zero_optimization": {"stage": 2, "overlap_comm": True},
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 2,
        "gradient_clipping": 0.5,
        "steps_per_print": 1 << 62,
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }


def test_batch_sizes_are_the_tasks(tmp_path: Path) -> None:
    @dataclasses.dataclass(frozen=True)
    class Task:
        batch_size: int = 3

        def build(self) -> None: ...

    stage = a_stage(task=Task())
    assert completed_config({**ZERO, "train_batch_size": 24}, stage, 4)["train_micro_batch_size_per_gpu"] == 3
    with pytest.raises(SettingsError, match=r"train_batch_size is 12, but the task's batch_size times .* is 24"):
        completed_config({**ZERO, "train_batch_size": 12}, stage, 4)


@pytest.mark.parametrize(
    ("given", "changes", "message"),
    [
        ({"gradient_accumulation_steps": 8}, {}, "steps is 8, but optimizer.accumulate over 4 processes is 2"),
        ({"gradient_clipping": 1.0}, {}, "gradient_clipping is 1.0, but optimizer.grad_clip is 0.5"),
        ({"train_micro_batch_size_per_gpu": 4}, {}, "batch_size differs from batch to batch"),
        ({"bf16": {"enabled": True}}, {"precision": "fp32"}, "asks for bf16, but precision is 'fp32'"),
        ({"fp16": {"enabled": True}}, {"precision": "bf16"}, "asks for fp16, but precision is 'bf16'"),
        (
            {"torch_autocast": {"enabled": True, "dtype": "float16"}},
            {"precision": "bf16"},
            "asks for fp16, but precision is 'bf16'",
        ),
        ({"optimizer": {"type": "Lion"}}, {}, "optimizer.type is 'Lion', but optimizer.name is 'adamw'"),
        ({"optimizer": {"params": {"lr": 0.5}}}, {}, "params.lr is 0.5, but optimizer.lr is 0.001"),
        ({"optimizer": {"params": {"adam_w_mode": False}}}, {}, "adam_w_mode is False"),
        ({"scheduler": {"type": "WarmupLR"}}, {}, "scheduler.type is 'WarmupLR', but optimizer.decay is 'linear'"),
        (
            {"scheduler": {"type": "WarmupDecayLR", "params": {"warmup_num_steps": 5}}},
            {},
            "warmup_num_steps is 5, but the learning rate over time is the recipe's",
        ),
        ({"compression_training": {}}, {}, "compression_training is not used in training here"),
        ({"zero_optimization": {"stage": 3}}, {}, "stage is 3, expected 1 or 2.* parallel.sharding full"),
        ({"zero_optimization": 2}, {}, "zero_optimization is 2, expected a JSON object"),
        ({"optimizer": "AdamW"}, {}, "optimizer is 'AdamW', expected a JSON object"),
        ({"zero_optimization": {}}, {}, "stage is 0, expected 1 or 2"),
        (
            {"zero_optimization": {"stage": 2, "offload_optimizer": {"device": "nvme"}}},
            {},
            "device is 'nvme', expected 'cpu' or 'none'",
        ),
        ({}, {"compile": True}, "compile is True, expected False with DeepSpeed"),
        ({}, {"parallel": ParallelConfig(sharding="full")}, "parallel.sharding is 'full', expected 'none'"),
    ],
)
def test_what_contradicts_the_recipe_is_named(given: dict[str, Any], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        completed_config({**ZERO, **given}, a_stage(**changes), 4)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("name", "muon", "optimizer.name is 'muon', expected 'adamw' with DeepSpeed"),
        ("state_dtype", "bf16", "optimizer.state_dtype is 'bf16', expected 'fp32'"),
        ("offload", True, "use DeepSpeed's offload_optimizer"),
    ],
)
def test_an_optimizer_that_does_not_go_with_deepspeed_is_named(name: str, value: Any, message: str) -> None:
    stage = a_stage()
    stage = dataclasses.replace(stage, optimizer=dataclasses.replace(stage.optimizer, **{name: value}))
    with pytest.raises(SettingsError, match=message):
        completed_config(ZERO, stage, 4)


@pytest.mark.parametrize("content", [None, "{", "[]"])
def test_a_file_that_holds_no_configuration_is_named(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "ds.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(SettingsError, match=r"ds\.json"):
        read_config(path)


def test_a_missing_deepspeed_is_said_before_anything_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "deepspeed" else find_spec(name, *rest)
    )
    path = tmp_path / "ds.json"
    path.write_text(json.dumps(ZERO))
    recipe = toy_recipe()
    stages = tuple(
        dataclasses.replace(stage, parallel=ParallelConfig(deepspeed=str(path))) for stage in recipe.stages
    )
    with pytest.raises(SettingsError, match=r"pip install 'videocrafter\[deepspeed\]'"):
        train(dataclasses.replace(recipe, stages=stages), tmp_path / "run")
    assert not (tmp_path / "run").exists()

from __future__ import annotations

from pathlib import Path

import pytest
from toy_run import toy_recipe

from videocrafter.training.config import ParallelConfig, SettingsError
from videocrafter.training.parallel.launcher import asked_by_launcher, asked_deepspeed
from videocrafter.training.run import train


def test_without_a_launcher_the_recipe_says_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    assert asked_by_launcher(ParallelConfig()) == ParallelConfig()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ParallelConfig(sharding="full")),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, ParallelConfig(sharding="full", cpu_offload=True)),
        ({"FSDP_RESHARD_AFTER_FORWARD": "false"}, ParallelConfig(sharding="full", reshard_after_forward=False)),
        ({"FSDP_RESHARD_AFTER_FORWARD": "FULL_SHARD"}, ParallelConfig(sharding="full")),
        (
            {"FSDP_RESHARD_AFTER_FORWARD": "SHARD_GRAD_OP"},
            ParallelConfig(sharding="full", reshard_after_forward=False),
        ),
    ],
)
def test_fsdp_is_asked_for_by_the_environment(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: ParallelConfig
) -> None:
    for name, value in {"ACCELERATE_USE_FSDP": "true", **environment}.items():
        monkeypatch.setenv(name, value)
    assert asked_by_launcher(ParallelConfig()) == expected


def test_deepspeed_is_asked_for_by_a_setting_the_environment_or_nobody(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("ACCELERATE_USE_DEEPSPEED", "ACCELERATE_DEEPSPEED_CONFIG_FILE"):
        monkeypatch.delenv(name, raising=False)
    assert asked_deepspeed(ParallelConfig()) is None
    path = tmp_path / "ds.json"
    path.write_text('{"gradient_clipping": "auto"}')
    assert asked_deepspeed(ParallelConfig(deepspeed=str(path))) == {"gradient_clipping": "auto"}
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", str(path))
    assert asked_deepspeed(ParallelConfig()) == {"gradient_clipping": "auto"}


def test_deepspeeds_flags_are_its_configuration_where_no_file_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", raising=False)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "1")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE", "cpu")
    asked = asked_deepspeed(ParallelConfig())
    assert asked == {
        "zero_optimization": {"stage": 1, "offload_optimizer": {"device": "cpu"}, "offload_param": {"device": "none"}}
    }


def test_what_deepspeed_cannot_be_asked_for_stops_before_anything_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("ACCELERATE_DEEPSPEED_CONFIG_FILE", raising=False)
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setenv("ACCELERATE_DEEPSPEED_ZERO_STAGE", "3")
    with pytest.raises(SettingsError, match="--use_fsdp --fsdp_version 2"):
        train(toy_recipe(), tmp_path / "run")
    assert not (tmp_path / "run").exists()

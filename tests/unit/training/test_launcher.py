from __future__ import annotations

from pathlib import Path

import pytest
from toy_run import toy_recipe

from videocrafter.training.config import ParallelConfig, SettingsError
from videocrafter.training.launcher import asked_by_launcher
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


def test_deepspeed_is_refused_before_anything_is_made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(SettingsError, match="--use_fsdp --fsdp_version 2"):
        train(toy_recipe(), tmp_path / "run")
    assert not (tmp_path / "run").exists()

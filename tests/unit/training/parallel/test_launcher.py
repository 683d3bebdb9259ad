from __future__ import annotations

from pathlib import Path

import pytest
from toy_run import toy_recipe

from videocrafter.training.config import ParallelConfig, SettingsError
from videocrafter.training.parallel.launcher import launcher_parallel
from videocrafter.training.run import train


def test_without_a_launcher_the_recipe_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    assert launcher_parallel(ParallelConfig()) == ParallelConfig()


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
def test_the_launchers_fsdp_flags_turn_sharding_on(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], expected: ParallelConfig
) -> None:
    for name, value in {"ACCELERATE_USE_FSDP": "true", **environment}.items():
        monkeypatch.setenv(name, value)
    assert launcher_parallel(ParallelConfig()) == expected


def test_a_launcher_with_deepspeed_is_refused_before_anything_is_written(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(SettingsError, match=r"use FSDP2 instead: parallel\.sharding=full, .* --use_fsdp"):
        train(toy_recipe(), tmp_path / "run")
    assert not (tmp_path / "run").exists()

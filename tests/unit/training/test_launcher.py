from __future__ import annotations

import pytest

from videocrafter.training.config import ParallelConfig
from videocrafter.training.launcher import asked_by_launcher


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

"""Toy runs in several processes.

`launch` starts the processes; each runs `main`, which trains the jobs of a JSON file one after the other. Errors of a
job are written next to its output.
"""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from toy_run import toy_recipe
from toy_task import ToyTaskConfig

from tests.warm_process import WarmProcess
from videocrafter.training.config import OptimizerConfig, ParallelConfig, RecipeConfig, StageConfig
from videocrafter.training.parallel.processes import OtherProcessError, end_process
from videocrafter.training.run import train
from videocrafter.training.saving.checkpoint import CheckpointError


def shared_recipe(
    *,
    sharding: str = "none",
    task: Mapping[str, Any] | None = None,
    state_dtype: str = "fp32",
    **changes: Any,
) -> RecipeConfig:
    """The toy recipe with passes that two or four processes can share."""
    # Only the ends of stages are saved, since gathering shards takes longer than training.
    recipe = toy_recipe(ToyTaskConfig(**(task or {})), **{"checkpoint_every": 12, **changes})
    stages = tuple(
        dataclasses.replace(
            stage,
            num_steps=num_steps,
            parallel=ParallelConfig(sharding=sharding),  # type: ignore[arg-type]
            optimizer=dataclasses.replace(stage.optimizer, accumulate=accumulate, state_dtype=state_dtype),  # type: ignore[arg-type]
        )
        for stage, num_steps, accumulate in zip(recipe.stages, (12, 9), (2, 4), strict=True)
    )
    return dataclasses.replace(recipe, stages=stages)


def video_recipe(parts: str, *, sharding: str = "none", precision: str = "fp32") -> RecipeConfig:
    """A video network trained on clips and images, with EMA, gauges and samples."""
    from tests.tiny_parts import NETWORK, video_config

    # Collective calls take the time, several for each block of the network.
    network = dataclasses.replace(NETWORK, channel_mult=(1,), attention_levels=(0,))
    stage = StageConfig(
        name="video",
        task=video_config(Path(parts), network=network, image_share=0.5, num_gauged=2, num_samples=1),
        num_steps=2,
        optimizer=OptimizerConfig(lr=1e-3, warmup_steps=0, accumulate=2),
        precision=precision,  # type: ignore[arg-type]
        parallel=ParallelConfig(sharding=sharding),  # type: ignore[arg-type]
        log_every=1,
    )
    return RecipeConfig(name="video", stages=(stage,))


def start(jobs: Sequence[Mapping[str, Any]], folder: Path, count: int = 2) -> list[WarmProcess]:
    """Start processes that run the jobs: `output`, `stop_after_s`, and arguments of a recipe above."""
    path = folder / "jobs.json"
    path.write_text(json.dumps(list(jobs)))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(count)}
    return [
        WarmProcess(
            "import shared_runs; shared_runs.main()",
            path,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(count)
    ]


def finish(processes: Sequence[WarmProcess], timeout_s: float = 600) -> list[tuple[int, str]]:
    """Return exit status and standard error of each process; none is left running."""
    try:
        return [(process.wait(timeout_s), process.communicate()[1]) for process in processes]
    finally:
        for process in processes:
            process.kill()


def launch(jobs: Sequence[Mapping[str, Any]], folder: Path, count: int = 2) -> None:
    """Run the jobs in `count` processes, which must all succeed."""
    ended = finish(start(jobs, folder, count))
    assert [status for status, _ in ended] == [0] * count, "\n".join(error for _, error in ended)


def main() -> None:
    signal = None
    for job in json.loads(Path(sys.argv[1]).read_text()):
        output, stop_after_s = Path(job.pop("output")), job.pop("stop_after_s", None)
        recipe = video_recipe(**job) if "parts" in job else shared_recipe(**job)
        try:
            signal = train(recipe, output, stop_after_s=stop_after_s, device="cpu").signal
        except (CheckpointError, OtherProcessError) as error:
            output.with_name(f"{output.name}-{os.environ['RANK']}.txt").write_text(f"{type(error).__name__}: {error}")
    end_process(0 if signal is None else 128 + signal)

"""Settings of `accelerate launch`, which passes them on as environment variables."""

from __future__ import annotations

import os
from dataclasses import replace

from videocrafter.training.config import ParallelConfig, SettingsError

NO_DEEPSPEED = (
    "DeepSpeed is not supported; use FSDP2 instead: parallel.sharding=full, or "
    "accelerate launch --use_fsdp --fsdp_version 2"
)

# Values with which FSDP 1 ("shard_grad_op" ...) and FSDP 2 ("false") keep gathered weights until the backward pass.
_KEEP_GATHERED = ("false", "0", "shard_grad_op", "no_shard", "2", "3")


def check_launcher() -> None:
    """Check that the launcher asks for nothing that training does not support.

    Raises:
        SettingsError: it asks for DeepSpeed.
    """
    if _is_set("ACCELERATE_USE_DEEPSPEED"):
        raise SettingsError(NO_DEEPSPEED)


def launcher_parallel(parallel: ParallelConfig) -> ParallelConfig:
    """Return a stage's settings, with sharding turned on if the launcher was called with `--use_fsdp`.

    Sharding always uses FSDP 2, whichever version the launcher names. Settings of the launcher that change how a step
    is computed (precision, accumulation, clipping, gradient checkpointing) are ignored: the recipe decides them.
    """
    if not _is_set("ACCELERATE_USE_FSDP"):
        return parallel
    reshard = os.environ.get("FSDP_RESHARD_AFTER_FORWARD", "true").lower() not in _KEEP_GATHERED
    return replace(
        parallel,
        sharding="full",
        cpu_offload=parallel.cpu_offload or _is_set("FSDP_OFFLOAD_PARAMS"),
        reshard_after_forward=parallel.reshard_after_forward and reshard,
    )


def _is_set(name: str) -> bool:
    return os.environ.get(name, "").lower() in ("true", "1", "yes", "on")

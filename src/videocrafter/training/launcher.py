"""What `accelerate launch` or its config file asks for, which it tells by environment variables."""

from __future__ import annotations

import os
from dataclasses import replace

from videocrafter.training.config import ParallelConfig, SettingsError

# FSDP 1's names for keeping gathered weights until the backward pass, beside FSDP 2's "false".
_KEEP_GATHERED = ("false", "0", "shard_grad_op", "no_shard", "2", "3")


def refuse_what_is_not_supported() -> None:
    """Find out before anything is made whether the launcher asks for an engine that is not there.

    Raises:
        SettingsError: it asks for DeepSpeed.
    """
    if _is_set("ACCELERATE_USE_DEEPSPEED"):
        raise SettingsError(
            "accelerate asks for DeepSpeed, which training does not use; start it with `accelerate launch --use_fsdp "
            "--fsdp_version 2` instead, which shares weights, gradients and moments as ZeRO 3 does (and, with "
            "--fsdp_reshard_after_forward false, gathers weights once per pass as ZeRO 2 does)"
        )


def asked_by_launcher(parallel: ParallelConfig) -> ParallelConfig:
    """The stage's settings, with sharding as `accelerate launch --use_fsdp` asks for it; FSDP 2 whatever its version.

    Of the launcher's other settings, those that say how a step is computed (precision, accumulation, clipping,
    checkpointing) are the recipe's.
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

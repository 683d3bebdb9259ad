"""What `accelerate launch` or its config file asks for, which it tells by environment variables."""

from __future__ import annotations

import os
from dataclasses import replace

from videocrafter.training.config import ParallelConfig

# FSDP 1's names for keeping gathered weights until the backward pass, beside FSDP 2's "false".
_KEEP_GATHERED = ("false", "0", "shard_grad_op", "no_shard", "2", "3")


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

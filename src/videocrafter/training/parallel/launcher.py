"""What `accelerate launch` or its config file asks for, which it tells by environment variables."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from videocrafter.training.config import ParallelConfig, RecipeConfig
from videocrafter.training.parallel.deepspeed_config import Config, check_installed, completed_config, read_config
from videocrafter.training.parallel.processes import launched_processes

# FSDP 1's names for keeping gathered weights until the backward pass, beside FSDP 2's "false".
_KEEP_GATHERED = ("false", "0", "shard_grad_op", "no_shard", "2", "3")


def check_what_is_asked(recipe: RecipeConfig) -> None:
    """Find out before anything is made whether DeepSpeed can be used as it is asked for, if it is.

    Raises:
        SettingsError: it is not there, or its configuration does not go with the recipe.
    """
    for stage in recipe.stages:
        asked = asked_deepspeed(stage.parallel)
        if asked is not None:
            completed_config(asked, stage, launched_processes())
            check_installed()


def asked_deepspeed(parallel: ParallelConfig) -> Config | None:
    """DeepSpeed's configuration: of the file that a stage or the launcher names, or of the launcher's own flags.

    Raises:
        SettingsError: it cannot be read.
    """
    if parallel.deepspeed is not None:
        return read_config(Path(parallel.deepspeed))
    if not _is_set("ACCELERATE_USE_DEEPSPEED"):
        return None
    path = os.environ.get("ACCELERATE_DEEPSPEED_CONFIG_FILE", "none")
    if path.lower() not in ("", "none"):
        return read_config(Path(path))
    stage = os.environ.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    offload = {
        name: {"device": os.environ.get(f"ACCELERATE_DEEPSPEED_{name.upper()}_DEVICE", "none")}
        for name in ("offload_optimizer", "offload_param")
    }
    return {"zero_optimization": {"stage": int(stage) if stage.isdigit() else stage, **offload}}


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

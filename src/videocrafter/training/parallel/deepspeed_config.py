"""DeepSpeed's configuration: how a run's state is shared out is its own, how a step is computed is the recipe's."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videocrafter.training.config import SettingsError, StageConfig

Config = dict[str, Any]

# What says nothing about how a step is computed, and is left to DeepSpeed.
_DEEPSPEEDS_OWN = (
    "zero_optimization",
    "communication_data_type",
    "prescale_gradients",
    "gradient_predivide_factor",
    "comms_logger",
    "flops_profiler",
    "dump_state",
    "memory_breakdown",
    "steps_per_print",
    "wall_clock_breakdown",
    "zero_allow_untested_optimizer",
    "zero_force_ds_cpu_optimizer",
)
_SCHEDULERS = {"WarmupLR": "constant", "WarmupDecayLR": "linear", "WarmupCosineLR": "cosine"}
_ADAMW_SWITCHES = ("torch_adam", "adam_w_mode")


def read_config(path: Path) -> Config:
    """The configuration in a JSON file.

    Raises:
        SettingsError: there is none.
    """
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise SettingsError(f"DeepSpeed's configuration {path} cannot be read ({error}); give a JSON file") from error
    if not isinstance(config, dict):
        raise SettingsError(f"DeepSpeed's configuration {path} is no JSON object; give one with zero_optimization")
    return config


def completed_config(asked: Mapping[str, Any], stage: StageConfig, num_processes: int) -> Config:
    """What DeepSpeed is given: `asked`, with the recipe's values for "auto" and for what is missing.

    Args:
        asked: as in DeepSpeed's JSON file.

    Raises:
        SettingsError: it contradicts the recipe, or asks for what is not supported.
    """
    _check_groups(asked)
    _check_zero(asked)
    _check_recipe(stage)
    optimizer = stage.optimizer
    num_passes = max(1, optimizer.accumulate // num_processes)
    # Not every task has one size of batches; DeepSpeed only reports it.
    batch_size = getattr(stage.task, "batch_size", None)
    left = dict(asked)
    for key, own, name in (
        ("train_micro_batch_size_per_gpu", batch_size, "the task's batch_size"),
        (
            "train_batch_size",
            None if batch_size is None else batch_size * optimizer.accumulate,
            "the task's batch_size times optimizer.accumulate",
        ),
        (
            "gradient_accumulation_steps",
            num_passes,
            f"optimizer.accumulate over {num_processes} processes",
        ),
        ("gradient_clipping", optimizer.grad_clip or 0.0, "optimizer.grad_clip"),
    ):
        _agree(key, left.pop(key, "auto"), own, name)
    _check_precision(left, stage)
    _check_optimizer(left.pop("optimizer", None) or {}, stage)
    _check_scheduler(left.pop("scheduler", None) or {}, stage)
    unused = sorted(key for key in left if key not in _DEEPSPEEDS_OWN)
    if unused:
        raise SettingsError(
            f"DeepSpeed's {unused[0]} is not used in training here; leave it out of the configuration"
        )
    config: Config = {
        "steps_per_print": 1 << 62,
        **_without_auto(left),
        "train_micro_batch_size_per_gpu": batch_size or 1,
        "gradient_accumulation_steps": num_passes,
        "gradient_clipping": optimizer.grad_clip or 0.0,
        # The optimizer is torch's AdamW, wherever its moments are.
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
    }
    return config


def check_installed() -> None:
    """Find out whether DeepSpeed is there, without importing it.

    Raises:
        SettingsError: it is not.
    """
    if importlib.util.find_spec("deepspeed") is None:
        raise SettingsError(
            "DeepSpeed was asked for, which is not installed: pip install 'videocrafter[deepspeed]', or use "
            "parallel.sharding full (accelerate launch --use_fsdp --fsdp_version 2), which needs nothing more"
        )


def _check_groups(asked: Mapping[str, Any]) -> None:
    for key in ("zero_optimization", "optimizer", "scheduler", "bf16", "fp16", "torch_autocast"):
        if not isinstance(asked.get(key) or {}, Mapping):
            raise SettingsError(f"DeepSpeed's {key} is {asked[key]!r}, expected a JSON object, such as {{}}")


def _check_zero(asked: Mapping[str, Any]) -> None:
    zero = asked.get("zero_optimization") or {}
    stage = zero.get("stage", 0)
    if stage == 3:
        raise SettingsError(
            "DeepSpeed's zero_optimization.stage is 3, expected 1 or 2; to share out weights too, use "
            "parallel.sharding full (accelerate launch --use_fsdp --fsdp_version 2)"
        )
    if stage not in (1, 2):
        raise SettingsError(
            f"DeepSpeed's zero_optimization.stage is {stage!r}, expected 1 or 2; without ZeRO leave DeepSpeed out"
        )
    device = (zero.get("offload_optimizer") or {}).get("device", "none")
    if device not in ("none", "cpu", "auto"):
        raise SettingsError(f"DeepSpeed's offload_optimizer.device is {device!r}, expected 'cpu' or 'none'")
    if (zero.get("offload_param") or {}).get("device", "none") not in ("none", "auto"):
        raise SettingsError("DeepSpeed's offload_param is for stage 3; leave it out, or use parallel.cpu_offload")
    if zero.get("zenflow"):
        raise SettingsError("DeepSpeed's zenflow is not used in training here; leave it out of the configuration")


def _check_recipe(stage: StageConfig) -> None:
    """What goes with AdamW's moments in flat parts only."""
    optimizer = stage.optimizer
    for name, given, expected in (
        ("optimizer.name", optimizer.name, "adamw"),
        ("optimizer.state_dtype", optimizer.state_dtype, "fp32"),
        ("optimizer.offload", optimizer.offload, False),
        ("parallel.sharding", stage.parallel.sharding, "none"),
        ("compile", stage.compile, False),
    ):
        if given != expected:
            instead = "; use DeepSpeed's offload_optimizer" if name == "optimizer.offload" else ""
            raise SettingsError(f"{name} is {given!r}, expected {expected!r} with DeepSpeed{instead}")


def _check_precision(left: Config, stage: StageConfig) -> None:
    """Half precision is autocast's and the scale of the loss our own, as without DeepSpeed."""
    asked = {name: (left.pop(name, None) or {}).get("enabled", False) for name in ("bf16", "fp16")}
    autocast = left.pop("torch_autocast", None) or {}
    if autocast.get("enabled") is True:
        name = {"bfloat16": "bf16", "float16": "fp16"}.get(str(autocast.get("dtype")).removeprefix("torch."))
        asked[name or str(autocast.get("dtype"))] = True
    for name, value in asked.items():
        if value is True and stage.precision != name:
            raise SettingsError(
                f"DeepSpeed's configuration asks for {name}, but precision is {stage.precision!r} in the recipe; "
                'make them the same, or say "auto" to DeepSpeed'
            )


def _check_optimizer(asked: Mapping[str, Any], stage: StageConfig) -> None:
    own = stage.optimizer
    kind = asked.get("type", "AdamW")
    if str(kind).lower() not in ("adam", "adamw"):
        raise SettingsError(
            f"DeepSpeed's optimizer.type is {kind!r}, but optimizer.name is {own.name!r} in the recipe"
        )
    values = {"lr": own.lr, "betas": list(own.betas), "eps": own.eps, "weight_decay": own.weight_decay}
    for key, value in asked.get("params", {}).items():
        if key in values:
            given = list(value) if isinstance(value, list | tuple) else value
            _agree(f"optimizer.params.{key}", given, values[key], f"optimizer.{key}")
        elif key not in _ADAMW_SWITCHES or (key == "adam_w_mode" and value is False):
            raise SettingsError(f"DeepSpeed's optimizer.params.{key} is {value!r}, which AdamW here has not")


def _check_scheduler(asked: Mapping[str, Any], stage: StageConfig) -> None:
    if not asked:
        return
    kind, decay = asked.get("type"), stage.optimizer.decay
    if _SCHEDULERS.get(str(kind)) != decay:
        raise SettingsError(f"DeepSpeed's scheduler.type is {kind!r}, but optimizer.decay is {decay!r} in the recipe")
    for key, value in asked.get("params", {}).items():
        if value != "auto":
            raise SettingsError(
                f"DeepSpeed's scheduler.params.{key} is {value!r}, but the learning rate over time is the recipe's "
                '(optimizer.warmup_steps, decay, final_lr_fraction); say "auto" to DeepSpeed'
            )


def _agree(key: str, given: Any, own: Any, name: str) -> None:
    if given not in ("auto", own):
        what = "differs from batch to batch" if own is None else f"is {own!r}"
        raise SettingsError(f'DeepSpeed\'s {key} is {given!r}, but {name} {what}; make them the same, or say "auto"')


def _without_auto(value: Any) -> Any:
    """DeepSpeed does not know "auto": what is left of it is DeepSpeed's default."""
    if isinstance(value, Mapping):
        return {key: _without_auto(item) for key, item in value.items() if item != "auto"}
    return value

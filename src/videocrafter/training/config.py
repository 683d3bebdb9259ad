"""The configuration of a run: a recipe is a tuple of stages, a stage is a task and its training settings.

Values are checked on construction, so that a wrong one stops a run before its first step. Fields marked `harmless`
change what is recorded or where it is computed, never the result: a run may be resumed with other values of them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, is_dataclass
from typing import Any, Literal, get_args

from videocrafter.training.task import TaskConfig

Precision = Literal["auto", "fp32", "bf16", "fp16"]
Decay = Literal["constant", "cosine", "linear", "1-sqrt"]
OptimizerName = Literal["adamw", "adamw8bit", "muon"]
ShardingKind = Literal["none", "full"]

_STAGE_NAME = re.compile(r"[a-z][a-z0-9_-]*")


def harmless(default: Any) -> Any:
    """Return a dataclass field with a default whose value may differ when a run is resumed."""
    return field(default=default, metadata={"harmless": True})


class SettingsError(ValueError):
    """Settings that cannot be used for a run; raised where they are used."""


def _require(condition: bool, name: str, given: object, expected: str) -> None:
    if not condition:
        raise ValueError(f"{name} is {given!r}, expected {expected}")


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimizer, learning-rate schedule, gradient clipping and gradient accumulation.

    The learning rate warms up, holds, and decays. By default the decay starts right after warm-up; with a
    `decay_share` below 1 the rate first stays constant: the warm-up-stable-decay schedule (Hu et al. 2024, MiniCPM;
    Hägele et al. 2024).

    Attributes:
        name: "adamw"; "adamw8bit", with 8-bit moments (needs bitsandbytes); or "muon" for hidden matrices (2-D, no
            embeddings) and AdamW for the rest.
        lr: peak learning rate. Muon's updates are scaled to the size of AdamW's, so that one value serves both.
        weight_decay: for matrices and convolution kernels; vectors (biases, norms) never decay.
        warmup_steps: steps over which the rate rises linearly, from lr / warmup_steps.
        decay: shape of the decay. With progress p from 0 to 1, "linear" falls as 1 - p, "cosine" as
            (1 + cos(pi p)) / 2 and "1-sqrt" as 1 - sqrt(p); "constant" does not decay.
        decay_share: share of the stage's steps, at its end, over which the rate decays, though never before warm-up
            ends.
        final_lr_fraction: rate of the last step as a fraction of lr.
        grad_clip: largest gradient norm; None turns clipping off.
        accumulate: forward passes per step, over all processes together.
        state_dtype: precision of AdamW's moments; "bf16" halves their memory.
        offload: on a GPU, keep AdamW's moments in main memory and update the weights there.
    """

    name: OptimizerName = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-8
    weight_decay: float = 0.01
    warmup_steps: int = 100
    decay: Decay = "constant"
    decay_share: float = 1.0
    final_lr_fraction: float = 0.0
    grad_clip: float | None = 1.0
    accumulate: int = 1
    state_dtype: Literal["fp32", "bf16"] = "fp32"
    offload: bool = harmless(False)

    def __post_init__(self) -> None:
        _require(
            self.name in ("adamw", "adamw8bit", "muon"), "optimizer.name", self.name, "'adamw', 'adamw8bit' or 'muon'"
        )
        _require(self.state_dtype in ("fp32", "bf16"), "optimizer.state_dtype", self.state_dtype, "'fp32' or 'bf16'")
        _require(
            self.state_dtype == "fp32" or self.name != "adamw8bit",
            "optimizer.state_dtype",
            self.state_dtype,
            "'fp32' with adamw8bit, whose moments have 8 bits",
        )
        _require(self.lr > 0, "optimizer.lr", self.lr, "a number above 0")
        _require(
            all(0 <= beta < 1 for beta in self.betas),
            "optimizer.betas",
            self.betas,
            "two numbers in [0, 1)",
        )
        _require(self.eps > 0, "optimizer.eps", self.eps, "a number above 0")
        _require(self.weight_decay >= 0, "optimizer.weight_decay", self.weight_decay, "0 or more")
        _require(self.warmup_steps >= 0, "optimizer.warmup_steps", self.warmup_steps, "0 or more")
        _require(
            self.decay in get_args(Decay),
            "optimizer.decay",
            self.decay,
            "'constant', 'cosine', 'linear' or '1-sqrt'",
        )
        _require(
            0 < self.decay_share <= 1,
            "optimizer.decay_share",
            self.decay_share,
            "a share of the stage's steps, above 0 and at most 1",
        )
        _require(
            self.decay_share == 1 or self.decay != "constant",
            "optimizer.decay_share",
            self.decay_share,
            "optimizer.decay to be 'linear', 'cosine' or '1-sqrt' with it; 'constant' does not decay",
        )
        _require(
            0 <= self.final_lr_fraction <= 1,
            "optimizer.final_lr_fraction",
            self.final_lr_fraction,
            "a share between 0 and 1",
        )
        _require(
            self.grad_clip is None or self.grad_clip > 0,
            "optimizer.grad_clip",
            self.grad_clip,
            "a number above 0, or none",
        )
        _require(self.accumulate >= 1, "optimizer.accumulate", self.accumulate, "1 or more")


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """Handling of steps whose loss or gradient is NaN, infinite or far too large.

    Attributes:
        spike: a gradient norm above this multiple of the median of the last 100 steps is too large; 0 disables this.
        skips: bad steps in a row that are skipped, which leaves the weights unchanged.
        rollbacks: how often the stage then returns to its last checkpoint before the run stops.
    """

    spike: float = 0.0
    skips: int = 3
    rollbacks: int = 2

    def __post_init__(self) -> None:
        _require(self.spike == 0 or self.spike > 1, "guard.spike", self.spike, "0 (never) or a number above 1")
        _require(self.skips >= 0, "guard.skips", self.skips, "0 or more")
        _require(self.rollbacks >= 0, "guard.rollbacks", self.rollbacks, "0 or more")


@dataclass(frozen=True, kw_only=True)
class ParallelConfig:
    """Memory sharing between processes. They share the passes of a step in any case.

    Attributes:
        sharding: "none": each process holds all weights. "full": each holds a shard of the large trained networks, of
            their gradients, optimizer moments and EMA weights (FSDP2).
        cpu_offload: keep the shards in main memory and update them there.
        reshard_after_forward: gather a block's weights again for the backward pass instead of keeping them.
    """

    sharding: ShardingKind = "none"
    cpu_offload: bool = False
    reshard_after_forward: bool = True

    def __post_init__(self) -> None:
        _require(self.sharding in ("none", "full"), "parallel.sharding", self.sharding, "'none' or 'full'")
        _require(
            self.sharding == "full" or not self.cpu_offload, "parallel.cpu_offload", True, "sharding 'full' with it"
        )


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage: its task, its length, and what is recorded during training.

    Attributes:
        name: names the stage's folders; lower-case letters, digits, "-" and "_".
        task: frozen dataclass with the settings of a task that is registered in `registry.py`.
        num_steps: optimizer steps.
        ema_decay: decay of the EMA weights, warmed up as min(decay, (1 + n) / (10 + n)); 0 disables EMA.
        ema_device: "same" keeps the EMA weights on the training device, "cpu" in main memory.
        precision: "bf16" and "fp16" use autocast, fp16 with loss scaling; "auto" times fp32 and bf16 on this device
            and takes the faster.
        parallel: sharding over several processes.
        offload_activations: on a GPU, keep activations saved for the backward pass in main memory.
        compile: run the trained networks through torch.compile.
        log_every, validate_every, sample_every, checkpoint_every: interval in steps; 0 disables. The last step of the
            stage always logs and saves, and validates and samples unless disabled.
        checkpoint_seconds: also save when this long has passed since the last save; 0 disables.
        guard: handling of bad steps.
        keep_checkpoints: number of newest checkpoints of the stage to keep.
        keep_every: also keep the checkpoints of steps that are multiples of this; 0 keeps none of them.
        keep_best: also keep the checkpoint with the lowest value of this validation metric, saved when it is
            measured; one of the task's `validation_metrics`.
    """

    name: str
    task: TaskConfig
    num_steps: int
    optimizer: OptimizerConfig = OptimizerConfig()
    ema_decay: float = 0.999
    ema_device: Literal["same", "cpu"] = harmless("same")
    precision: Precision = "auto"
    parallel: ParallelConfig = harmless(ParallelConfig())  # noqa: RUF009  it is frozen
    offload_activations: bool = harmless(False)
    compile: bool = False
    log_every: int = harmless(50)
    validate_every: int = harmless(500)
    sample_every: int = harmless(1000)
    checkpoint_every: int = harmless(1000)
    checkpoint_seconds: float = harmless(600.0)
    guard: GuardConfig = GuardConfig()
    keep_checkpoints: int = harmless(2)
    keep_every: int = harmless(0)
    keep_best: str | None = harmless(None)

    def __post_init__(self) -> None:
        _require(
            _STAGE_NAME.fullmatch(self.name) is not None,
            "stage.name",
            self.name,
            "a lower-case letter, then letters, digits, '-' or '_'",
        )
        prefix = f"stages.{self.name}"
        _require(
            is_dataclass(self.task) and hasattr(self.task, "validation_metrics"),
            f"{prefix}.task",
            self.task,
            "a frozen dataclass with a validation_metrics method",
        )
        _require(self.num_steps >= 1, f"{prefix}.num_steps", self.num_steps, "1 or more")
        _require(0 <= self.ema_decay < 1, f"{prefix}.ema_decay", self.ema_decay, "a number in [0, 1)")
        _require(self.ema_device in ("same", "cpu"), f"{prefix}.ema_device", self.ema_device, "'same' or 'cpu'")
        _require(
            self.precision in ("auto", "fp32", "bf16", "fp16"),
            f"{prefix}.precision",
            self.precision,
            "'auto', 'fp32', 'bf16' or 'fp16'",
        )
        for name in ("log_every", "validate_every", "sample_every", "checkpoint_every", "checkpoint_seconds"):
            value = getattr(self, name)
            _require(value >= 0, f"{prefix}.{name}", value, "0 (never) or more")
        _require(self.keep_every >= 0, f"{prefix}.keep_every", self.keep_every, "0 (none) or more")
        _require(self.keep_checkpoints >= 1, f"{prefix}.keep_checkpoints", self.keep_checkpoints, "1 or more")
        if self.keep_best is not None:
            metrics = self.task.validation_metrics()
            names, measured = f"{prefix}.keep_best", ", ".join(metrics)
            _require(self.keep_best in metrics, names, self.keep_best, f"none, or a validation metric: {measured}")
            _require(self.validate_every > 0, names, self.keep_best, f"{prefix}.validate_every above 0 with it")


@dataclass(frozen=True, kw_only=True)
class RecipeConfig:
    """Stages that follow each other; each starts from the EMA weights of the one before.

    Attributes:
        init: start of the first stage: a pipeline folder, or the name of a model, such as "tiny-t2v", or "judge";
            None begins with new networks.
    """

    name: str
    stages: tuple[StageConfig, ...]
    seed: int = 0
    init: str | None = None

    def __post_init__(self) -> None:
        _require(bool(self.name), "name", self.name, "the recipe's name")
        _require(len(self.stages) > 0, "stages", self.stages, "at least one stage")
        _require(self.seed >= 0, "seed", self.seed, "0 or more")
        names = [stage.name for stage in self.stages]
        _require(len(set(names)) == len(names), "stages", names, "stages with different names")

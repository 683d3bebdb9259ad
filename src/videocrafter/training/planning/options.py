"""Settings that may reduce a stage's memory, cheapest first."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from videocrafter.training.config import StageConfig
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.parallel.precision import emulates_bf16
from videocrafter.training.planning.plan import Machine
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

CACHE = "CACHE"
"""Placeholder for a folder that the user chooses."""


@dataclass(frozen=True, kw_only=True)
class Option:
    """One change of a stage.

    Attributes:
        settings: `path=value` within the stage.
        costs: its drawback, for the user.
    """

    settings: tuple[str, ...]
    costs: str

    def assignments(self, stage: StageConfig) -> tuple[str, ...]:
        """Return the settings as arguments of `--set`."""
        return tuple(f"stages.{stage.name}.{setting}" for setting in self.settings)


Choice = tuple[Option, ...]
"""Options that exclude each other, mildest first."""


def choices(stage: StageConfig, machine: Machine) -> list[Choice]:
    """Return the possible changes of a stage, without those that it has already."""
    found = [
        _one(stage, "task.frozen_weights=bf16", _cost_of_bf16("nothing on most GPUs", machine)),
        _one(stage, "task.base_weights=bf16", _cost_of_bf16("rounds frozen weights", machine)),
        _one(stage, "task.encoded_frames=1", "slower encoding"),
        _one(stage, "task.gradient_checkpointing=true", "recomputes each layer in the backward pass"),
        tuple(_smaller_batches(stage)),
        _precision(stage, machine),
        _sharding(stage, machine),
        _cache(stage),
    ]
    if machine.kind == "gpu":
        found.append(_one(stage, "ema_device=cpu", "copies the weights to main memory in each step"))
    found.append(_moments(stage, machine))
    if machine.kind == "gpu":
        found.append(_offload(stage))
        found.append(_one(stage, "offload_activations=true", "moves activations to main memory and back"))
    if stage.sample_every:
        found.append((Option(settings=("sample_every=0",), costs="no sample videos during training"),))
    if stage.ema_decay:
        found.append((Option(settings=("ema_decay=0",), costs="no EMA weights, so worse samples"),))
    return [choice for choice in found if choice]


def _cost_of_bf16(usual: str, machine: Machine) -> str:
    return "many times slower on this CPU" if machine.kind == "cpu" and emulates_bf16() else usual


def _one(stage: StageConfig, setting: str, costs: str) -> Choice:
    """Return a single setting, if the stage has it and its value differs."""
    path, _, value = setting.partition("=")
    owner: object = stage
    *way, name = path.split(".")
    for step in way:
        owner = getattr(owner, step, None)
    if not hasattr(owner, name) or _written(getattr(owner, name)) == value:
        return ()
    if name == "base_weights" and getattr(owner, "lora", None) is None:
        return ()
    return (Option(settings=(setting,), costs=costs),)


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _smaller_batches(stage: StageConfig) -> Iterator[Option]:
    """Yield fewer samples per pass with more passes per step, which leaves the result the same."""
    task, accumulate = stage.task, stage.optimizer.accumulate
    if isinstance(task, ClipDiffusionTaskConfig):
        prefix, clips, images, unit = "task.data.", task.data.batch_size, task.data.image_batch_size, 1
    elif isinstance(task, VideoDiffusionTaskConfig):
        prefix, clips, images, unit = "task.", task.batch_size, task.image_batch_size, task.block_size
    else:
        return
    factor = 2
    while clips % (factor * unit) == 0 and (images is None or images % (factor * unit) == 0):
        settings = [f"{prefix}batch_size={clips // factor}", f"optimizer.accumulate={accumulate * factor}"]
        if images is not None:
            settings.insert(1, f"{prefix}image_batch_size={images // factor}")
        yield Option(settings=tuple(settings), costs="smaller passes use a GPU less efficiently")
        factor *= 2


def _precision(stage: StageConfig, machine: Machine) -> Choice:
    if stage.precision != "fp32" or machine.kind != "gpu":
        return ()
    return (Option(settings=("precision=bf16",), costs="rounds activations"),)


def _sharding(stage: StageConfig, machine: Machine) -> Choice:
    if machine.count == 1:
        return ()
    full = Option(settings=("parallel.sharding=full",), costs="processes exchange weights")
    away = Option(
        settings=("parallel.sharding=full", "parallel.cpu_offload=true"), costs="weights and moments in main memory"
    )
    options = (full, away) if machine.kind == "gpu" else (full,)
    if stage.parallel.sharding == "full":
        return () if stage.parallel.cpu_offload else options[1:]
    return options


def _cache(stage: StageConfig) -> Choice:
    task = stage.task
    if not isinstance(task, ClipDiffusionTaskConfig) or (task.cache.folder and task.cache.fill == "never"):
        return ()
    folder = task.cache.folder or CACHE
    settings = (f"task.cache.folder={folder}", "task.cache.fill=never")
    return (Option(settings=settings, costs="clips are encoded in advance, in fixed cuts"),)


def _moments(stage: StageConfig, machine: Machine) -> Choice:
    optimizer = stage.optimizer
    if optimizer.name != "adamw":
        return ()
    half = Option(settings=("optimizer.state_dtype=bf16",), costs="rounds AdamW's moments")
    eighth = Option(settings=("optimizer.name=adamw8bit", "optimizer.state_dtype=fp32"), costs="needs bitsandbytes")
    options = (half, eighth) if machine.kind == "gpu" else (half,)
    return options if optimizer.state_dtype == "fp32" else options[1:]


def _offload(stage: StageConfig) -> Choice:
    if stage.optimizer.offload or stage.optimizer.name == "adamw8bit":
        return ()
    return (Option(settings=("optimizer.offload=true",), costs="the optimizer runs on the CPU"),)

"""Save and restore the training state: everything that a stage's next step depends on, in one file.

The file contains unsharded tensors, so a run can be resumed on any number of processes, with any sharding.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.training.config import SettingsError
from videocrafter.training.optim.ema import ExponentialMovingAverage
from videocrafter.training.optim.guard import StepGuard
from videocrafter.training.optim.loss_scale import LossScale
from videocrafter.training.optim.optimizer import StageOptimizer
from videocrafter.training.parallel.precision import ChosenPrecision
from videocrafter.training.parallel.processes import Processes
from videocrafter.training.parallel.sharding import own_part, part_of, whole_on_cpu
from videocrafter.training.task import Task

STATE_FOLDER = "training_state"
STATE_FILE = "state.pt"
_FORMAT = 3


class MetricWindow:
    """Means of logged scalars since the last log line. Tensors stay on their device until they are read."""

    def __init__(self) -> None:
        self._sums: dict[str, float | Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, float | Tensor]) -> None:
        """Add one value of each metric."""
        for name, value in metrics.items():
            value = value.detach().float() if isinstance(value, Tensor) else value
            self._sums[name] = self._sums[name] + value if name in self._sums else value
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, processes: Processes) -> dict[str, float]:
        """Collective: return the means over all processes, and start a new window."""
        own = {name: (float(total), self._counts[name]) for name, total in self._sums.items()}
        self._sums, self._counts = {}, {}
        sums: dict[str, tuple[float, int]] = {}
        for window in processes.gather(own):
            for name, (total, count) in window.items():
                before = sums.get(name, (0.0, 0))
                sums[name] = (before[0] + total, before[1] + count)
        return {name: total / count for name, (total, count) in sums.items()}

    def state_dict(self) -> dict[str, Any]:
        """Sums and counts of the open window."""
        sums = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in self._sums.items()}
        return {"sums": sums, "counts": dict(self._counts)}

    def load_state_dicts(self, states: Sequence[Mapping[str, Any]], device: torch.device) -> None:
        """Restore the sum of the windows of these `state_dict`s."""
        self._sums, self._counts = {}, {}
        for state in states:
            for name, value in state["sums"].items():
                value = value.to(device, copy=True) if isinstance(value, Tensor) else value
                self._sums[name] = self._sums[name] + value if name in self._sums else value
                self._counts[name] = self._counts.get(name, 0) + state["counts"][name]


@dataclass(kw_only=True)
class TrainingState:
    """State of one stage.

    `data_offset` is the number of steps by which the data is ahead of the weights after a return to a checkpoint.

    Random numbers need no state: they are derived from the step. The state of torch's generator is saved only so that
    everything after the last step is the same as well.
    """

    stage: str
    device: torch.device
    modules: Mapping[str, nn.Module]
    optimizer: StageOptimizer
    ema: ExponentialMovingAverage | None
    precision: ChosenPrecision
    window: MetricWindow
    guard: StepGuard
    loss_scale: LossScale = field(default_factory=LossScale)
    step: int = 0
    data_offset: int = 0
    num_samples: int = 0
    seconds: float = 0.0

    def collected(self, processes: Processes) -> dict[str, Any] | None:
        """Collective: gather the state on rank 0; other ranks return None.

        Tensors that are not sharded are not copied, so write them before training continues.
        """
        state = {
            "format": _FORMAT,
            "stage": self.stage,
            "step": self.step,
            "num_samples": self.num_samples,
            "seconds": self.seconds,
            "precision": self.precision,
            "modules": {name: _changing(module) for name, module in self.modules.items()},
            "optimizer": self.optimizer.state_dict(),
            "ema": None if self.ema is None else self.ema.state_dict(),
            "windows": processes.gather(self.window.state_dict()),
            "guard": self.guard.state_dict(),
            "loss_scale": self.loss_scale.state_dict() if self.loss_scale.enabled else None,
            "data_offset": self.data_offset,
            "torch_rng": torch.get_rng_state(),
        }
        whole: dict[str, Any] = whole_on_cpu(state, keep=processes.is_main)
        return whole if processes.is_main else None

    def load(self, folder: Path, processes: Processes) -> None:
        """Restore a state that `write_state` wrote, except for its precision (see `saved_precision`).

        The number of processes and their sharding may differ from those that saved it.

        Raises:
            SettingsError: the state belongs to another stage, model, optimizer or format.
        """
        path = folder / STATE_FOLDER / STATE_FILE
        # Memory-mapped, so that a process reads only its own part.
        saved = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        if saved["format"] != _FORMAT or saved["stage"] != self.stage:
            raise SettingsError(
                f"{path} belongs to stage {saved['stage']!r} in format {saved['format']}, expected {self.stage!r} "
                f"in format {_FORMAT}"
            )
        if set(saved["modules"]) != set(self.modules):
            raise SettingsError(
                f"{path} contains the networks {sorted(saved['modules'])}, but the stage has {sorted(self.modules)}"
            )
        if (saved["ema"] is None) != (self.ema is None):
            raise SettingsError(f"{path}: ema_decay was switched on or off since; start a new run")
        for name, module in self.modules.items():
            _load_changing(module, saved["modules"][name], f"{path}, {name}")
        self.optimizer.load_state_dict(saved["optimizer"])
        if self.ema is not None:
            self.ema.load_state_dict(saved["ema"])
        windows = saved["windows"] if "windows" in saved else [saved["window"]]
        self.window.load_state_dicts(_own_windows(windows, processes), self.device)
        self.guard.load_state_dict(saved["guard"])
        if self.loss_scale.enabled and saved.get("loss_scale") is not None:
            self.loss_scale.load_state_dict(saved["loss_scale"])
        self.data_offset = saved["data_offset"]
        self.step, self.num_samples, self.seconds = saved["step"], saved["num_samples"], saved["seconds"]
        torch.set_rng_state(saved["torch_rng"])


def write_state(folder: Path, collected: Mapping[str, Any]) -> None:
    """Write `training_state/` into a checkpoint's folder.

    Raises:
        OSError: the folder cannot be written, or the disk is full.
    """
    (folder / STATE_FOLDER).mkdir()
    with (folder / STATE_FOLDER / STATE_FILE).open("wb") as file:
        torch.save(collected, file)


def saved_precision(folder: Path) -> ChosenPrecision:
    """Return the precision that a checkpoint was trained in."""
    saved = torch.load(folder / STATE_FOLDER / STATE_FILE, map_location="cpu", weights_only=True, mmap=True)
    precision: ChosenPrecision = saved["precision"]
    return precision


def trained_parameters(task: Task) -> dict[str, nn.Parameter]:
    """Return the trainable parameters by "module.parameter" name, in the order of the modules.

    Raises:
        ValueError: a trainable parameter is in none of the modules, or another parameter has `requires_grad`.
    """
    wanted = {id(parameter) for parameter in task.trainable_parameters()}
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for module_name, module in task.modules().items():
        for name, parameter in module.named_parameters():
            full_name = f"{module_name}.{name}"
            if parameter.requires_grad != (id(parameter) in wanted):
                should = "is trainable" if id(parameter) in wanted else "is frozen"
                raise ValueError(f"{full_name} {should} but has requires_grad={parameter.requires_grad}")
            if id(parameter) in wanted and id(parameter) not in seen:
                seen.add(id(parameter))
                found[full_name] = parameter
    if len(seen) != len(wanted):
        raise ValueError(f"{len(wanted) - len(seen)} trainable parameters belong to none of the task's modules")
    if not found:
        raise ValueError("the task has no trainable parameters")
    return found


def _changing(module: nn.Module) -> dict[str, Tensor]:
    """Return trainable parameters and buffers. Frozen parameters come from the model that the stage starts from."""
    frozen = {name for name, parameter in module.named_parameters() if not parameter.requires_grad}
    return {name: value for name, value in module.state_dict().items() if name not in frozen}


def _load_changing(module: nn.Module, saved: Mapping[str, Tensor], where: str) -> None:
    own = _changing(module)
    differing = sorted(name for name in own.keys() | saved.keys() if _shape(own.get(name)) != _shape(saved.get(name)))
    if differing:
        name = differing[0]
        raise SettingsError(
            f"{where} does not fit the stage's networks: {len(differing)} tensors differ, including {name} "
            f"(saved {_shape(saved.get(name))}, now {_shape(own.get(name))})"
        )
    with torch.no_grad():
        for name, value in own.items():
            own_part(value).copy_(part_of(saved[name], value))


def _own_windows(windows: Sequence[Mapping[str, Any]], processes: Processes) -> Sequence[Mapping[str, Any]]:
    """Return this process's window; if the number of processes changed, all windows on rank 0 and none elsewhere."""
    if len(windows) == processes.count:
        return [windows[processes.index]]
    return windows if processes.is_main else []


def _shape(tensor: Tensor | None) -> list[int] | None:
    return None if tensor is None else list(tensor.shape)

"""From losses to new weights: gradients, AdamW or Muon for hidden matrices, the learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.training.config import OptimizerConfig, SettingsError
from videocrafter.training.optim.adamw import build_adamw
from videocrafter.training.parallel.processes import Processes
from videocrafter.training.parallel.sharding import is_sharded, part_of, scale, sharded_like, total_norm


def lr_fraction(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """Learning rate of a step as a share of `config.lr`.

    Args:
        step: optimizer steps taken before this one, from 0.
        num_steps: steps of the whole stage; the floor is reached at its last step.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return 1.0
    progress = min(1.0, (step - config.warmup_steps) / max(1, num_steps - 1 - config.warmup_steps))
    remaining = 1 - progress if config.decay == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
    return config.final_lr_fraction + (1 - config.final_lr_fraction) * remaining


class StageOptimizer:
    """The torch optimizers of a stage, driven as one.

    Args:
        config: which optimizer, and its settings.
        modules: networks that own the parameters; Muon leaves their embedding tables to AdamW.
        parameters: what learns, by name.
        processes: those that average their gradients.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        modules: Mapping[str, nn.Module],
        parameters: Mapping[str, nn.Parameter],
        processes: Processes,
    ) -> None:
        self._config = config
        self._processes = processes
        self._names = list(parameters)
        self._trained = list(parameters.values())
        matrices = hidden_matrices(modules, parameters) if config.name == "muon" else []
        taken = {id(parameter) for parameter in matrices}
        rest = [parameter for parameter in parameters.values() if id(parameter) not in taken]
        self._optimizers: list[torch.optim.Optimizer] = []
        # Moments are saved in an order that does not depend on which parameters are sharded.
        self._orders: list[list[nn.Parameter]] = []
        if rest:
            self._add(build_adamw(config, _decay_groups(config, rest)), decaying(rest) + not_decaying(rest))
        if matrices:
            self._add(_build_muon(config, matrices), matrices)

    def _add(self, optimizer: torch.optim.Optimizer, order: list[nn.Parameter]) -> None:
        self._optimizers.append(optimizer)
        self._orders.append(order)

    def backward(self, loss: Tensor, loss_scale: float, *, last: bool) -> None:
        """Add a loss's gradient to what the passes before have left.

        Args:
            loss: this pass's share of the step's loss.
            loss_scale: what gradients are multiplied by until `gradient_norm`.
            last: whether it is this process's last pass of the step.
        """
        torch.autograd.backward(loss * loss_scale)

    def gradient_norm(self, loss_scale: float) -> Tensor:
        """Norm of the whole gradient, the same in all processes, clipped to `grad_clip` afterwards."""
        self._processes.average_gradients(self._trained)
        gradients = [parameter.grad for parameter in self._trained if parameter.grad is not None]
        if loss_scale != 1:
            scale(gradients, torch.tensor(1 / loss_scale))
        norm = self._processes.main_number(total_norm(gradients, self._processes.device))
        limit = self._config.grad_clip
        if limit is not None and bool(torch.isfinite(norm)):
            scale(gradients, (limit / (norm + 1e-6)).clamp(max=1.0))
        return norm

    def set_lr_fraction(self, fraction: float) -> None:
        """Set every learning rate to this share of `config.lr`."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._config.lr * fraction

    def step(self) -> None:
        """Update the parameters from their gradients."""
        for optimizer in self._optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Parameter names and the moments of each optimizer; those of sharded parameters are sharded."""
        return {
            "name": self._config.name,
            "parameters": self._names,
            "optimizers": [
                {
                    "state": {
                        place: dict(optimizer.state[parameter])
                        for place, parameter in enumerate(order)
                        if parameter in optimizer.state
                    }
                }
                for optimizer, order in zip(self._optimizers, self._orders, strict=True)
            ],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict` with whole moments; learning rate, betas and decay stay as configured now.

        Raises:
            SettingsError: the state is of another optimizer or of other parameters.
        """
        check_fits(state, self._config, self._names)
        for optimizer, order, saved in zip(self._optimizers, self._orders, state["optimizers"], strict=True):
            places = {parameter: place for place, parameter in enumerate(order)}
            own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
            moments = {
                index: _moments_like(saved["state"][places[parameter]], parameter)
                for index, parameter in enumerate(own)
                if places[parameter] in saved["state"]
            }
            settings = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": moments, "param_groups": settings})

    def close(self) -> None:
        """Nothing is held that goes beyond the stage."""


def check_fits(state: Mapping[str, Any], config: OptimizerConfig, names: Sequence[str]) -> None:
    """Find out whether a saved state is of this optimizer and of the parameters of these names.

    Raises:
        SettingsError: it is not.
    """
    if state["name"] != config.name or list(state["parameters"]) != list(names):
        raise SettingsError(
            f"the saved optimizer is {state['name']!r} over {len(state['parameters'])} parameters, the "
            f"stage has {config.name!r} over {len(names)}: one cannot go on from the other"
        )


def _moments_like(moments: Mapping[str, Any], parameter: nn.Parameter) -> dict[str, Any]:
    """A copy of a parameter's moments, those of its shape sharded as it is."""
    own: dict[str, Any] = {}
    for name, value in moments.items():
        if not isinstance(value, torch.Tensor):
            own[name] = value
        elif value.shape == parameter.shape:
            own[name] = sharded_like(part_of(value, parameter).clone(), parameter)
        else:
            own[name] = value.clone()
    return own


def decaying(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Matrices and kernels."""
    return [parameter for parameter in parameters if parameter.ndim >= 2]


def not_decaying(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Biases and norms."""
    return [parameter for parameter in parameters if parameter.ndim < 2]


def _decay_groups(config: OptimizerConfig, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Groups with and without decay; sharded parameters in groups of their own, as fused kernels want them."""
    return [
        {"params": group, "weight_decay": weight_decay}
        for kind, weight_decay in ((decaying(parameters), config.weight_decay), (not_decaying(parameters), 0.0))
        for wanted in (False, True)
        if (group := [parameter for parameter in kind if is_sharded(parameter) == wanted])
    ]


def _build_muon(config: OptimizerConfig, matrices: list[nn.Parameter]) -> torch.optim.Optimizer:
    if any(is_sharded(matrix) for matrix in matrices):
        raise SettingsError(
            "optimizer.name is 'muon', which needs whole matrices, and parallel.sharding splits them: use 'adamw'"
        )
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        raise SettingsError(
            f"optimizer.name is 'muon', which needs torch 2.9 or newer; this is torch {torch.__version__}: "
            "use 'adamw' or install a newer torch"
        )
    optimizer: torch.optim.Optimizer = muon(
        matrices, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return optimizer


def hidden_matrices(modules: Mapping[str, nn.Module], parameters: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
    """Parameters that Muon takes: matrices, but for embedding tables."""
    embeddings = {
        id(layer.weight)
        for module in modules.values()
        for layer in module.modules()
        if isinstance(layer, nn.Embedding)
    }
    return [p for p in parameters.values() if p.ndim == 2 and id(p) not in embeddings]

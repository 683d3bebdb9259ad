"""A stage's optimizer step: gradients and their norm, AdamW or Muon, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.training.config import Decay, OptimizerConfig, SettingsError
from videocrafter.training.optim.adamw import build_adamw
from videocrafter.training.parallel.processes import Processes
from videocrafter.training.parallel.sharding import is_sharded, part_of, scale, sharded_like, total_norm


def lr_fraction(config: OptimizerConfig, step: int, num_steps: int) -> float:
    """Return the learning rate of a step as a fraction of `config.lr`.

    Args:
        step: optimizer steps taken before this one, from 0.
        num_steps: steps of the whole stage; its last step has the final rate.
    """
    if step < config.warmup_steps:
        return (step + 1) / config.warmup_steps
    if config.decay == "constant":
        return 1.0
    last = num_steps - 1
    # The last step at the peak rate. With decay_share 1 it is the first one after warm-up.
    peak = max(config.warmup_steps, last - max(1, round(config.decay_share * num_steps)))
    if step < peak:
        return 1.0
    progress = min(1.0, (step - peak) / max(1, last - peak))
    return config.final_lr_fraction + (1 - config.final_lr_fraction) * _remaining(config.decay, progress)


def _remaining(decay: Decay, progress: float) -> float:
    """Return how much of the rate is left after `progress` of the decay, both from 0 to 1."""
    if decay == "linear":
        return 1 - progress
    if decay == "1-sqrt":
        return 1 - math.sqrt(progress)
    return 0.5 * (1 + math.cos(math.pi * progress))


class StageOptimizer:
    """The torch optimizers of a stage behind one interface.

    Args:
        config: optimizer settings.
        modules: networks that own the parameters; Muon leaves their embedding tables to AdamW.
        parameters: trainable parameters by name.
        processes: processes over which gradients are averaged.
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
        # The order in which moments are saved, independent of which parameters are sharded.
        self._orders: list[list[nn.Parameter]] = []
        if rest:
            self._add(build_adamw(config, _decay_groups(config, rest)), decaying(rest) + not_decaying(rest))
        if matrices:
            self._add(_build_muon(config, matrices), matrices)

    def _add(self, optimizer: torch.optim.Optimizer, order: list[nn.Parameter]) -> None:
        self._optimizers.append(optimizer)
        self._orders.append(order)

    def gradient_norm(self, loss_scale: float) -> Tensor:
        """Average and unscale the gradients, clip them to `grad_clip`, and return their norm before clipping.

        Args:
            loss_scale: factor that the losses were multiplied by.
        """
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
        """Set every learning rate to this fraction of `config.lr`."""
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = self._config.lr * fraction

    def step(self) -> None:
        """Update the parameters from their gradients."""
        for optimizer in self._optimizers:
            optimizer.step()

    def zero_grad(self) -> None:
        """Free the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Return parameter names and the moments of each optimizer; moments of sharded parameters are sharded."""
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
        """Restore a `state_dict` with unsharded moments; learning rate, betas and weight decay stay as configured.

        Raises:
            SettingsError: the state belongs to another optimizer or to other parameters.
        """
        if state["name"] != self._config.name or list(state["parameters"]) != self._names:
            raise SettingsError(
                f"the saved optimizer state is of {state['name']!r} with {len(state['parameters'])} parameters, but "
                f"the stage uses {self._config.name!r} with {len(self._names)}; resume with the settings of the "
                "checkpoint"
            )
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


def _moments_like(moments: Mapping[str, Any], parameter: nn.Parameter) -> dict[str, Any]:
    """Copy a parameter's moments; those that have its shape are sharded like it."""
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
    """Select matrices and convolution kernels."""
    return [parameter for parameter in parameters if parameter.ndim >= 2]


def not_decaying(parameters: Iterable[nn.Parameter]) -> list[nn.Parameter]:
    """Select biases and norm weights."""
    return [parameter for parameter in parameters if parameter.ndim < 2]


def _decay_groups(config: OptimizerConfig, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    """Group parameters by weight decay, sharded ones apart: fused kernels cannot mix the two."""
    return [
        {"params": group, "weight_decay": weight_decay}
        for kind, weight_decay in ((decaying(parameters), config.weight_decay), (not_decaying(parameters), 0.0))
        for wanted in (False, True)
        if (group := [parameter for parameter in kind if is_sharded(parameter) == wanted])
    ]


def _build_muon(config: OptimizerConfig, matrices: list[nn.Parameter]) -> torch.optim.Optimizer:
    if any(is_sharded(matrix) for matrix in matrices):
        raise SettingsError(
            "optimizer.name is 'muon', which needs unsharded matrices; use 'adamw' with parallel.sharding"
        )
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        raise SettingsError(
            f"optimizer.name is 'muon', which needs torch 2.9 or newer, but this is torch {torch.__version__}; "
            "install a newer torch or use 'adamw'"
        )
    optimizer: torch.optim.Optimizer = muon(
        matrices, lr=config.lr, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
    )
    return optimizer


def hidden_matrices(modules: Mapping[str, nn.Module], parameters: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
    """Select the parameters that Muon updates: 2-D matrices other than embedding tables."""
    embeddings = {
        id(layer.weight)
        for module in modules.values()
        for layer in module.modules()
        if isinstance(layer, nn.Embedding)
    }
    return [p for p in parameters.values() if p.ndim == 2 and id(p) not in embeddings]

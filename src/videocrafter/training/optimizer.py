"""AdamW, or Muon for hidden matrices with AdamW for the rest, and the learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from videocrafter.training.config import OptimizerConfig, SettingsError


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
    """

    def __init__(
        self,
        config: OptimizerConfig,
        modules: Mapping[str, nn.Module],
        parameters: Mapping[str, nn.Parameter],
    ) -> None:
        self._config = config
        self._names = list(parameters)
        matrices = _hidden_matrices(modules, parameters) if config.name == "muon" else []
        taken = {id(parameter) for parameter in matrices}
        rest = [parameter for parameter in parameters.values() if id(parameter) not in taken]
        self._optimizers: list[torch.optim.Optimizer] = []
        if rest:
            self._optimizers.append(_build_adamw(config, rest))
        if matrices:
            self._optimizers.append(_build_muon(config, matrices))

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
        """Parameter names and the moments of each optimizer."""
        return {
            "name": self._config.name,
            "parameters": self._names,
            "optimizers": [optimizer.state_dict() for optimizer in self._optimizers],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the moments; learning rate, betas and decay stay as configured now.

        Raises:
            SettingsError: the state is of another optimizer or of other parameters.
        """
        if state["name"] != self._config.name or list(state["parameters"]) != self._names:
            raise SettingsError(
                f"the saved optimizer is {state['name']!r} over {len(state['parameters'])} parameters, the "
                f"stage has {self._config.name!r} over {len(self._names)}: one cannot go on from the other"
            )
        for optimizer, saved in zip(self._optimizers, state["optimizers"], strict=True):
            settings = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": saved["state"], "param_groups": settings})


def _decay_groups(config: OptimizerConfig, parameters: list[nn.Parameter]) -> list[dict[str, Any]]:
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _build_adamw(config: OptimizerConfig, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    fused = all(parameter.device.type in ("cpu", "cuda") for parameter in parameters)
    return torch.optim.AdamW(
        _decay_groups(config, parameters), lr=config.lr, betas=config.betas, eps=config.eps, fused=fused
    )


def _build_muon(config: OptimizerConfig, matrices: list[nn.Parameter]) -> torch.optim.Optimizer:
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


def _hidden_matrices(modules: Mapping[str, nn.Module], parameters: Mapping[str, nn.Parameter]) -> list[nn.Parameter]:
    embeddings = {
        id(layer.weight)
        for module in modules.values()
        for layer in module.modules()
        if isinstance(layer, nn.Embedding)
    }
    return [p for p in parameters.values() if p.ndim == 2 and id(p) not in embeddings]

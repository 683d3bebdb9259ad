"""Gradients and moments that DeepSpeed shares out over the processes (ZeRO 1 and 2); every process has all weights.

DeepSpeed averages and clips gradients and updates the weights, by torch's AdamW on this process's part of them. When
it does so, and whether a step counts, is said here.
"""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.training.config import OptimizerConfig
from videocrafter.training.optim.optimizer import check_fits, decaying, not_decaying
from videocrafter.training.parallel.deepspeed_config import Config
from videocrafter.training.parallel.processes import Processes

_MOMENTS = ("exp_avg", "exp_avg_sq")


class DeepSpeedOptimizer:
    """What `StageOptimizer` is, with a DeepSpeed engine behind it; its saved state is the same.

    Weights are changed in place by whoever wants to (averages, say); DeepSpeed's copies of them follow in
    `load_state_dict` only. In a step, all processes have to use the same parameters. One that none of them uses has
    a gradient of zero, where `StageOptimizer` would leave it alone.

    Args:
        config: AdamW's settings.
        modules: networks that own the parameters.
        parameters: what learns, by name; they are moved into memory of DeepSpeed's.
        processes: at least two.
        engine_config: what `completed_config` gave.
    """

    def __init__(
        self,
        config: OptimizerConfig,
        modules: Mapping[str, nn.Module],
        parameters: Mapping[str, nn.Parameter],
        processes: Processes,
        engine_config: Config,
    ) -> None:
        if processes.device.type == "cpu":
            # Else it takes any GPU that it finds.
            os.environ.setdefault("DS_ACCELERATOR", "cpu")
        import deepspeed

        # Newer versions of torch have other names for what it calls.
        warnings.filterwarnings(
            "ignore", message=r".*torch\.distributed\.\w+_tensor` is deprecated", category=FutureWarning
        )
        # It warns of any optimizer but its own.
        logging.getLogger("DeepSpeed").setLevel(logging.ERROR)
        self._config, self._processes = config, processes
        self._parameters = dict(parameters)
        matrices, vectors = decaying(parameters.values()), not_decaying(parameters.values())
        # The order in which StageOptimizer saves them.
        self._order = matrices + vectors
        groups = [
            {"params": group, "weight_decay": weight_decay}
            for group, weight_decay in ((matrices, config.weight_decay), (vectors, 0.0))
            if group
        ]
        self._adamw = _SkippableAdamW(groups, lr=config.lr, betas=config.betas, eps=config.eps, fused=True)
        trained = {
            name: module for name, module in modules.items() if any(p.requires_grad for p in module.parameters())
        }
        for parameter in (parameter for module in trained.values() for parameter in module.parameters()):
            # DeepSpeed takes parameters in row-major order only. Convolutions may come in another, and where a side
            # is 1, torch calls it contiguous whatever its stride.
            parameter.data = parameter.data.contiguous().view(-1).view(parameter.shape)
        self._engine, self._zero, *_ = deepspeed.initialize(
            model=_Networks(trained),
            model_parameters=self._order,
            optimizer=self._adamw,
            config=engine_config,
            dist_init_required=False,
        )
        self._access = deepspeed.utils
        self._has_gradients = False
        self._begin_moments()

    def _begin_moments(self) -> None:
        """Moments of no step, which can be loaded over and outlive a first step that is left out."""
        for part in self._parts():
            self._adamw.state[part] = {
                "step": torch.zeros((), dtype=torch.float32, device=part.device),
                **{name: torch.zeros_like(part) for name in _MOMENTS},
            }
        self._zero._lazy_init_hp_params_optimizer_state()  # as it does itself after a first step

    def _parts(self) -> list[nn.Parameter]:
        return [part for group in self._adamw.param_groups for part in group["params"]]

    def backward(self, loss: Tensor, loss_scale: float, *, last: bool) -> None:
        """Add a loss's gradient to what the passes before have left; see `StageOptimizer`."""
        self._zero.override_loss_scale(loss_scale)
        self._engine.set_gradient_accumulation_boundary(last)
        self._engine.backward(self._engine(loss), scale_wrt_gas=False)
        self._has_gradients = True

    def gradient_norm(self, loss_scale: float) -> Tensor:
        """Norm of the whole gradient, the same in all processes; `step` clips by it."""
        norm: Tensor = self._zero.scaled_global_norm().float() / loss_scale
        # DeepSpeed says -1 where it is no number.
        norm = torch.where(norm < 0, torch.nan, norm).to(self._processes.device)
        return self._processes.main_number(norm)

    def set_lr_fraction(self, fraction: float) -> None:
        """Set every learning rate to this share of `config.lr`."""
        for group in self._adamw.param_groups:
            group["lr"] = self._config.lr * fraction

    def step(self) -> None:
        """Update the parameters from their gradients, which are gone then."""
        self._engine.step()
        self._has_gradients = False

    def zero_grad(self) -> None:
        """Forget the gradients, if no step has used them."""
        if self._has_gradients:
            # DeepSpeed forgets them in its own step and nowhere else.
            self._adamw.skips = True
            self.step()
            self._adamw.skips = False

    def state_dict(self) -> dict[str, Any]:
        """As `StageOptimizer`'s, in the main process; all call it together."""
        step = self._adamw.state[self._parts()[0]]["step"].cpu()
        state: dict[int, dict[str, Any]] = {}
        for place, parameter in enumerate(self._order):
            moments = {name: self._access.safe_get_full_optimizer_state(parameter, name) for name in _MOMENTS}
            if self._processes.is_main:
                whole = {name: moment.to(parameter.dtype).cpu() for name, moment in moments.items()}
                state[place] = {"step": step.clone(), **whole}
        return {"name": self._config.name, "parameters": list(self._parameters), "optimizers": [{"state": state}]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore `state_dict`, and DeepSpeed's copies of the weights from what the parameters hold now.

        Raises:
            SettingsError: the state is of another optimizer or of other parameters.
        """
        check_fits(state, self._config, list(self._parameters))
        (saved,) = (optimizer["state"] for optimizer in state["optimizers"])
        for place, parameter in enumerate(self._order):
            self._access.safe_set_full_fp32_param(parameter, parameter.detach())
            for name in _MOMENTS:
                moment = saved[place][name] if place in saved else torch.zeros_like(parameter)
                self._access.safe_set_full_optimizer_state(parameter, moment.float(), name)
        # Without DeepSpeed, parameters that some steps do not use count their own; here all have one count.
        step = max((float(moments["step"]) for moments in saved.values()), default=0.0)
        for part in self._parts():
            self._adamw.state[part]["step"].fill_(step)

    def close(self) -> None:
        """Let go of the networks, which it would hold while the next stage trains its own."""
        self._engine.destroy()


class _Networks(nn.Module):
    """What DeepSpeed looks after. Losses are computed outside of it and pass through, for it to see."""

    def __init__(self, networks: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)

    def forward(self, loss: Tensor) -> Tensor:
        return loss


class _SkippableAdamW(torch.optim.AdamW):
    """AdamW whose steps can be made to do nothing."""

    skips = False

    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        if not self.skips:
            super().step()

"""AdamW and its memory-saving variants: 8-bit moments, bfloat16 moments, moments in main memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.training.config import OptimizerConfig, SettingsError
from videocrafter.training.parallel.sharding import is_sharded, own_part
from videocrafter.training.randomness import make_generator

Groups = Sequence[dict[str, Any]]
_LOW_BITS = 1 << 16


def build_adamw(config: OptimizerConfig, groups: Groups) -> torch.optim.Optimizer:
    """Build the AdamW variant that the settings select.

    Args:
        groups: parameter groups of a torch optimizer, with their weight decay.

    Raises:
        SettingsError: the variant needs a missing package, or does not support sharded parameters.
    """
    parameters = [parameter for group in groups for parameter in group["params"]]
    sharded = any(is_sharded(parameter) for parameter in parameters)
    on_cpu = all(parameter.device.type == "cpu" for parameter in parameters)
    if config.name == "adamw8bit":
        if sharded:
            raise SettingsError(
                "optimizer.name is 'adamw8bit', which does not support parallel.sharding; use 'adamw' with "
                "optimizer.state_dtype=bf16"
            )
        return _build_8bit(config, groups)
    if not config.offload or on_cpu:
        return _build_resident(config, groups)
    if sharded:
        raise SettingsError("optimizer.offload does not support parallel.sharding; use parallel.cpu_offload")
    return OffloadedOptimizer(groups, lambda mirrored: _build_resident(config, mirrored))


def _build_resident(config: OptimizerConfig, groups: Groups) -> torch.optim.Optimizer:
    """Build an AdamW whose moments are on the parameters' device."""
    settings: dict[str, Any] = {"lr": config.lr, "betas": config.betas, "eps": config.eps}
    if config.state_dtype == "bf16":
        return LeanAdamW(groups, **settings)
    devices = {parameter.device.type for group in groups for parameter in group["params"]}
    return torch.optim.AdamW(list(groups), fused=devices <= {"cpu", "cuda"}, **settings)


def _build_8bit(config: OptimizerConfig, groups: Groups) -> torch.optim.Optimizer:
    try:
        from bitsandbytes.optim import AdamW8bit  # type: ignore[import-not-found]
    except ImportError as error:
        raise SettingsError(
            f"optimizer.name is 'adamw8bit', which needs bitsandbytes ({error}); pip install bitsandbytes, or use "
            "'adamw' with optimizer.state_dtype=bf16, which halves the memory of the moments"
        ) from error
    optimizer: torch.optim.Optimizer = AdamW8bit(list(groups), lr=config.lr, betas=config.betas, eps=config.eps)
    return optimizer


class LeanAdamW(torch.optim.Optimizer):
    """AdamW with both moments in bfloat16: 4 bytes per parameter instead of 8.

    A step changes the second moment by a fraction 1 - beta2, which is below the resolution of bfloat16. It is
    therefore rounded stochastically, which is unbiased; the random numbers depend on the step.
    """

    def __init__(self, groups: Groups, *, lr: float, betas: tuple[float, float], eps: float) -> None:
        super().__init__(list(groups), {"lr": lr, "betas": betas, "eps": eps, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the parameters that have gradients."""
        index = 0
        for group in self.param_groups:
            for parameter in group["params"]:
                index += 1
                if parameter.grad is not None:
                    self._update(parameter, group, index)

    def _update(self, parameter: nn.Parameter, group: Mapping[str, Any], index: int) -> None:
        state = self.state[parameter]
        if not state:
            state["step"] = 0
            for name in ("exp_avg", "exp_avg_sq"):
                state[name] = torch.zeros_like(parameter, dtype=torch.bfloat16)
        state["step"] += 1
        assert parameter.grad is not None
        value, gradient = own_part(parameter), own_part(parameter.grad)
        kept, kept_square = own_part(state["exp_avg"]), own_part(state["exp_avg_sq"])
        (beta1, beta2), lr = group["betas"], group["lr"]
        mean = kept.float().lerp_(gradient, 1 - beta1)
        square = kept_square.float().mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        value.mul_(1 - lr * group["weight_decay"])
        spread = square.sqrt().div_(math.sqrt(1 - beta2 ** state["step"])).add_(group["eps"])
        value.addcdiv_(mean, spread, value=-lr / (1 - beta1 ** state["step"]))
        kept.copy_(mean)
        kept_square.copy_(round_by_chance(square, make_generator(value.device, "moments", state["step"], index)))

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the moments, but not the settings. float32 moments are rounded to bfloat16."""
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        for index, saved in state_dict["state"].items():
            device = parameters[index].device
            self.state[parameters[index]] = {
                "step": int(saved["step"]),
                **{name: saved[name].to(device, torch.bfloat16) for name in ("exp_avg", "exp_avg_sq")},
            }


def round_by_chance(values: Tensor, generator: torch.Generator) -> Tensor:
    """Stochastically round finite float32 values to bfloat16; the result is unbiased."""
    # Draw four 16-bit numbers at once, since drawing dominates the time.
    draws = torch.empty(-(-values.numel() // 4), dtype=torch.int64, device=values.device)
    drawn = draws.random_(-(2**63), None, generator=generator).view(torch.int16)[: values.numel()]
    noise = drawn.to(torch.int32).bitwise_and_(_LOW_BITS - 1).view(values.shape)
    bits = (values.view(torch.int32) + noise).bitwise_and_(-_LOW_BITS)
    return bits.view(torch.float32).to(torch.bfloat16)


class OffloadedOptimizer(torch.optim.Optimizer):
    """An optimizer that updates copies of the weights in main memory, so that the device holds no moments.

    Each step copies gradients to main memory and weights back.

    Args:
        build: builds the inner optimizer for groups of copies.
    """

    def __init__(self, groups: Groups, build: Callable[[Groups], torch.optim.Optimizer]) -> None:
        super().__init__(list(groups), {})
        self._copies = {
            parameter: nn.Parameter(parameter.detach().cpu().clone())
            for group in self.param_groups
            for parameter in group["params"]
        }
        mirrored = [{**group, "params": [self._copies[p] for p in group["params"]]} for group in self.param_groups]
        self._inner = build(mirrored)
        for group, inner in zip(self.param_groups, self._inner.param_groups, strict=True):
            group.update({name: value for name, value in inner.items() if name != "params"})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update the parameters that have gradients."""
        for group, inner in zip(self.param_groups, self._inner.param_groups, strict=True):
            inner.update({name: value for name, value in group.items() if name != "params"})
        for parameter, copy in self._copies.items():
            copy.grad = None if parameter.grad is None else parameter.grad.to(copy.device)
        self._inner.step()
        for parameter, copy in self._copies.items():
            if copy.grad is not None:
                parameter.copy_(copy)
                copy.grad = None
                self.state[parameter] = self._inner.state[copy]

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore the moments, but not the settings, and copy the present weights."""
        settings = self._inner.state_dict()["param_groups"]
        self._inner.load_state_dict({"state": dict(state_dict["state"]), "param_groups": settings})
        with torch.no_grad():
            for parameter, copy in self._copies.items():
                copy.copy_(parameter)
                self.state[parameter] = self._inner.state[copy]

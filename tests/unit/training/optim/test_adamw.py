from __future__ import annotations

import copy
import sys
import types

import pytest
import torch
from torch import nn

from videocrafter.training.config import OptimizerConfig, SettingsError
from videocrafter.training.optim.adamw import LeanAdamW, OffloadedOptimizer, build_adamw, round_by_chance

SETTINGS = {"lr": 1e-2, "betas": (0.9, 0.98), "eps": 1e-8}


def network() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(8, 4)


def train(net: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        inputs = torch.randn(16, 8, generator=torch.Generator().manual_seed(step))
        net(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_small_moments_follow_adamw() -> None:
    exact, lean = network(), network()
    start = exact.weight.detach().clone()
    train(exact, torch.optim.AdamW(exact.parameters(), weight_decay=0.1, **SETTINGS), range(50))
    optimizer = LeanAdamW([{"params": list(lean.parameters()), "weight_decay": 0.1}], **SETTINGS)
    train(lean, optimizer, range(50))
    moved = (exact.weight - start).norm()
    assert (lean.weight - exact.weight).norm() < 0.02 * moved
    state = optimizer.state[lean.weight]
    assert {value.dtype for value in state.values() if isinstance(value, torch.Tensor)} == {torch.bfloat16}


def test_small_moments_go_on_where_they_were() -> None:
    nets = [network(), network()]
    optimizers = [LeanAdamW([{"params": list(net.parameters())}], **SETTINGS) for net in nets]
    train(nets[0], optimizers[0], range(4))
    nets[1].load_state_dict(nets[0].state_dict())
    optimizers[1].load_state_dict(copy.deepcopy(optimizers[0].state_dict()))
    for net, optimizer in zip(nets, optimizers, strict=True):
        train(net, optimizer, range(4, 8))
    assert torch.equal(nets[0].weight, nets[1].weight)


def test_the_second_moment_does_not_stand_still_where_bfloat16_is_too_coarse() -> None:
    """A change of 0.001 is less than half the resolution of bfloat16: rounding to nearest would return 1."""
    value = torch.ones(4096)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        value = round_by_chance(value * 0.999, generator).float()
    assert float(value.mean()) == pytest.approx(0.999**200, rel=0.01)
    assert bool((torch.ones(3) * 0.999).bfloat16().eq(1).all())


def test_rounding_by_chance_keeps_what_bfloat16_knows() -> None:
    known = torch.tensor([0.0, 1.0, 0.375, 1e-20]).bfloat16()
    assert torch.equal(round_by_chance(known.float(), torch.Generator().manual_seed(0)), known)


@pytest.mark.parametrize("state_dtype", ["fp32", "bf16"])
def test_an_offloaded_optimizer_is_the_same_at_another_place(state_dtype: str) -> None:
    """Without a GPU, both copies are in main memory; this tests the updates, not the transfer."""
    config = OptimizerConfig(lr=1e-2, state_dtype=state_dtype)  # type: ignore[arg-type]
    nets = [network(), network(), network()]
    near = build_adamw(config, [{"params": list(nets[0].parameters()), "weight_decay": 0.1}])
    offloaded, resumed = (
        OffloadedOptimizer(
            [{"params": list(net.parameters()), "weight_decay": 0.1}], lambda groups: build_adamw(config, groups)
        )
        for net in nets[1:]
    )
    for optimizer in (near, offloaded, resumed):
        optimizer.param_groups[0]["lr"] = 3e-3
    train(nets[0], near, range(6))
    train(nets[1], offloaded, range(3))
    nets[2].load_state_dict(nets[1].state_dict())
    resumed.load_state_dict(copy.deepcopy(offloaded.state_dict()))
    train(nets[2], resumed, range(3, 6))
    assert torch.equal(nets[0].weight, nets[2].weight)


def test_offload_changes_nothing_on_a_cpu() -> None:
    optimizer = build_adamw(OptimizerConfig(offload=True), [{"params": list(network().parameters())}])
    assert type(optimizer) is torch.optim.AdamW


def test_8_bit_moments_are_bitsandbytes(monkeypatch: pytest.MonkeyPatch) -> None:
    config = OptimizerConfig(name="adamw8bit", lr=2e-3)
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(SettingsError, match="pip install bitsandbytes"):
        build_adamw(config, [{"params": list(network().parameters())}])
    package, optim = types.ModuleType("bitsandbytes"), types.ModuleType("bitsandbytes.optim")
    optim.AdamW8bit = torch.optim.AdamW  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "bitsandbytes", package)
    monkeypatch.setitem(sys.modules, "bitsandbytes.optim", optim)
    optimizer = build_adamw(config, [{"params": list(network().parameters()), "weight_decay": 0.0}])
    assert optimizer.param_groups[0]["lr"] == 2e-3
    with pytest.raises(ValueError, match="8 bits"):
        OptimizerConfig(name="adamw8bit", state_dtype="bf16")

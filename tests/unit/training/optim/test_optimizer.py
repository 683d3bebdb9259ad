from __future__ import annotations

import copy
from itertools import pairwise

import pytest
import torch
from torch import nn

from videocrafter.training.config import Decay, OptimizerConfig
from videocrafter.training.optim.optimizer import StageOptimizer, lr_fraction
from videocrafter.training.parallel.processes import Processes


def test_the_rate_rises_holds_and_falls_to_its_floor() -> None:
    config = OptimizerConfig(warmup_steps=4, decay="cosine", final_lr_fraction=0.1)
    fractions = [lr_fraction(config, step, 20) for step in range(20)]
    assert fractions[:4] == [0.25, 0.5, 0.75, 1.0]
    assert fractions[4] == 1.0
    assert fractions[-1] == pytest.approx(0.1)
    assert all(a > b for a, b in pairwise(fractions[4:]))


def test_linear_and_constant() -> None:
    linear = OptimizerConfig(warmup_steps=0, decay="linear")
    assert [lr_fraction(linear, step, 5) for step in range(5)] == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    constant = OptimizerConfig(warmup_steps=0)
    assert {lr_fraction(constant, step, 5) for step in range(5)} == {1.0}


@pytest.mark.parametrize(
    ("decay", "expected"),
    [
        # Ten steps: 2 of warm-up, then the peak rate until the last 4, which are at 1/4, 2/4, 3/4 and 4/4 of the
        # decay. The floor is 0.2, so the rate is 0.2 + 0.8 * remaining.
        ("linear", [0.8, 0.6, 0.4, 0.2]),
        ("1-sqrt", [0.6, 0.2 + 0.8 * 0.2928932188, 0.2 + 0.8 * 0.1339745962, 0.2]),
        ("cosine", [0.2 + 0.8 * 0.8535533906, 0.6, 0.2 + 0.8 * 0.1464466094, 0.2]),
    ],
)
def test_warmup_stable_decay(decay: Decay, expected: list[float]) -> None:
    config = OptimizerConfig(warmup_steps=2, decay=decay, decay_share=0.4, final_lr_fraction=0.2)
    fractions = [lr_fraction(config, step, 10) for step in range(10)]
    assert fractions[:6] == [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]
    assert fractions[6:] == pytest.approx(expected)


def test_the_stable_phase_does_not_depend_on_the_length_of_the_stage() -> None:
    """A run may be extended from any checkpoint before the decay."""
    config = OptimizerConfig(warmup_steps=10, decay="1-sqrt", decay_share=0.2)
    short, long = ([lr_fraction(config, step, num_steps) for step in range(num_steps)] for num_steps in (100, 1000))
    assert short[:80] == long[:80]
    assert max(short[80:]) < 1.0
    assert (short[-1], long[-1]) == (0.0, 0.0)


def test_the_decay_starts_after_warmup_and_lasts_at_least_one_step() -> None:
    late = OptimizerConfig(warmup_steps=6, decay="linear", decay_share=0.9)
    assert [lr_fraction(late, step, 9) for step in range(5, 9)] == [1.0, 1.0, 0.5, 0.0]
    short = OptimizerConfig(warmup_steps=0, decay="linear", decay_share=0.001)
    assert [lr_fraction(short, step, 4) for step in range(4)] == [1.0, 1.0, 1.0, 0.0]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(5, 4)
        self.hidden = nn.Linear(4, 4)
        self.conv = nn.Conv1d(4, 2, 1)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.conv(self.hidden(self.embedding(tokens)).transpose(1, 2)).square().mean()


def build(name: str) -> tuple[Net, StageOptimizer]:
    torch.manual_seed(0)
    net = Net()
    config = OptimizerConfig(name=name, lr=1e-2, weight_decay=0.1)  # type: ignore[arg-type]
    return net, StageOptimizer(config, {"net": net}, dict(net.named_parameters()), Processes("cpu"))


def train(net: Net, optimizer: StageOptimizer, num_steps: int) -> None:
    for _ in range(num_steps):
        net(torch.arange(5)[None]).backward()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_every_parameter_learns_and_the_state_goes_on(name: str) -> None:
    net, optimizer = build(name)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    train(net, optimizer, 2)
    assert all(not torch.equal(before[key], value) for key, value in net.state_dict().items())
    other_net, other = build(name)
    other_net.load_state_dict(net.state_dict())
    # A run saves the state to a file; without the copy, the two would share their moments.
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    train(net, optimizer, 2)
    train(other_net, other, 2)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other_net.parameters(), strict=True))


def test_muon_takes_hidden_matrices_only() -> None:
    net, optimizer = build("muon")
    muon = next(o for o in optimizer._optimizers if isinstance(o, torch.optim.Muon))
    assert [id(p) for group in muon.param_groups for p in group["params"]] == [id(net.hidden.weight)]


def test_muon_on_an_old_torch_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.optim, "Muon")
    with pytest.raises(ValueError, match=r"needs torch 2\.9"):
        build("muon")


def test_vectors_do_not_decay() -> None:
    net, optimizer = build("adamw")
    decays = {
        id(p): group["weight_decay"]
        for o in optimizer._optimizers
        for group in o.param_groups
        for p in group["params"]
    }
    assert decays[id(net.hidden.weight)] == 0.1
    assert decays[id(net.hidden.bias)] == 0.0


def test_the_settings_of_now_win_over_the_saved_ones() -> None:
    net, optimizer = build("adamw")
    train(net, optimizer, 1)
    config = OptimizerConfig(lr=5e-4, weight_decay=0.0)
    other = StageOptimizer(config, {"net": net}, dict(net.named_parameters()), Processes("cpu"))
    other.load_state_dict(optimizer.state_dict())
    groups = [group for o in other._optimizers for group in o.param_groups]
    assert {group["lr"] for group in groups} == {5e-4}
    assert {group["weight_decay"] for group in groups} == {0.0}


def test_a_state_of_other_parameters_is_refused() -> None:
    net, optimizer = build("adamw")
    other = StageOptimizer(OptimizerConfig(), {}, {"hidden": net.hidden.weight}, Processes("cpu"))
    with pytest.raises(ValueError, match="resume with the settings of the checkpoint"):
        other.load_state_dict(optimizer.state_dict())

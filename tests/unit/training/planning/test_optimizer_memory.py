from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from videocrafter.training.config import OptimizerConfig
from videocrafter.training.optim.optimizer import StageOptimizer, hidden_matrices
from videocrafter.training.parallel.processes import Processes
from videocrafter.training.planning.optimizer_memory import Weights, moments, working


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.hidden = nn.Linear(16, 24)
        self.kernel = nn.Conv1d(24, 8, 3)


@pytest.mark.parametrize("settings", [{}, {"state_dtype": "bf16"}, {"name": "muon"}])
def test_moments_are_those_that_the_optimizer_makes(settings: dict[str, Any]):
    net, config = Net(), OptimizerConfig(**settings)
    parameters = dict(net.named_parameters())
    optimizer = StageOptimizer(config, {"net": net}, parameters, Processes("cpu"))
    for parameter in parameters.values():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    real = sum(
        value.numel() * value.element_size()
        for one in optimizer.state_dict()["optimizers"]
        for state in one["state"].values()
        for name, value in state.items()
        if name != "step"
    )
    matrices = {id(one) for one in hidden_matrices({"net": net}, parameters)}
    described = [Weights(shape=tuple(one.shape), is_matrix=id(one) in matrices) for one in parameters.values()]
    assert moments(config, described) == real


def test_eight_bits_are_a_byte_and_a_share_of_a_scale_but_not_for_small_tensors():
    config = OptimizerConfig(name="adamw8bit")
    assert moments(config, [Weights(shape=(256, 256))]) == 2 * (65536 + 4 * 256)
    assert moments(config, [Weights(shape=(256,))]) == 8 * 256


def test_only_what_works_on_one_parameter_at_a_time_takes_more_in_a_step():
    weights = [Weights(shape=(100, 10), is_matrix=True), Weights(shape=(7,))]
    assert working(OptimizerConfig(), weights) == 0
    assert working(OptimizerConfig(state_dtype="bf16"), weights) == 24 * 1000
    assert working(OptimizerConfig(name="muon"), weights) == 8 * 1000 + 6 * 100

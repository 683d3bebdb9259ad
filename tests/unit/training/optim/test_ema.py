from __future__ import annotations

import torch
from torch import nn

from videocrafter.training.optim.ema import ExponentialMovingAverage


def test_the_average_follows_the_formula_with_its_warm_up() -> None:
    parameter = nn.Parameter(torch.zeros(3))
    ema = ExponentialMovingAverage({"p": parameter}, decay=0.3)
    expected = torch.zeros(3)
    for n in range(8):
        with torch.no_grad():
            parameter += 1.0 + n
        ema.update()
        decay = min(0.3, (1 + n) / (10 + n))
        expected = decay * expected + (1 - decay) * parameter.detach()
    averages = ema.state_dict()["averages"]
    torch.testing.assert_close(averages["p"], expected)


def test_swapping_shows_the_average_and_gives_the_weights_back() -> None:
    layer = nn.Linear(2, 2)
    ema = ExponentialMovingAverage(dict(layer.named_parameters()), decay=0.5)
    start = layer.weight.detach().clone()
    with torch.no_grad():
        layer.weight += 1
    raw = layer.weight.detach().clone()
    with ema.swapped_in():
        assert torch.equal(layer.weight, start)
        assert torch.equal(layer.state_dict()["weight"], start)
    assert torch.equal(layer.weight, raw)
    try:
        with ema.swapped_in():
            raise RuntimeError
    except RuntimeError:
        pass
    assert torch.equal(layer.weight, raw)


def test_an_update_after_a_swap_moves_the_average_and_not_the_weights() -> None:
    parameter = nn.Parameter(torch.ones(2))
    ema = ExponentialMovingAverage({"p": parameter}, decay=0.9)
    with torch.no_grad():
        parameter += 1
    with ema.swapped_in():
        pass
    ema.update()
    assert torch.equal(parameter, torch.full((2,), 2.0))
    torch.testing.assert_close(ema.state_dict()["averages"]["p"], torch.full((2,), 1.9))

import math

import numpy as np
import pytest

from videocrafter.evaluation.study.rao_kupper import fit_rao_kupper


def test_two_systems_have_a_closed_form():
    # P(win) = σ(d - τ), P(loss) = σ(-d - τ), so logits of the shares give d and τ.
    wins, ties = np.array([[0.0, 50.0], [20.0, 0.0]]), np.array([[0.0, 30.0], [30.0, 0.0]])
    fit = fit_rao_kupper(wins, ties, ridge=1e-9)
    win, loss = math.log(0.5 / 0.5), math.log(0.2 / 0.8)
    assert fit.strengths[0] - fit.strengths[1] == pytest.approx((win - loss) / 2)
    assert fit.tie_threshold == pytest.approx(-(win + loss) / 2)
    assert fit.win_probability(0, 1) == pytest.approx(0.5)
    assert fit.tie_probability(0, 1) == pytest.approx(0.3)
    assert fit.strengths.sum() == pytest.approx(0.0)


def test_simulated_votes_give_the_strengths_back():
    true, tau = np.array([0.9, 0.2, -0.3, -0.8]), 0.4
    rng = np.random.default_rng(1)
    wins, ties = np.zeros((2, 4, 4))
    for i in range(4):
        for j in range(i + 1, 4):
            win, loss = (1 / (1 + math.exp(-(sign * (true[i] - true[j]) - tau))) for sign in (1, -1))
            wins[i, j], wins[j, i], ties[i, j] = rng.multinomial(20_000, [win, loss, 1 - win - loss])
            ties[j, i] = ties[i, j]
    fit = fit_rao_kupper(wins, ties)
    assert fit.strengths == pytest.approx(true, abs=0.03)
    assert fit.tie_threshold == pytest.approx(tau, abs=0.02)


@pytest.mark.parametrize("votes", [[[0, 9], [0, 0]], [[0, 0], [0, 0]]], ids=["always wins", "no votes"])
def test_votes_without_a_maximum_stay_finite(votes):
    fit = fit_rao_kupper(np.array(votes, dtype=float), np.zeros((2, 2)))
    assert np.isfinite(fit.strengths).all()
    assert fit.strengths[0] >= fit.strengths[1]
    assert fit.tie_threshold == 0.0


def test_only_ties_are_even():
    fit = fit_rao_kupper(np.zeros((2, 2)), np.array([[0.0, 8.0], [8.0, 0.0]]))
    assert fit.strengths == pytest.approx([0.0, 0.0])
    assert fit.tie_probability(0, 1) > 0.99


def test_wrong_matrices_are_refused():
    for wins, ties in ((np.zeros((2, 3)), np.zeros((2, 3))), (np.zeros((2, 2)), np.array([[0.0, 1.0], [0.0, 0.0]]))):
        with pytest.raises(ValueError, match="must"):
            fit_rao_kupper(wins, ties)

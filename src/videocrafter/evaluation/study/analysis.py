"""Turn the votes that count into numbers per aspect: rates, strengths or means, intervals, agreement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from videocrafter.evaluation.study.agreement import Level, krippendorff_alpha
from videocrafter.evaluation.study.design import RATINGS, StudyDesign
from videocrafter.evaluation.study.rao_kupper import fit_rao_kupper
from videocrafter.evaluation.study.resampling import DRAWS, bootstrap_weights, interval
from videocrafter.evaluation.study.votes import GivenAnswer
from videocrafter.evaluation.uncertainty import FEWEST_PROMPTS


@dataclass(frozen=True, kw_only=True)
class Units:
    """Votes on one aspect, one unit per rater and prompt.

    Attributes:
        prompts: prompt of each unit.
        wins: [units, systems, systems], how often the row's system won against the column's.
        ties: [units, systems, systems], symmetric.
        points: [units, systems], sum of the ratings.
        counts: [units, systems], number of ratings.
    """

    prompts: NDArray[np.int64]
    wins: NDArray[np.float64]
    ties: NDArray[np.float64]
    points: NDArray[np.float64]
    counts: NDArray[np.float64]


def collect_units(design: StudyDesign, answers: Sequence[GivenAnswer], aspect: str) -> Units:
    """Sum the votes of each rater on each prompt."""
    keys = sorted({(given.rater, design.items[given.item].prompt) for given in answers})
    place, systems = {key: index for index, key in enumerate(keys)}, len(design.systems)
    wins, ties = np.zeros((2, len(keys), systems, systems))
    points, counts = np.zeros((2, len(keys), systems))
    for given in answers:
        item = design.items[given.item]
        unit = place[given.rater, item.prompt]
        of = [design.clips[clip].system for clip in item.clips]
        if design.kind == "ratings":
            points[unit, of[0]] += given.values[aspect]
            counts[unit, of[0]] += 1
        elif (score := given.score(aspect)) == 0.5:
            ties[unit, of[0], of[1]] += 1
            ties[unit, of[1], of[0]] += 1
        else:
            winner, loser = of if score == 1.0 else of[::-1]
            wins[unit, winner, loser] += 1
    prompts = np.array([prompt for _, prompt in keys], dtype=np.int64)
    return Units(prompts=prompts, wins=wins, ties=ties, points=points, counts=counts)


def analyse_aspect(
    design: StudyDesign, answers: Sequence[GivenAnswer], aspect: str, *, draws: int = DRAWS
) -> dict[str, Any]:
    """Return the numbers of one aspect as JSON values; every interval is a 95 % interval over prompts."""
    units = collect_units(design, answers, aspect)
    result = (
        _pairs(design, units, draws) if design.kind == "pairs" else _ratings(design, answers, units, aspect, draws)
    )
    level: Level = "nominal" if design.kind == "pairs" else "ordinal"
    return {
        "num_votes": len(answers),
        "num_prompts": len(np.unique(units.prompts)),
        "alpha": krippendorff_alpha(answer_table(design, answers, aspect), level),
        "alpha_level": level,
        **result,
    }


def answer_table(design: StudyDesign, answers: Sequence[GivenAnswer], aspect: str) -> NDArray[np.float64]:
    """Return the answers [raters, items] as numbers; NaN where a rater did not answer."""
    raters = {rater: index for index, rater in enumerate(sorted({given.rater for given in answers}))}
    table = np.full((len(raters), len(design.items)), np.nan)
    for given in answers:
        value = given.values[aspect] if design.kind == "ratings" else given.score(aspect)
        table[raters[given.rater], given.item] = value
    return table


def _pairs(design: StudyDesign, units: Units, draws: int) -> dict[str, Any]:
    wins, ties = units.wins.sum(axis=0), units.ties.sum(axis=0)
    fit = fit_rao_kupper(wins, ties)
    scores = _scores(wins, ties)
    drawn_scores, drawn_strengths = [], []
    flat_wins, flat_ties = (part.reshape(len(part), wins.size) for part in (units.wins, units.ties))
    for weights in bootstrap_weights(units.prompts.tolist(), draws=draws, seed=design.seed):
        some_wins, some_ties = (weights @ flat_wins).reshape(wins.shape), (weights @ flat_ties).reshape(wins.shape)
        drawn_scores.append(_scores(some_wins, some_ties))
        drawn_strengths.append(fit_rao_kupper(some_wins, some_ties).strengths)
    score_draws, strength_draws = np.array(drawn_scores), np.array(drawn_strengths)
    asked = units.wins + units.wins.swapaxes(1, 2) + units.ties > 0
    count = _num_prompts(units, np.asarray(asked.any(axis=(1, 2))))
    return {
        "tie_threshold": fit.tie_threshold,
        "systems": {
            name: {
                "score": float(scores[index]),
                "score_interval": interval(score_draws[:, index], count),
                "strength": float(fit.strengths[index]),
                "strength_interval": interval(strength_draws[:, index], count),
            }
            for index, name in enumerate(design.systems)
        },
        "pairs": [
            {
                "first": design.systems[first],
                "second": design.systems[second],
                "first_wins": int(wins[first, second]),
                "ties": int(ties[first, second]),
                "second_wins": int(wins[second, first]),
                **_difference(
                    fit.strengths, strength_draws, first, second, _num_prompts(units, asked[:, first, second])
                ),
            }
            for first, second in combinations(range(len(design.systems)), 2)
        ],
    }


def _scores(wins: NDArray[np.float64], ties: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return wins plus half of the ties, as a share of each system's comparisons; NaN without any."""
    total = wins.sum(axis=1) + wins.sum(axis=0) + ties.sum(axis=1)
    with np.errstate(invalid="ignore"):
        return np.asarray((wins.sum(axis=1) + ties.sum(axis=1) / 2.0) / total)


def _ratings(
    design: StudyDesign, answers: Sequence[GivenAnswer], units: Units, aspect: str, draws: int
) -> dict[str, Any]:
    def means(weights: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(invalid="ignore"):
            return np.asarray((weights @ units.points) / (weights @ units.counts))

    mean = means(np.ones(len(units.prompts)))
    drawn = np.array(
        [means(weights) for weights in bootstrap_weights(units.prompts.tolist(), draws=draws, seed=design.seed)]
    )
    rated = units.counts > 0
    counts = [_num_prompts(units, rated[:, index]) for index in range(len(design.systems))]
    given = {name: [0] * len(RATINGS) for name in design.systems}
    for one in answers:
        system = design.clips[design.items[one.item].clips[0]].system
        given[design.systems[system]][int(one.values[aspect]) - 1] += 1
    return {
        "systems": {
            name: {
                "mean": float(mean[index]),
                "mean_interval": interval(drawn[:, index], counts[index]),
                # The paper's normalisation of 1 to 5 points.
                "score": float((mean[index] - 1.0) / 4.0),
                "score_interval": interval((drawn[:, index] - 1.0) / 4.0, counts[index]),
                "ratings": given[name],
            }
            for index, name in enumerate(design.systems)
        },
        "pairs": [
            {
                "first": design.systems[i],
                "second": design.systems[j],
                **_difference(mean, drawn, i, j, min(counts[i], counts[j])),
            }
            for i, j in combinations(range(len(design.systems)), 2)
        ],
    }


def _difference(
    values: NDArray[np.float64], drawn: NDArray[np.float64], first: int, second: int, count: int
) -> dict[str, Any]:
    low, high = interval(drawn[:, first] - drawn[:, second], count)
    return {
        "difference": float(values[first] - values[second]),
        "difference_interval": (low, high),
        "num_prompts": count,
        "distinguishable": count >= FEWEST_PROMPTS and bool(low > 0.0 or high < 0.0),
    }


def _num_prompts(units: Units, voted: NDArray[np.bool_]) -> int:
    """Return the number of prompts among the units with votes."""
    return len(np.unique(units.prompts[voted]))


def scores_by_video(
    design: StudyDesign, answers: Sequence[GivenAnswer], aspect: str
) -> Mapping[tuple[int, int], float]:
    """Return the mean vote in [0, 1] for each (system, prompt): its share of wins, or its scaled rating."""
    units = collect_units(design, answers, aspect)
    scores: dict[tuple[int, int], float] = {}
    for prompt in np.unique(units.prompts):
        here = units.prompts == prompt
        if design.kind == "pairs":
            values = _scores(units.wins[here].sum(axis=0), units.ties[here].sum(axis=0))
        else:
            with np.errstate(invalid="ignore"):
                values = (units.points[here].sum(axis=0) / units.counts[here].sum(axis=0) - 1.0) / 4.0
        scores |= {
            (system, int(prompt)): float(value) for system, value in enumerate(values) if not math.isnan(value)
        }
    return scores

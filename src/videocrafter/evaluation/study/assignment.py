"""Assign questions to a rater: which, in which order, and which clip is on the left."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from videocrafter.evaluation.study.design import StudyDesign

Role = Literal["training", "vote", "check"]
Shown = Mapping[int, tuple[int, int]]
"""Number of times that an item was assigned with its clips in order, and swapped."""

_FIRST_CHECK = 2
_REPEAT_DISTANCE = 3


@dataclass(frozen=True, kw_only=True)
class Task:
    """One question of one rater.

    Attributes:
        item: index in the design.
        swapped: whether the item's second clip is on the left.
        role: "training" is explained and does not count; "check" tests attention. An item of kind "vote" as a check
            is a question that this rater gets twice, with sides swapped.
    """

    item: int
    swapped: bool
    role: Role


def assign(design: StudyDesign, shown: Shown, seed: int) -> list[Task]:
    """Return the tasks of one rater, in order.

    Items that were shown least come first, so that all get equally many votes. Each item appears equally often in
    both orders over the raters, and within one rater half of the items that are free to choose are swapped. The tasks
    depend on the arguments alone.

    Args:
        design: the study.
        shown: how often items of kind "vote" were assigned to others.
        seed: seed of this rater.
    """
    rng = random.Random(f"{design.seed}/{seed}")
    votes = _votes(design, shown, rng)
    tasks = list(votes)
    checks = [index for index, item in enumerate(design.items) if item.kind != "vote"]
    rng.shuffle(checks)
    training, checks = checks[: design.training_per_rater], checks[design.training_per_rater :] or checks
    # Every second check repeats a question, which no property of the files gives away.
    number = min(design.checks_per_rater, len(votes))
    for index in range(number):
        if index % 2 == 1 or not checks:
            _insert_repeat(tasks, votes, rng)
        else:
            check = Task(item=checks[(index // 2) % len(checks)], swapped=rng.random() < 0.5, role="check")
            tasks.insert(rng.randint(min(_FIRST_CHECK, len(tasks)), len(tasks)), check)
    return [Task(item=item, swapped=rng.random() < 0.5, role="training") for item in training] + tasks


def _votes(design: StudyDesign, shown: Shown, rng: random.Random) -> list[Task]:
    items = [index for index, item in enumerate(design.items) if item.kind == "vote"]
    rng.shuffle(items)
    items.sort(key=lambda index: sum(shown.get(index, (0, 0))))
    items = items[: design.votes_per_rater]
    rng.shuffle(items)
    sides: dict[int, bool] = {}
    free = []
    for index in items:
        in_order, swapped = shown.get(index, (0, 0))
        if in_order == swapped:
            free.append(index)
        else:
            sides[index] = swapped < in_order
    coins = [index % 2 == 0 for index in range(len(free))]
    rng.shuffle(coins)
    sides |= dict(zip(free, coins, strict=True))
    return [Task(item=index, swapped=sides[index], role="vote") for index in items]


def _insert_repeat(tasks: list[Task], votes: list[Task], rng: random.Random) -> None:
    """Ask one of the votes again, some questions later, with sides swapped."""
    repeated = {task.item for task in tasks if task.role == "check"}
    open_votes = [task for task in votes if task.item not in repeated]
    if not open_votes:
        return
    # From the first half, so that there is room for other questions in between.
    original = rng.choice(open_votes[: max(1, len(open_votes) // 2)])
    first = min(tasks.index(original) + 1 + _REPEAT_DISTANCE, len(tasks))
    check = Task(item=original.item, swapped=not original.swapped, role="check")
    tasks.insert(rng.randint(first, len(tasks)), check)

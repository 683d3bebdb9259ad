from collections import Counter

import pytest

from videocrafter.evaluation.study.assignment import assign
from videocrafter.evaluation.study.design import Clip, Item, Prompt, StudyDesign


@pytest.fixture
def design():
    clips = {
        f"{prompt}-{system}": Clip(system=system, prompt=prompt, sha256="")
        for prompt in range(12)
        for system in (0, 1)
    }
    items = [Item(kind="vote", prompt=prompt, clips=(f"{prompt}-0", f"{prompt}-1")) for prompt in range(12)]
    items += [
        Item(kind="broken", prompt=0, clips=("0-0", "0-1")),
        Item(kind="same", prompt=1, clips=("1-0", "1-1")),
    ] * 3
    return StudyDesign(
        title="t",
        kind="pairs",
        aspects=("overall",),
        systems=("a", "b"),
        prompts=tuple(Prompt(text=str(index)) for index in range(12)),
        clips=clips,
        items=tuple(items),
        votes_per_rater=8,
        training_per_rater=2,
        checks_per_rater=4,
    )


def test_questions_and_sides_are_balanced_over_raters_and_within(design):
    shown: dict[int, list[int]] = {}
    for rater in range(30):
        tasks = assign(design, {item: (a, b) for item, (a, b) in shown.items()}, rater)
        votes = [task for task in tasks if task.role == "vote"]
        assert len({task.item for task in votes}) == 8
        for task in votes:
            shown.setdefault(task.item, [0, 0])[task.swapped] += 1
    assert {sum(counts) for counts in shown.values()} == {20}
    assert all(counts == [10, 10] for counts in shown.values())


def test_the_first_rater_sees_both_sides_equally_often(design):
    votes = [task for task in assign(design, {}, 1) if task.role == "vote"]
    assert Counter(task.swapped for task in votes) == {True: 4, False: 4}


def test_training_comes_first_and_repeats_come_later_with_other_sides(design):
    repeats = 0
    for seed in range(20):
        tasks = assign(design, {}, seed)
        assert [task.role for task in tasks].count("check") == 4
        assert [task.role for task in tasks[:2]] == ["training", "training"]
        assert all(task.role != "training" for task in tasks[2:])
        first = {task.item: (place, task) for place, task in enumerate(tasks) if task.role == "vote"}
        for place, task in enumerate(tasks):
            if task.role == "check" and design.items[task.item].kind == "vote":
                earlier, original = first[task.item]
                assert place > earlier
                assert task.swapped != original.swapped
                repeats += 1
    assert repeats == 40


def test_the_same_seed_gives_the_same_tasks(design):
    assert assign(design, {}, 5) == assign(design, {}, 5) != assign(design, {}, 6)

from collections import Counter

import numpy as np
import pytest

from videocrafter.data.sprite_world.world import MOTIONS, SPEEDS, SUBJECTS, is_held_out
from videocrafter.evaluation.exam.questions import SPEED_FPS, ExamWorld, Questions, balanced_combinations


def counts(names: list[str]) -> list[int]:
    return list(Counter(names).values())


def test_prompts_are_held_out_balanced_and_describe_their_clip() -> None:
    questions = Questions(ExamWorld(), 0).text(240, 8.0)
    scripts = [question.script for question in questions]
    assert all(is_held_out(one.subject, one.motion, one.scene) for one in scripts)
    motions, subjects = counts([one.motion for one in scripts]), counts([one.subject for one in scripts])
    assert len(motions) == len(MOTIONS)
    assert max(motions) - min(motions) <= 1
    assert len(subjects) == len(SUBJECTS)
    assert max(subjects) - min(subjects) <= 4, "motions are balanced first; held-out subjects differ by motion"
    assert len({(one.subject, one.motion, one.scene) for one in scripts}) == 240, "no combination twice"
    assert all(question.script.subject in question.prompt for question in questions)
    assert all(question.prompt == question.script.caption for question in questions)
    assert {one.fps for one in scripts} == {8.0}
    assert {one.speed for one in scripts} == set(SPEEDS)
    assert len({question.seed for question in questions}) == 240


def test_questions_are_a_function_of_the_seed() -> None:
    assert Questions(ExamWorld(), 3).text(20, 8.0) == Questions(ExamWorld(), 3).text(20, 8.0)
    assert Questions(ExamWorld(), 3).text(20, 8.0) != Questions(ExamWorld(), 4).text(20, 8.0)


def test_speed_questions_cross_fps_with_speed_words() -> None:
    questions = Questions(ExamWorld(), 0).speed(108)
    cells = Counter((one.script.fps, one.script.speed) for one in questions)
    assert set(cells) == {(fps, speed) for fps in SPEED_FPS for speed in SPEEDS}
    assert set(cells.values()) == {9}
    assert {one.script.motion for one in questions} <= {
        m for m in MOTIONS if "left" in m or "right" in m or m in ("up", "down")
    }
    for fps in SPEED_FPS:
        assert len({one.script.motion for one in questions if one.script.fps == fps}) >= 5, (
            "directions must not depend on fps"
        )


def test_a_world_without_straight_motions_has_no_speed_questions() -> None:
    assert Questions(ExamWorld(motions=("spinning", "still")), 0).speed(18) == []


def test_image_prompts_come_with_and_without_the_subject() -> None:
    motion_only, full = Questions(ExamWorld(), 0).image(28, 8.0)
    assert [one.script for one in motion_only] == [one.script for one in full]
    assert all(one.script.subject in one.prompt for one in full)
    assert not any(subject in one.prompt.split() for one in motion_only for subject in SUBJECTS)


def test_variety_repeats_prompts_with_other_seeds() -> None:
    questions = Questions(ExamWorld(), 0).variety(3, 4, 8.0)
    assert len(questions) == 12
    for start in (0, 4, 8):
        group = questions[start : start + 4]
        assert len({one.prompt for one in group}) == 1
        assert len({one.seed for one in group}) == 4


def test_a_world_without_held_out_combination_is_refused() -> None:
    world = ExamWorld(subjects=("rocket",), scenes=("blue sky",))
    free = [motion for motion in MOTIONS if not is_held_out("rocket", motion, "blue sky")]
    with pytest.raises(ValueError, match="is held out; add subjects or scenes"):
        balanced_combinations(world, free[:1], 3, np.random.default_rng(0))

"""Small user studies: videos of two systems, and a study of them."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from videocrafter.evaluation.comparison.matching import match_videos
from videocrafter.evaluation.study.assignment import Task
from videocrafter.evaluation.study.design import StudyDesign, read_design
from videocrafter.evaluation.study.new_study import NewStudy, StudySettings, make_study
from videocrafter.evaluation.study.store import DATABASE_FILE, AnswerStore, open_database
from videocrafter.evaluation.video_set import read_video_set
from videocrafter.media.video_file import write_video

PROMPTS = ("a red square <b>moving</b> right", "a green square at night", "a blue square & a cat")
SYSTEMS = ("oldmodel", "newmodel")


def write_systems(
    folder: Path, *, prompts: int = 3, size: int = 32, num_frames: int = 4, systems: tuple[str, ...] = SYSTEMS
) -> dict[str, Path]:
    """Write one video per prompt and system: a moving square over a background that tells the systems apart."""
    for system, name in enumerate(systems):
        for index in range(prompts):
            frames = np.full((num_frames, size, size, 3), 40 + 120 * system, np.uint8)
            for number, frame in enumerate(frames):
                left = number * (size // 2) // num_frames
                frame[size // 4 : size // 2, left : left + size // 2, index % 3] = 255
            record = {"prompt": PROMPTS[index % 3] + "!" * (index // 3), "seed": index, "model": name}
            (folder / name).mkdir(parents=True, exist_ok=True)
            write_video(folder / name / f"{index}.mp4", frames, 8, record)
    return {name: folder / name for name in systems}


def make_tiny_study(folder: Path, *, prompts: int = 3, **settings: Any) -> NewStudy:
    """Make a study in `folder / "study"` of videos in `folder`."""
    sets = {name: read_video_set(path) for name, path in write_systems(folder, prompts=prompts).items()}
    defaults: dict[str, Any] = {"aspects": ("visual_quality", "motion_quality"), "training_per_rater": 1}
    return make_study(
        match_videos(sets),
        list(sets),
        folder / "study",
        StudySettings(**(defaults | {"checks_per_rater": 2} | settings)),
    )


def expected_choice(design: StudyDesign, item: int, swapped: bool, winner: int) -> str:
    """The answer of an attentive rater who always prefers the system `winner`."""
    one = design.items[item]
    if one.kind == "same":
        return "equal"
    systems = [design.clips[clip].system for clip in one.clips]
    wins_first = one.kind == "broken" or systems[0] == winner
    return "left" if wins_first != swapped else "right"


def answer_all(
    folder: Path,
    decide: Callable[[StudyDesign, Task, str], Any],
    *,
    raters: int = 1,
    seconds: float = 5.0,
    questions: int | None = None,
) -> None:
    """Add raters who answer each task with `decide(design, task, aspect)`."""
    design = read_design(folder)
    with closing(open_database(folder / DATABASE_FILE, design)) as connection:
        store = AnswerStore(design, connection)
        for _ in range(raters):
            rater = store.rater(store.join())
            for position in range(questions or store.progress(rater).total):
                task, _ = store.task(rater, position)
                answer = {aspect: decide(design, task, aspect) for aspect in design.aspects}
                store.answer(rater, position, answer, revision=0, request="r", seconds=seconds, plays=1)

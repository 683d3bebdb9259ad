from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from videocrafter.data.sprite_world.balanced_stills import balanced_stills
from videocrafter.evaluation.exam.clips import to_bytes
from videocrafter.evaluation.exam.judging import SHIPPED_JUDGE, load_judge
from videocrafter.evaluation.exam.questions import ExamWorld
from videocrafter.evaluation.exam.stills import Still, generate_stills, read_stills, score_stills
from videocrafter.evaluation.exam.stills_report import write_stills_report
from videocrafter.media.image_file import write_image

SUBJECTS = ("cat", "rocket")


class Painter:
    """Paints the real still of each prompt, or a grey one."""

    def __init__(self, *, is_blind: bool = False) -> None:
        self.generation_defaults = SimpleNamespace(num_frames=8, height=64, width=64)
        self._world = ExamWorld().world(num_frames=8, height=64, width=64, seed=3)
        self._is_blind = is_blind
        self.seeds: list[int] = []

    def __call__(self, captions: list[str], *, num_frames: int, seeds: list[int], **rest: Any) -> SimpleNamespace:
        assert num_frames == 1
        assert rest == {"output_type": "uint8", "guidance_scale": 2.0}
        of_caption = {script.caption: script for script in balanced_stills(self._world, 30)}
        self.seeds += seeds
        frames = to_bytes(self._world.render([of_caption[caption] for caption in captions]))
        return SimpleNamespace(frames=np.full_like(frames, 128) if self._is_blind else frames)


@pytest.mark.skipif(not SHIPPED_JUDGE.is_dir(), reason="the judge is not part of this checkout")
def test_real_stills_are_recognised_and_empty_ones_are_not(tmp_path: Path) -> None:
    judge, painter = load_judge(), Painter()
    stills = list(generate_stills(painter, ExamWorld(), 30, seed=3, batch_size=8, guidance_scale=2.0))
    assert len(set(painter.seeds)) == 30
    score = score_stills(judge, stills)
    assert score.recognised.value >= 0.9
    assert score.recognised.num_prompts == 30
    blind = generate_stills(Painter(is_blind=True), ExamWorld(), 30, seed=3, guidance_scale=2.0)
    assert score_stills(judge, blind).recognised.value <= 0.2
    write_stills_report(tmp_path, score, stills[:11], {"source": "painter"})
    assert {path.name for path in tmp_path.iterdir()} == {"report.json", "stills.png"}


def test_the_subject_of_a_picture_is_in_its_name_or_caption(tmp_path: Path) -> None:
    picture = np.zeros((16, 16, 3), np.uint8)
    for name in ("03_Rocket.png", "a.png"):
        write_image(tmp_path / name, picture, overwrite=True)
    (tmp_path / "a.txt").write_text("a drawing of a cat, over the ocean")
    found = [(still.name, still.subject) for still in read_stills(tmp_path, SUBJECTS)]
    assert found == [("03_Rocket.png", "rocket"), ("a.png", "cat")]
    write_image(tmp_path / "category.png", picture, overwrite=True)
    with pytest.raises(ValueError, match=r"category\.png names no subject of the judge, such as 'cat'"):
        read_stills(tmp_path, SUBJECTS)


def test_nothing_to_score_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="contains no pictures"):
        read_stills(tmp_path, SUBJECTS)
    stills: list[Still] = []
    with pytest.raises(ValueError, match="there are no stills"):
        score_stills(load_judge(), stills)

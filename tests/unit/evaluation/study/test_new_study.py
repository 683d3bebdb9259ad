import dataclasses
import re

import numpy as np
import pytest

from tests.tiny_studies import PROMPTS, SYSTEMS, make_tiny_study, write_systems
from videocrafter.evaluation.comparison.matching import match_videos
from videocrafter.evaluation.study.blind_copies import damaged, shared_format
from videocrafter.evaluation.study.design import read_design
from videocrafter.evaluation.study.media import Media
from videocrafter.evaluation.study.new_study import StudySettings, make_study
from videocrafter.evaluation.video_set import read_video_set
from videocrafter.media.errors import MediaError
from videocrafter.media.video_file import probe, read_frames, read_metadata, write_video


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    return folder / "study", make_tiny_study(folder)


def test_the_copies_tell_nothing_about_their_system(made):
    folder, study = made
    copies = list((folder / "media").iterdir())
    assert len(copies) == len(study.design.clips)
    for path in copies:
        assert re.fullmatch(r"[0-9a-f]{32}\.mp4", path.name)
        assert read_metadata(path) == {}
        assert path.stat().st_mtime == 0
        data = path.read_bytes()
        assert not any(word.encode() in data for word in (*SYSTEMS, *PROMPTS, "seed"))
    assert len({dataclasses.astuple(probe(path)) for path in copies}) == 1


def test_the_design_holds_every_question_and_survives_the_disk(made):
    folder, study = made
    design = read_design(folder)
    assert design == study.design
    assert design.hash == study.design.hash
    votes = [item for item in design.items if item.kind == "vote"]
    assert [[design.clips[clip].system for clip in item.clips] for item in votes] == [[0, 1]] * 3
    assert [prompt.text for prompt in design.prompts] == list(PROMPTS)
    kinds = {item.kind for item in design.items}
    assert kinds == {"vote", "same", "broken"}
    for item in design.items:
        assert len(set(item.clips)) == 2  # an address shown twice would give the check away
    Media(design, folder)  # every file is the one of the design


def test_different_videos_get_one_format(tmp_path):
    for name, size, frames, fps in (("a", (33, 40), 8, 8), ("b", (64, 64), 12, 24)):
        write_video(tmp_path / f"{name}.mp4", np.zeros((frames, *size, 3), np.uint8), fps)
    form, notes = shared_format([tmp_path / "a.mp4", tmp_path / "b.mp4"])
    assert (form.height, form.width, form.fps, form.num_frames) == (34, 40, 24, 12)
    assert len(notes) == 3
    write_video(tmp_path / "still.mp4", np.zeros((1, 32, 32, 3), np.uint8), 8)
    with pytest.raises(MediaError, match=r"still\.mp4 has one frame"):
        shared_format([tmp_path / "a.mp4", tmp_path / "still.mp4"])


def test_a_damaged_copy_keeps_colours_and_loses_content():
    frames = np.random.default_rng(0).integers(0, 255, (3, 32, 32, 3), dtype=np.uint8)
    broken = damaged(frames, 0)
    assert np.array_equal(np.sort(broken, axis=None), np.sort(frames, axis=None))
    assert (broken != frames).any(axis=3).mean() > 0.8


def test_a_rating_study_shows_single_clips_and_webm_works(tmp_path):
    study = make_tiny_study(tmp_path, prompts=1, kind="ratings", suffix=".webm", invitations=2)
    assert [len(item.clips) for item in study.design.items if item.kind == "vote"] == [1, 1]
    assert {item.kind for item in study.design.items} == {"vote", "broken"}
    path = tmp_path / "study" / "media" / f"{study.design.items[0].clips[0]}.webm"
    assert len(read_frames(path)) == 4
    lines = (tmp_path / "study" / "invitations.txt").read_text().split()
    assert lines == [f"#{token}" for token in study.tokens]
    assert not any(token in study.design.to_json() for token in study.tokens)


def test_a_title_that_names_a_system_is_noted(tmp_path):
    made = make_tiny_study(tmp_path, prompts=1, checks_per_rater=0, training_per_rater=0, title="Is NewModel better?")
    assert made.notes == (
        "the title or the consent text contains 'newmodel', the name of a system; raters will see it",
    )


def test_bad_input_is_named_and_leaves_nothing(tmp_path):
    sets = {name: read_video_set(path) for name, path in write_systems(tmp_path, prompts=1).items()}
    rows = match_videos(sets)
    with pytest.raises(ValueError, match="aspects are beauty"):
        make_study(rows, SYSTEMS, tmp_path / "study", StudySettings(aspects=("beauty",)))
    with pytest.raises(ValueError, match="votes_per_rater is 5; expected 1 to 1"):
        make_study(rows, SYSTEMS, tmp_path / "study", StudySettings(votes_per_rater=5))
    with pytest.raises(ValueError, match="no prompt has a video of every system"):
        make_study([], SYSTEMS, tmp_path / "study", StudySettings())
    assert not (tmp_path / "study").exists()
    (tmp_path / "study").mkdir()
    with pytest.raises(ValueError, match="already exists"):
        make_study(rows, SYSTEMS, tmp_path / "study", StudySettings())
    with pytest.raises(ValueError, match=r"is not a study: it contains no design\.json"):
        read_design(tmp_path)


def test_the_design_names_the_source_of_each_video(tmp_path):
    design = make_tiny_study(tmp_path, prompts=2).design
    votes = [item for item in design.items if item.kind == "vote"]
    assert [[design.clips[clip].source for clip in item.clips] for item in votes] == [["0.mp4"] * 2, ["1.mp4"] * 2]

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.unit.media.clips import moving_disc
from videocrafter.evaluation.prompt_list import PromptItem
from videocrafter.evaluation.video_set import VideoSet, read_video_set
from videocrafter.media.video_file import write_video

FRAMES = moving_disc(2, 32, 32)


def write(path: Path, **metadata: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    write_video(path, FRAMES, 8, metadata or None)
    return path


def found(videos: VideoSet) -> list[tuple[str, str, int | None]]:
    return [(entry.name, entry.prompt, entry.seed) for entry in videos.entries]


def kinds(videos: VideoSet) -> list[tuple[str, str]]:
    return [(problem.kind, problem.name) for problem in videos.problems]


def test_prompts_come_from_recordings_text_files_and_names(tmp_path):
    write(tmp_path / "a.mp4", prompt="a kite", seed=3, model="tiny")
    (tmp_path / "a.mp4.json").unlink()  # the recording inside the file is enough
    write(tmp_path / "b.mp4", prompt="a kite", seed=4).with_suffix(".txt").write_text("a boat\n")
    write(tmp_path / "c.mp4").with_suffix(".json").write_text(json.dumps({"caption": "a duck", "seed": 7}))
    write(tmp_path / "the sun over a lake-1.mp4")
    write(tmp_path / "frames", prompt="a fox", seed=1)
    write(tmp_path / "clip-1.webm")
    videos = read_video_set(tmp_path)
    assert found(videos) == [
        ("a.mp4", "a kite", 3),
        ("b.mp4", "a boat", 4),
        ("c.mp4", "a duck", 7),
        ("clip-1.webm", "", None),
        ("frames", "a fox", 1),
        ("the sun over a lake-1.mp4", "the sun over a lake", None),
    ]
    assert kinds(videos) == [("no_prompt", "clip-1.webm")]
    assert videos.entries[0].metadata["model"] == "tiny"
    assert videos.entries[-1].metadata["sample"] == 1
    assert videos.prompts == ("a kite", "a boat", "a duck", "a fox", "the sun over a lake")


def test_numbered_files_take_their_prompt_from_the_list_next_to_or_above_them(tmp_path):
    (tmp_path / "prompt700.txt").write_text("first\n\nsecond\nthird\n")
    for name in ("0000.mp4", "0001.mp4", "0007.mp4"):
        write(tmp_path / "videos" / name)
    videos = read_video_set(tmp_path / "videos")
    assert found(videos) == [("0000.mp4", "first", None), ("0001.mp4", "second", None), ("0007.mp4", "", None)]


def test_a_given_list_wins_and_names_the_prompts_without_a_video(tmp_path):
    write(tmp_path / "0000.mp4", prompt="old", seed=5)
    items = [PromptItem(prompt="new", attributes={"aspect": "colour"}), PromptItem(prompt="missing", seed=2)]
    videos = read_video_set(tmp_path, items)
    assert found(videos) == [("0000.mp4", "new", 5)]
    assert videos.entries[0].metadata["aspect"] == "colour"
    assert kinds(videos) == [("no_video", "missing")]


def test_a_table_lists_videos_and_every_wrong_row_is_named(tmp_path):
    write(tmp_path / "clips" / "a.mp4")
    rows = [
        "path,caption,seed,image,model",
        "clips/a.mp4,a kite,3,none.png,x",
        "clips/gone.mp4,a boat,,,x",
        "clips/a.mp4,a boat,minus one,,x",
        ",no path,,,x",
        "clips/a.mp4,too,many,cells,here,now",
        "clips/a.mp4,a second prompt,3,,x",
    ]
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    for what in (tmp_path, tmp_path / "metadata.csv"):
        videos = read_video_set(what)
        assert found(videos) == [("clips/a.mp4", "a kite", 3)]
        assert [problem.kind for problem in videos.problems] == [
            "no_image",
            "missing_file",
            *["bad_row"] * 3,
            "second_video",
        ]
        assert "line 4: seed must be a whole number" in videos.problems[2].message
        assert videos.entries[0].metadata == {"model": "x"}


def test_a_second_video_for_a_prompt_and_seed_is_named_and_left_out(tmp_path):
    write(tmp_path / "a.mp4", prompt="a kite", seed=3)
    write(tmp_path / "b.mp4", prompt="a kite", seed=3)
    write(tmp_path / "c.mp4", prompt="a kite", seed=4)
    for name in ("d.mp4", "d.webm"):
        write(tmp_path / name)
    (tmp_path / "d.txt").write_text("a boat")
    videos = read_video_set(tmp_path)
    assert [entry.name for entry in videos.entries] == ["a.mp4", "c.mp4", "d.mp4"]
    assert kinds(videos) == [("second_video", "b.mp4"), ("second_video", "d.webm")]


def test_input_images_tell_videos_of_one_prompt_and_seed_apart(tmp_path):
    rows = ["path,prompt,seed,image"]
    for name in ("a", "b"):
        write(tmp_path / f"{name}.mp4")
        (tmp_path / f"{name}.png").touch()
        rows.append(f"{name}.mp4,a kite,0,{name}.png")
    (tmp_path / "metadata.csv").write_text("\n".join(rows))
    videos = read_video_set(tmp_path)
    assert [entry.name for entry in videos.entries] == ["a.mp4", "b.mp4"]
    assert not videos.problems


def test_files_that_are_not_videos_are_named(tmp_path):
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video")
    write(tmp_path / "good.mp4", prompt="a kite", seed=0)
    videos = read_video_set(tmp_path)
    assert kinds(videos) == [("unreadable", "empty.mp4"), ("unreadable", "text.mp4")]
    assert "text.mp4 cannot be read as a video" in videos.problems[1].message


def test_folders_without_videos_and_ambiguous_tables_are_errors(tmp_path):
    with pytest.raises(ValueError, match="contains no usable videos"):
        read_video_set(tmp_path)
    with pytest.raises(ValueError, match="does not exist; pass a folder"):
        read_video_set(tmp_path / "gone")
    for name in ("metadata.csv", "videos.jsonl"):
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=r"contains metadata.csv and videos.jsonl; keep one"):
        read_video_set(tmp_path)

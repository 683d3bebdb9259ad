from pathlib import Path

from videocrafter.evaluation.comparison.matching import complete_rows, match_videos
from videocrafter.evaluation.video_set import VideoEntry, VideoSet


def entries(*videos):
    found = [
        VideoEntry(path=Path(name), prompt=prompt, seed=seed, name=name, image=image and Path(image))
        for name, prompt, seed, image in videos
    ]
    return VideoSet(root=Path(), entries=tuple(found))


def names(rows):
    return [{column: entry.name for column, entry in row.videos.items()} for row in rows]


def test_equal_seeds_meet_and_missing_videos_stay_missing():
    old = entries(("a1", "cat", 1, None), ("a2", "cat", 2, None), ("a3", "dog", 1, None))
    new = entries(("b2", "cat", 2, None), ("b3", "cat", 3, None))
    rows = match_videos({"old": old, "new": new})
    assert names(rows) == [{"old": "a1"}, {"old": "a2", "new": "b2"}, {"new": "b3"}, {"old": "a3"}]
    assert [row.seed for row in rows] == [1, 2, 3, 1]
    complete, notes = complete_rows(rows, ["old", "new"])
    assert names(complete) == [{"old": "a2", "new": "b2"}]
    assert notes == ["left out, because not every column has a video: 3 of 4 prompts ('cat', 'cat', 'dog')"]


def test_without_common_seeds_the_order_decides():
    old = entries(("a1", "cat", 1, None), ("a2", "cat", 2, None))
    rows = match_videos({"old": old, "new": entries(("b1", "cat", None, None))})
    assert names(rows) == [{"old": "a1", "new": "b1"}, {"old": "a2"}]
    assert [row.seed for row in rows] == [None, 2]


def test_prompts_choose_and_order_and_files_without_prompt_meet_by_name():
    old = entries(("a.mp4", "cat", None, None), ("b.mp4", "dog", None, None), ("0001.mp4", "", None, None))
    new = entries(("x.mp4", "dog", None, None), ("0001.webm", "", None, None))
    assert names(match_videos({"old": old, "new": new}, ["dog", "cat"])) == [
        {"old": "b.mp4", "new": "x.mp4"},
        {"old": "a.mp4"},
    ]
    rows = match_videos({"old": old, "new": new})
    assert names(rows)[2] == {"old": "0001.mp4", "new": "0001.webm"}
    assert rows[2].prompt == "0001"


def test_input_images_tell_rows_of_one_prompt_apart():
    old = entries(("a", "fly", 0, "in/bird.png"), ("b", "fly", 0, "in/kite.png"))
    new = entries(
        ("c", "fly", 0, "elsewhere/kite.png"),
    )
    rows = match_videos({"old": old, "new": new})
    assert names(rows) == [{"old": "a"}, {"old": "b", "new": "c"}]
    assert rows[1].image == Path("in/kite.png")

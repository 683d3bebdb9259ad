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


def with_images(folder, **contents):
    paths = {name: folder / name / "image.png" for name in contents}
    for name, content in contents.items():
        (folder / name).mkdir()
        paths[name].write_bytes(content)
    return paths


def test_input_images_tell_rows_of_one_prompt_apart(tmp_path):
    paths = with_images(tmp_path, bird=b"bird", kite=b"kite", copy=b"kite")
    old = entries(("a", "fly", 0, paths["bird"]), ("b", "fly", 0, paths["kite"]))
    new = entries(("c", "fly", 0, paths["copy"]))
    rows = match_videos({"old": old, "new": new})
    assert names(rows) == [{"old": "a"}, {"old": "b", "new": "c"}]
    assert rows[1].image == paths["kite"]


def test_the_recorded_hash_of_an_image_counts_more_than_the_file():
    def set_of(*videos):
        found = [
            VideoEntry(
                path=Path(name), prompt="fly", seed=0, name=name, image=Path(image), metadata={"image_sha256": digest}
            )
            for name, image, digest in videos
        ]
        return VideoSet(root=Path(), entries=tuple(found))

    old = set_of(("a", "x/image.png", "1"), ("b", "y/image.png", "2"))
    rows = match_videos({"old": old, "new": set_of(("c", "z/image.png", "2"))})
    assert names(rows) == [{"old": "a"}, {"old": "b", "new": "c"}]


def test_no_video_of_one_prompt_and_seed_is_lost_where_a_column_has_no_images():
    image_to_video = entries(("a", "fly", 0, "bird.png"), ("b", "fly", 0, "kite.png"), ("c", "fly", 1, "kite.png"))
    rows = match_videos({"i2v": image_to_video, "t2v": entries(("d", "fly", 0, None))})
    assert names(rows) == [{"i2v": "a", "t2v": "d"}, {"i2v": "b"}, {"i2v": "c"}]
    complete, notes = complete_rows(rows, ["i2v", "t2v"])
    assert names(complete) == [{"i2v": "a", "t2v": "d"}]
    assert notes == ["left out, because not every column has a video: 2 of 3 prompts ('fly', 'fly')"]

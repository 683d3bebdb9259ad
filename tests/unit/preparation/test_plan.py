"""The plan lists every kind of source, is frozen, grows, and names what changed."""

import json
import os
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from videocrafter.preparation import plan as planning
from videocrafter.preparation.failures import PreparationError, UnitError
from videocrafter.preparation.plan import check_unchanged, freeze, list_videos, read_plan


@pytest.fixture
def folder(tmp_path):
    """Two videos, one with a caption; the plan does not open them."""
    where = tmp_path / "films"
    where.mkdir()
    (where / "a.mp4").write_bytes(b"a" * 10)
    (where / "b.mov").write_bytes(b"b" * 20)
    (where / "a.txt").write_text("a cat  runs\n")
    (where / "notes.pdf").write_bytes(b"x")
    return where


def test_a_folder_is_listed_with_captions(folder):
    videos = list_videos([str(folder)])
    assert [(video.name, video.caption, video.size) for video in videos] == [
        ("a.mp4", "a cat runs", 10),
        ("b.mov", "", 20),
    ]


def test_a_list_names_files_next_to_it_and_elsewhere(folder, tmp_path):
    (folder / "list.txt").write_text(f"a.mp4\n\n{folder / 'b.mov'}\nmissing.mp4\n")
    videos = {video.name.rpartition("/")[2]: video.reason for video in list_videos([str(folder / "list.txt")])}
    assert videos == {"a.mp4": "", "b.mov": "", "missing.mp4": "missing"}


def test_a_table_gives_clips_of_one_video_and_their_captions(folder):
    rows = [
        {"video": "a.mp4", "caption": "one", "from": 0, "to": 2},
        {"video": "a.mp4", "caption": "two", "from": 3, "to": 5},
        {"video": "b.mov", "caption": "whole", "from": None, "to": None},
    ]
    (folder / "clips.jsonl").write_text("\n".join(map(json.dumps, rows)))
    videos = list_videos([f"manifest:{folder / 'clips.jsonl'}?start=from&end=to"])
    first, second = sorted(videos, key=lambda video: video.url)
    assert [(one.start_s, one.end_s, one.caption) for one in first.segments] == [(0, 2, "one"), (3, 5, "two")]
    assert (second.segments, second.caption) == ((), "whole")


def test_an_address_is_listed(folder):
    system = fsspec.filesystem("memory")
    system.pipe("/films/c.mp4", b"c")
    assert [video.url for video in list_videos(["memory://films"])] == ["memory://films/c.mp4"]


def test_the_plan_keeps_grows_and_names_changes(folder, tmp_path):
    out = tmp_path / "out"
    plan = freeze(out, list_videos([str(folder)]), accept_changed=False)
    assert (len(plan.videos), plan.num_new) == (2, 2)
    first = (out / "plan.parquet").read_bytes()
    (folder / "c.mp4").write_bytes(b"c")
    (folder / "a.mp4").write_bytes(b"other content")
    plan = freeze(out, list_videos([str(folder)]), accept_changed=False)
    assert (len(plan.videos), plan.num_new, plan.changed) == (3, 1, ("a.mp4",))
    assert (out / "plan.parquet").read_bytes() == first
    changed = next(video for video in plan.videos if video.name == "a.mp4")
    with pytest.raises(UnitError, match="changed since the plan") as caught:
        check_unchanged(changed)
    assert caught.value.reason == "changed_source"
    plan = freeze(out, list_videos([str(folder)]), accept_changed=True)
    assert (plan.num_new, plan.changed) == (1, ())
    check_unchanged(next(video for video in plan.videos if video.name == "a.mp4"))
    assert len(read_plan(out)) == 4


def test_a_missing_video_is_planned_again_when_it_appears(folder, tmp_path):
    out = tmp_path / "out"
    listed = folder / "list.txt"
    listed.write_text("late.mp4\n")
    assert [video.reason for video in freeze(out, list_videos([str(listed)]), accept_changed=False).videos] == [
        "missing"
    ]
    (folder / "late.mp4").write_bytes(b"x")
    assert [video.reason for video in freeze(out, list_videos([str(listed)]), accept_changed=False).videos] == [""]


def test_a_changed_caption_is_named_and_accepted(folder, tmp_path):
    out = tmp_path / "out"
    freeze(out, list_videos([str(folder)]), accept_changed=False)
    (folder / "a.txt").write_text("a dog")
    assert freeze(out, list_videos([str(folder)]), accept_changed=False).changed == ("a.mp4",)
    plan = freeze(out, list_videos([str(folder)]), accept_changed=True)
    assert [video.caption for video in plan.videos if video.name == "a.mp4"] == ["a dog"]


def test_identity_depends_on_the_time_of_change(folder):
    before = list_videos([str(folder)])[0].id
    os.utime(folder / "a.mp4", (1, 1))
    assert list_videos([str(folder)])[0].id != before


def test_no_videos_are_an_error(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(PreparationError, match="contains no videos"):
        list_videos([str(tmp_path / "empty")])


def test_another_name_for_the_same_video_is_no_change(folder, tmp_path):
    out = tmp_path / "out"
    freeze(out, list_videos([str(folder)]), accept_changed=False)
    (folder / "a.txt").unlink()
    freeze(out, list_videos([str(folder)]), accept_changed=True)
    plan = freeze(out, list_videos([str(folder / "a.mp4"), str(folder / "b.mov")]), accept_changed=False)
    assert (plan.changed, plan.num_new) == ((), 0)
    # A missing file of the plan does not make a later one be replaced.
    (out / "plan.parquet").unlink()
    freeze(out, list_videos([str(folder)]), accept_changed=False)
    assert sorted(path.name for path in out.glob("plan*")) == ["plan-002.parquet", "plan-003.parquet"]


def test_a_stray_tar_hides_no_videos_and_is_named(folder):
    (folder / "backup.tar").write_bytes(b"")
    videos = {video.name: video.reason for video in list_videos([str(folder)])}
    assert videos == {"a.mp4": "", "b.mov": "", "backup.tar": "bad_row"}


def test_two_sources_of_one_video_give_one_caption_and_name_the_other(folder):
    table = folder.parent / "clips.jsonl"
    rows = [{"video": "a.mp4", "caption": "a dog"}, {"video": "b.mov", "caption": "a bird"}]
    table.write_text("\n".join(map(json.dumps, rows)))
    first, second = list_videos([str(folder), f"manifest:{table}?root={folder}"])
    assert (first.caption, second.caption) == ("a cat runs", "a bird")
    assert "listed again, with the caption 'a dog'" in first.problem
    assert second.problem == ""


def test_a_vanished_video_takes_part_no_more_and_returns(folder, tmp_path):
    out = tmp_path / "out"
    freeze(out, list_videos([str(folder)]), accept_changed=False)
    (folder / "b.mov").rename(folder / "b.hidden")
    found = freeze(out, list_videos([str(folder)]), accept_changed=False)
    assert {video.name: video.reason for video in found.videos} == {"a.mp4": "", "b.mov": "missing"}
    (folder / "b.hidden").rename(folder / "b.mov")
    found = freeze(out, list_videos([str(folder)]), accept_changed=False)
    assert [video.reason for video in found.videos] == ["", ""]


@pytest.mark.skipif(os.name != "posix", reason="names of files are text there")
def test_a_name_that_is_not_utf8_is_a_row(folder, tmp_path):
    path = os.fsencode(folder) + b"/caf\xe9.mp4"
    try:
        Path(os.fsdecode(path)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    plan = freeze(tmp_path / "out", list_videos([str(folder)]), accept_changed=False)
    assert {video.name: video.reason for video in plan.videos}["caf\\udce9.mp4"] == "unreadable"
    assert len(read_plan(tmp_path / "out")) == 3


def test_a_list_that_names_itself_is_an_error(folder):
    (folder / "list.txt").write_text("a.mp4\nlist.txt\n")
    with pytest.raises(PreparationError, match="names itself"):
        list_videos([str(folder / "list.txt")])


PUBLISHED = {
    "webvid:train.csv?root=.": ("videoid,page_dir,name\n1,a_b,a cat runs\n", "videos/a_b/1.mp4"),
    "openvid:train.csv?root=videos&min_aesthetic=5": (
        "video,caption,aesthetic score,motion score\n1.mp4,a cat runs,5.5,3\n2.mp4,a dog,4,3\n",
        "videos/1.mp4",
    ),
    "panda70m:train.csv?root=videos": (
        "url,timestamp,caption,desirable_filtering\n"
        "https://www.youtube.com/watch?v=abcdefghijk,\"[['0:00:01.000', '0:00:04.500']]\",\"['a cat runs']\","
        "\"['desirable']\"\n",
        "videos/abcdefghijk.mp4",
    ),
}


@pytest.mark.parametrize("source", PUBLISHED)
def test_data_sets_are_listed_as_they_were_published(tmp_path, monkeypatch, source):
    table, name = PUBLISHED[source]
    monkeypatch.chdir(tmp_path)
    Path("train.csv").write_text(table)
    Path(name).parent.mkdir(parents=True)
    Path(name).write_bytes(b"a" * 10)
    (video,) = list_videos([source])
    assert (video.reason, video.size) == ("", 10)
    captions = [video.caption] + [segment.caption for segment in video.segments]
    assert "a cat runs" in captions
    assert [(one.start_s, one.end_s) for one in video.segments] == ([(1.0, 4.5)] if "panda" in source else [])


class TaggedStore(MemoryFileSystem):
    """A store whose listings have tags, and whose first answers about single files fail."""

    protocol = "tagged"
    store: ClassVar[dict] = {}
    pseudo_dirs: ClassVar[list] = [""]
    asked: ClassVar[list] = []
    failures = 0

    @classmethod
    def _strip_protocol(cls, path):
        return super()._strip_protocol(path.replace("tagged://", "memory://"))

    def find(self, path, detail=False, **options):
        found = super().find(path, detail=True, **options)
        tagged = {name: {**one, "ETag": f"tag of {one['size']}"} for name, one in found.items()}
        return tagged if detail else sorted(tagged)

    def info(self, path, **options):
        found = super().info(path, **options)
        if found["type"] == "file":
            type(self).asked.append(path)
            if len(self.asked) <= self.failures:
                raise OSError("connection reset")
            found = {**found, "ETag": f"tag of {found['size']}"}
        return found


@pytest.fixture
def store(monkeypatch):
    """An address in the store with one video, and its class."""
    fsspec.register_implementation("tagged", TaggedStore, clobber=True)
    monkeypatch.setattr(planning, "_FIRST_PAUSE_S", 0.0)
    fsspec.filesystem("tagged").pipe("/films/a.mp4", b"content")
    monkeypatch.setattr(TaggedStore, "asked", [])
    return TaggedStore


def test_a_listing_that_has_tags_is_not_asked_again(store):
    [video] = list_videos(["tagged://films"])
    assert (video.size, video.stamp, store.asked) == (7, "tag of 7", [])
    check_unchanged(video)
    assert len(store.asked) == 1
    assert list_videos(["tagged://films/a.mp4"])[0].id == video.id


@pytest.mark.parametrize(("failures", "reason", "asked"), [(4, "", 5), (5, "network", 5)])
def test_a_server_is_asked_five_times(store, monkeypatch, failures, reason, asked):
    monkeypatch.setattr(store, "failures", failures)
    [video] = list_videos(["tagged://films/a.mp4"])
    assert (video.reason, len(store.asked)) == (reason, asked)


def test_a_file_that_a_server_does_not_have_is_asked_for_once(store):
    [video] = list_videos(["tagged://films/none.mp4"])
    assert (video.reason, store.asked) == ("missing", [])


def test_a_caption_file_that_cannot_be_decoded_is_named(folder, tmp_path):
    (folder / "a.txt").write_bytes(b"\xff\xfe\xfa a cat")
    video = list_videos([str(folder)])[0]
    assert (video.reason, video.caption, video.note) == ("", "", "bad_caption")
    assert "a.txt" in video.problem
    plan = freeze(tmp_path / "out", [video], accept_changed=False)
    assert plan.videos == tuple(read_plan(tmp_path / "out")) == (video,)


@pytest.mark.parametrize("is_first", [True, False])
def test_a_video_listed_as_a_whole_and_with_clips_is_named(folder, is_first):
    table = folder.parent / "clips.jsonl"
    table.write_text(json.dumps({"video": "a.mp4", "caption": "one", "from": 0, "to": 2}))
    sources = [str(folder / "a.mp4"), f"manifest:{table}?root={folder}&start=from&end=to"]
    [video] = list_videos(sources if is_first else sources[::-1])
    assert (len(video.segments), video.note) == (1, "duplicate")
    assert "as a whole and with clips" in video.problem

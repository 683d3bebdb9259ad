import dataclasses

import numpy as np
import pytest

from videocrafter.media.video_file import write_video
from videocrafter.web.data_folder import video_id
from videocrafter.web.maintenance import recover


def test_pages_have_every_video_once_in_order(studio, add_video):
    added = [add_video(f"prompt {index}") for index in range(7)]
    seen, after = [], None
    while page := studio.videos.page(after=after, limit=3):
        seen += [video.id for video in page]
        after = (page[-1].created_s, page[-1].id)
    assert seen == added[::-1]


def test_search_takes_signs_literally(studio, add_video):
    odd, plain = add_video("100% a_cat on A meadow"), add_video("a cat, 100 of them")
    find = lambda text: [video.id for video in studio.videos.page(text=text)]  # noqa: E731
    assert find("meadow cat") == [odd]
    assert find("100%") == [odd]
    assert find("a_c") == [odd]
    assert find("CAT") == [plain, odd]
    assert find("'; DROP TABLE videos; --") == []


def test_stars_and_the_bin(studio, add_video):
    first, second = add_video(), add_video()
    studio.videos.star(first, True)
    assert [video.id for video in studio.videos.page(starred=True)] == [first]
    studio.videos.set_deleted(second, True)
    assert [video.id for video in studio.videos.page()] == [first]
    assert [video.id for video in studio.videos.page(in_bin=True)] == [second]
    assert studio.videos.expired(bin_days=1) == []
    assert studio.videos.expired(bin_days=-1) == [second]
    with pytest.raises(KeyError):
        studio.videos.star("0" * 32, True)


def test_a_worker_that_lost_its_job_adds_no_video(studio, add_video):
    video = studio.videos.get(add_video())
    assert not studio.videos.add(video, "worker")
    studio.jobs.add({"prompt": "x"}, most_queued=9)
    job = studio.jobs.claim("new", attempts=3)
    twice = dataclasses.replace(video, id="1" * 32, job=job.id)
    assert not studio.videos.add(twice, "old")
    assert studio.videos.add(twice, "new")
    assert studio.videos.add(dataclasses.replace(twice, id="2" * 32), "new")
    assert studio.videos.numbers_of(job.id) == {0}
    assert len(studio.videos.ids()) == 2


def test_recovery_brings_files_and_rows_together(studio, add_video):
    kept, lost = add_video(), add_video()
    poster = studio.folder.poster(lost)
    studio.folder.video(lost).unlink()
    job, _ = studio.jobs.add({"prompt": "x"}, most_queued=9)
    studio.jobs.claim("dead", attempts=3)
    found, again, strange = (studio.folder.video(name) for name in ("a" * 32, video_id(job.id, 0), "b" * 32))
    recording = {"prompt": "a cat on its own", "seed": 7, "model": "tiny"}
    write_video(found, np.zeros((2, 16, 16, 3), np.uint8), 8, recording)
    again.write_bytes(found.read_bytes())
    strange.write_bytes(b"no video")
    half = found.with_name(".0123456789abcdef.part")
    half.write_bytes(b"")
    assert recover(studio) == 1
    assert studio.jobs.get(job.id).state == "queued"
    assert studio.videos.ids() == {kept, found.stem}
    assert not poster.exists()
    assert studio.videos.get(found.stem).request["seed"] == 7
    assert not half.exists()
    assert all(path.exists() for path in (found, again, strange))


def test_a_disk_that_is_missing_for_a_while_removes_nothing(studio, add_video):
    lost = {add_video(), add_video()}
    for video in lost:
        studio.folder.video(video).unlink()
    upload = studio.folder.upload("a" * 32, ".png")
    upload.write_bytes(b"of a database that is gone")
    recover(studio)
    assert studio.videos.ids() == lost
    assert upload.exists()


def test_models_of_a_long_history_are_read_from_an_index(studio, add_video):
    add_video()
    assert studio.videos.models() == ["tiny"]
    query = "EXPLAIN QUERY PLAN SELECT DISTINCT model FROM videos WHERE live = 0 ORDER BY model"
    assert "COVERING INDEX videos_models" in studio.database.read(query)[0]["detail"]

import dataclasses

import pytest

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
    studio.folder.video(lost).unlink()
    stray = studio.folder.video("a" * 32)
    stray.write_bytes(b"finished, but the server died before it was recorded")
    half = stray.with_name(".0123456789abcdef.part")
    half.write_bytes(b"")
    studio.jobs.add({"prompt": "x"}, most_queued=9)
    job = studio.jobs.claim("dead", attempts=3)
    assert recover(studio) == 1
    assert studio.jobs.get(job.id).state == "queued"
    assert studio.videos.ids() == {kept}
    assert [path.name for path in stray.parent.iterdir()] == [f"{kept}.mp4"]

"""Rows of clips come from the stored scans; one take is one shot, however many windows it is scanned in."""

import pytest

from videocrafter.preparation.config import PrepareConfig
from videocrafter.preparation.plan import PlannedVideo, Segment
from videocrafter.preparation.rows import clip_rows, scan_units, source_rows, thumbnails
from videocrafter.preparation.units import Job

VIDEO = PlannedVideo(id="ab", name="a.mp4", url="/a.mp4", size=1)
FACTS = {"height": 360, "width": 640, "fps": 25.0, "duration_s": 1800.0, "codec": "h264", "bits_per_pixel": 0.1}


def piece(start_s: float, end_s: float, shot: int) -> dict:
    times = {"id": f"{start_s:g}", "start_s": start_s, "end_s": end_s, "shot": shot}
    return {**times, "caption": "", "hashes": [], "thumbnail": f"picture of {start_s:g}"}


@pytest.fixture
def job(tmp_path):
    return Job(out=tmp_path, config=PrepareConfig())


def rows_of(job: Job, video: PlannedVideo, *windows: list[dict] | None) -> list[dict]:
    """Rows of a video whose windows contain these pieces; None failed."""
    job.files("probe").commit(video.id, FACTS)
    sources, _ = source_rows([video], job)
    units = scan_units([video], sources, job.config)
    for unit, pieces in zip(units, windows, strict=True):
        if pieces is not None:
            job.files("scan").commit(unit.id, {"pieces": pieces, "problems": []})
    return clip_rows(units, sources, job)[0]


def test_a_take_that_is_longer_than_a_window_is_one_shot(job):
    rows = rows_of(
        job,
        VIDEO,
        [piece(0, 590, 0), piece(590.24, 600, 1)],
        [piece(600, 900, 0), piece(900, 1200, 0)],
        [piece(1200, 1500, 0), piece(1500.24, 1800, 1)],
    )
    shots = [row["shot"] for row in rows]
    assert shots[1:5] == ["ab-000-1"] * 4
    assert len(set(shots)) == 3


def test_a_cut_between_windows_or_a_missing_one_divides_shots(job):
    rows = rows_of(job, VIDEO, [piece(0, 599.8, 0)], [piece(600, 1200, 0)], [piece(1200.12, 1800, 0)])
    assert len({row["shot"] for row in rows}) == 3
    missing = PlannedVideo(id="cd", name="b.mp4", url="/b.mp4", size=1)
    rows = rows_of(job, missing, [piece(0, 600, 0)], None, [piece(1200, 1800, 0)])
    assert len({row["shot"] for row in rows}) == 2


def test_clips_of_a_source_stay_apart(job):
    segments = (Segment(start_s=590, end_s=600), Segment(start_s=600, end_s=610))
    video = PlannedVideo(id="ef", name="c.mp4", url="/c.mp4", size=1, segments=segments)
    rows = rows_of(job, video, [piece(590, 600, 0)], [piece(600, 610, 0)])
    assert len({row["shot"] for row in rows}) == 2


def test_pictures_are_read_when_they_are_drawn(job):
    [row, _, _] = rows_of(job, VIDEO, [piece(0, 20, 0)], [piece(600, 620, 0)], [piece(1200, 1220, 0)])
    assert "thumbnail" not in row
    assert thumbnails(job.files("scan"), row["scan"])[row["id"]] == "picture of 0"


def test_a_caption_file_that_cannot_be_decoded_is_a_row(job):
    video = PlannedVideo(id="ab", name="a.mp4", url="/a.mp4", problem="a.txt is not UTF-8", note="bad_caption")
    job.files("probe").commit("ab", FACTS)
    [source], [failure] = source_rows([video], job)
    assert (source["reason"], failure.reason, failure.message) == ("", "bad_caption", "a.txt is not UTF-8")

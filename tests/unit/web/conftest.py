"""A studio in an empty folder, without a worker, and a client of its application."""

import json

import pytest
from starlette.testclient import TestClient

from videocrafter.web.app import create_app
from videocrafter.web.limits import Limits
from videocrafter.web.store.videos import Video
from videocrafter.web.studio import Studio, StudioConfig


@pytest.fixture
def studio(tmp_path):
    return Studio(StudioConfig(data=tmp_path / "data", limits=Limits(disk_free_bytes=0)))


@pytest.fixture
def client(studio):
    with TestClient(create_app(studio, None), base_url="http://127.0.0.1:7860") as client:
        yield client


@pytest.fixture
def add_video(studio):
    """Add a finished video with files of a few bytes."""

    def add(prompt="a cat", number=0, **changes):
        job, _ = studio.jobs.add({"prompt": prompt, "seed": 1}, most_queued=10**6)
        claimed = studio.jobs.claim("worker", attempts=3)
        assert claimed.id == job.id
        values = {"job": job.id, "number": number, "prompt": prompt, "model": "tiny", "request": {"prompt": prompt}}
        values |= {"recording": {"prompt": prompt, "seed": 1, "model": "tiny"}, "width": 64, "height": 64}
        values |= {"num_frames": 8, "playback_fps": 8.0, "num_bytes": 9, "seconds": 2.0, "workload": "w"}
        video = Video(**{"id": job.id[::-1], **values, **changes})
        studio.folder.video(video.id).write_bytes(b"not a real video")
        studio.folder.poster(video.id).write_bytes(b"not a real poster")
        assert studio.videos.add(video, "worker")
        assert studio.jobs.finish(job.id, "worker", "done")
        return video.id

    return add


def problem(response, status, code):
    """Check that a response is a problem; return its text."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = json.loads(response.content)
    assert body["code"] == code
    assert body["status"] == status
    return body["detail"]

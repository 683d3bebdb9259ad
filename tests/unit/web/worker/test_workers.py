"""Two worker processes share the queue; killing one disturbs neither the other nor the queue."""

import os
import signal
import time

import pytest

from tests.tiny_models import save_tiny_pipeline
from videocrafter.web.limits import Limits
from videocrafter.web.studio import Studio, StudioConfig
from videocrafter.web.worker.workers import Workers

pytestmark = pytest.mark.slow


def wait_for(condition):
    end = time.monotonic() + 600
    while not (value := condition()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
    return value


def test_two_workers_share_the_jobs_and_each_can_be_killed(tmp_path):
    config = StudioConfig(data=tmp_path / "data", devices=("cpu", "cpu"), limits=Limits(disk_free_bytes=0))
    studio = Studio(config)
    save_tiny_pipeline(studio.folder.models / "toy", image=False)
    request = {"prompt": "a cat", "model": "toy", "num_frames": 2, "num_inference_steps": 40}
    jobs = [studio.jobs.add({**request, "seed": seed}, most_queued=99)[0].id for seed in range(4)]
    workers = Workers(studio)
    first, second = workers.supervisors
    workers.start()
    try:
        # Both are sampling, each its own job.
        wait_for(lambda: [job.state for job in studio.jobs.waiting()].count("running") == 2)
        wait_for(lambda: all(job.step for job in studio.jobs.waiting() if job.state == "running"))
        killed, untouched = first.pid, second.pid
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: first.restarts == 1)
        assert workers.is_alive
        wait_for(lambda: not studio.jobs.waiting())
    finally:
        workers.stop()
    assert second.pid == untouched
    assert second.restarts == 0
    found = [studio.jobs.get(job) for job in jobs]
    assert [job.state for job in found] == ["done"] * 4
    assert sorted(job.attempts for job in found) == [1, 1, 1, 2]
    videos = [studio.videos.get(video) for job in found for video in job.videos]
    assert sorted(video.request["seed"] for video in videos) == list(range(4))
    assert len(list((studio.folder.root / "videos").glob("*.mp4"))) == 4
    assert not workers.is_alive


def test_workers_on_the_processor_share_its_cores(studio, monkeypatch):
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    for devices, threads in (
        (("cpu",), [None]),
        (("cpu", "cpu"), [4, 4]),
        (("cuda:0", "cuda:1"), [None, None]),
        (("cpu",) * 9, [1] * 9),
    ):
        shared = Workers(Studio(StudioConfig(data=studio.folder.root, devices=devices)))
        assert [one.threads for one in shared.supervisors] == threads
        assert [one["device"] for one in shared.view()] == list(devices)
        shared.stop()

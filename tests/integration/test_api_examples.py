"""The examples of docs/api.md run against a real server with the shipped miniature."""

import json
import re
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

from tests.browser.conftest import serving
from videocrafter.media.video_file import probe, read_metadata
from videocrafter.web.app import create_app
from videocrafter.web.limits import Limits
from videocrafter.web.studio import Studio, StudioConfig
from videocrafter.web.worker.process import run_next
from videocrafter.web.worker.video_job import LoadedModel

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/api.md").read_text(encoding="utf-8")
ADDRESS = "http://127.0.0.1:7860"


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def address(tmp_path):
    """A server, and a worker that is a thread instead of a process."""
    config = StudioConfig(data=tmp_path / "data", limits=Limits(disk_free_bytes=0))
    done = threading.Event()

    def work():
        studio, model = Studio(config), LoadedModel()
        while not done.is_set():
            if not run_next(studio, "worker", model):
                done.wait(0.1)
        studio.database.close()

    worker = threading.Thread(target=work)
    worker.start()
    with serving(create_app(Studio(config), None)) as address:
        yield address
    done.set()
    worker.join()


def test_the_examples_of_the_guide_make_videos(address, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (client,) = blocks("python")
    assert len(client.strip().splitlines()) <= 40
    exec(compile(client.replace(ADDRESS, address), "docs/api.md", "exec"), {})
    assert probe("panda.mp4").num_frames == 16
    assert read_metadata("panda.mp4")["prompt"] == "a panda bouncing on a green meadow"

    curl = shutil.which("curl")
    if curl is None:
        pytest.skip("needs curl for the second example")
    queue, fetch = blocks("sh")
    run = lambda text: subprocess.run(["sh", "-ec", text.replace(ADDRESS, address)], check=True, capture_output=True)  # noqa: E731
    job = json.loads(run(queue).stdout)
    assert job["state"] == "queued"
    show, save = fetch.strip().splitlines()
    while job["state"] != "done":
        assert job["state"] in ("queued", "running"), job
        job = json.loads(run(show.replace("JOB", job["id"])).stdout)
    run(save.replace("VIDEO", job["videos"][0]))
    assert read_metadata("rocket.mp4")["seed"] == 3

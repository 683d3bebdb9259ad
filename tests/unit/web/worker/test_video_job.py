"""A real job with the toy model: videos, previews, cancelling, failures, and settings that come back."""

import errno
import shutil
import sqlite3

import pytest

from tests.tiny_models import save_tiny_pipeline
from videocrafter.generation.errors import NotEnoughMemoryError
from videocrafter.media.errors import OutputError
from videocrafter.media.video_file import read_frames, read_metadata, sidecar_path
from videocrafter.web.data_folder import video_id
from videocrafter.web.worker import video_job
from videocrafter.web.worker.estimate import estimate
from videocrafter.web.worker.process import run_next
from videocrafter.web.worker.video_job import LoadedModel

SETTINGS = {"model": "toy", "num_inference_steps": 3, "num_frames": 2, "seed": 5}


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    return save_tiny_pipeline(tmp_path_factory.mktemp("models") / "toy", image=False)


@pytest.fixture
def make(studio, toy):
    """Queue a job and run it; return it as it ended."""
    shutil.copytree(toy, studio.folder.models / "toy")
    model = LoadedModel()

    def run(prompt="a cat", run=True, **settings):
        job, _ = studio.jobs.add({"prompt": prompt, **SETTINGS, **settings}, most_queued=99)
        if run:
            assert run_next(studio, "worker", model)
        return studio.jobs.get(job.id)

    run.model = model
    return run


def test_a_job_makes_its_videos_and_each_gives_its_settings_back(studio, make):
    job = make(num_videos=2)
    assert (job.state, job.step, job.num_steps) == ("done", 6, 6)
    assert job.videos == [video_id(job.id, 0), video_id(job.id, 1)]
    videos = [studio.videos.get(video) for video in job.videos]
    assert [video.request["seed"] for video in videos] == [5, 6]
    path = studio.folder.video(videos[1].id)
    assert studio.folder.poster(videos[1].id).is_file()
    for text in (path.read_bytes(), sidecar_path(path).read_bytes()):
        assert str(studio.folder.root).encode() not in text
    assert read_metadata(path)["model"] == "../models/toy"
    again = make(**{**videos[1].request, "prompt": "a cat"})
    assert (read_frames(studio.folder.video(again.videos[0])) == read_frames(path)).all()


def test_a_job_that_runs_again_makes_only_what_is_missing(studio, make, monkeypatch):
    job = make(num_videos=3, run=False)
    original = video_job.JobWatcher.written

    class Killed(BaseException):
        pass

    def die_at_the_second(self, video):
        if self.number == 1:
            raise Killed
        original(self, video)

    monkeypatch.setattr(video_job.JobWatcher, "written", die_at_the_second)
    with pytest.raises(Killed):
        run_next(studio, "first", make.model)
    monkeypatch.setattr(video_job.JobWatcher, "written", original)
    assert len(studio.jobs.get(job.id).videos) == 1
    studio.jobs.release("first")
    made = []
    monkeypatch.setattr(video_job.JobWatcher, "start", lambda self, number: made.append(number))
    run_next(studio, "second", make.model)
    assert made == [1, 2]


def test_cancelling_stops_at_the_next_step_and_the_preview_goes(studio, make, monkeypatch):
    job = make(num_inference_steps=50, run=False)
    steps = []

    def cancel(self, step):
        steps.append(step.done)
        assert self.model.preview.frames(step.estimate).shape[:2] == (1, 2)
        studio.jobs.cancel(job.id)

    monkeypatch.setattr(video_job.JobWatcher, "after_step", cancel)
    run_next(studio, "w", make.model)
    assert steps == [1]
    assert studio.jobs.get(job.id).state == "cancelled"
    assert list((studio.folder.root / "previews").iterdir()) == []
    assert studio.videos.ids() == set()


def test_a_preview_shows_all_frames(studio, make, monkeypatch):
    from PIL import Image

    seen = []

    def look(self, done, total):
        path = studio.folder.preview(self.job.id)
        if path.exists():
            with Image.open(path) as image:
                seen.append(image.n_frames)

    monkeypatch.setattr(video_job.JobWatcher, "_report", look)
    make(num_frames=3)
    assert seen
    assert set(seen) == {3}


@pytest.mark.parametrize(
    ("raised", "code", "text"),
    [
        (FloatingPointError("NaN in step 2"), "not-finite", "float32, or lower the guidance"),
        (NotEnoughMemoryError("out of memory", [{"height": 32}]), "out-of-memory", "out of memory"),
        (MemoryError(), "out-of-memory", "these need less: `"),
        (OSError(errno.ENOSPC, "No space left on device"), "file-error", "No space left"),
        (KeyError("a bug"), "internal-error", "server's log"),
    ],
)
def test_failures_say_what_to_do_and_the_queue_goes_on(studio, make, monkeypatch, raised, code, text):
    make()

    def fail(*_):
        raise raised

    monkeypatch.setattr(make.model.pipeline, "encode", fail)
    job = make()
    assert (job.state, job.error["code"]) == ("failed", code)
    assert text in job.error["message"]
    if code == "out-of-memory":
        assert job.error["suggestions"]
    assert str(studio.folder.root) not in job.error["message"]
    make.model.drop()
    assert make().state == "done"


def test_a_model_that_is_gone_is_named(studio, make):
    job = make(run=False)
    shutil.rmtree(studio.folder.models / "toy")
    run_next(studio, "w", make.model)
    error = studio.jobs.get(job.id).error
    assert "'toy' is not offered here" in error["message"]


def test_a_damaged_model_is_named(studio, make):
    assert make().state == "done"
    weights = next((studio.folder.models / "toy" / "unet").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:1000])
    job = make()
    assert (job.state, job.error["code"]) == ("failed", "model-unavailable")
    assert "toy" in job.error["message"]
    assert str(studio.folder.root) not in job.error["message"]


def test_a_full_disk_pauses_the_queue_until_there_is_room(studio, make, monkeypatch):
    job = make(run=False)
    object.__setattr__(studio.limits, "disk_free_bytes", 2**70)
    assert not run_next(studio, "w", make.model)
    assert studio.jobs.flag("paused") == "disk-low"
    object.__setattr__(studio.limits, "disk_free_bytes", 0)
    assert run_next(studio, "w", make.model)
    assert studio.jobs.get(job.id).state == "done"
    assert studio.jobs.flag("paused") is None


def test_memory_is_estimated_without_loading_anything(studio, make, monkeypatch):
    asked = {"prompt": "a", **SETTINGS, "height": 512, "width": 512, "num_frames": 16}
    make(run=False)
    monkeypatch.setattr("videocrafter.generation.memory_check.available_memory", lambda device: 2**20)
    found = estimate(studio, asked)
    assert not found["fits"]
    assert found["needed_bytes"] > found["available_bytes"] == 2**20
    assert "not offered" in estimate(studio, {**asked, "model": "x"})["error"]


def test_a_full_disk_fails_the_job_but_not_for_a_preview(studio, make, monkeypatch):
    full = OutputError("cannot write v.mp4: the disk is full")

    def fail(*_, **__):
        raise full

    # The videos have a writer of their own.
    monkeypatch.setattr("videocrafter.media.video_file.write_video", fail)
    assert make().error == {"code": "file-error", "message": f"{full}; see the server's log, then retry"}
    monkeypatch.undo()
    previews = studio.folder.root / "previews"
    original = video_job.write_all

    def write(outputs, **settings):
        if any(path.parent == previews for path in outputs):
            raise full
        original(outputs, **settings)

    monkeypatch.setattr(video_job, "write_all", write)
    assert make().state == "done"


@pytest.mark.parametrize("name", ["jobs.progress", "jobs.claim", "jobs.should_stop", "jobs.finish", "videos.add"])
def test_a_locked_database_delays_the_job_and_ends_nothing(studio, make, monkeypatch, name):
    monkeypatch.setattr("videocrafter.web.store.database._RETRY_S", 0.0)
    store, method = (getattr(studio, name.partition(".")[0]), name.partition(".")[2])
    original, failures = getattr(store, method), [True, True]

    def locked(*given, **settings):
        if failures:
            failures.pop()
            raise sqlite3.OperationalError("database is locked")
        return original(*given, **settings)

    monkeypatch.setattr(store, method, locked)
    job = make()
    assert (job.state, len(job.videos), failures) == ("done", 1, [])

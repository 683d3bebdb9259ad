"""A unit that crashes, hangs or grows costs itself only, and is recorded after three attempts."""

import multiprocessing
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest

from videocrafter.media.errors import OutputError
from videocrafter.preparation.config import CaptionConfig, PrepareConfig, ProcessLimits
from videocrafter.preparation.engines.local import LocalEngine
from videocrafter.preparation.engines.supervisor import Supervisor
from videocrafter.preparation.failures import PreparationError, UnitError
from videocrafter.preparation.output_lock import locked
from videocrafter.preparation.plan import PlannedVideo
from videocrafter.preparation.units import ChosenClip, Job, Unit


def work(unit: Unit, job: Job) -> None:
    """Behave as the name of the unit says."""
    with (job.out / f"starts-{unit.id}").open("a") as file:
        file.write("x")
    if unit.clips:
        for clip in unit.clips:
            if job.files(unit.stage).is_done(clip.id):
                continue
            if clip.id == "poison":
                os.kill(os.getpid(), signal.SIGSEGV)
            if clip.id == "defect":
                raise KeyError("nobody expects this")
            job.files(unit.stage).commit(clip.id, {"number": 1})
        return
    if unit.id.startswith("crash"):
        os.kill(os.getpid(), signal.SIGSEGV)
    if unit.id.startswith("hang"):
        time.sleep(60)
    if unit.id.startswith("grow"):
        _ = bytearray(3 << 30)
    if unit.id.startswith("full"):
        raise OutputError("the disk is full")
    if unit.id.startswith("odd"):
        raise KeyError("nobody expects this")
    job.files(unit.stage).commit(unit.id, {"number": 1})


@pytest.fixture
def job(tmp_path):
    config = PrepareConfig(workers=2, limits=ProcessLimits(base_s=4, memory_gib=0.5))
    return Job(out=tmp_path, config=config)


def test_bad_units_cost_themselves_only(job):
    names = ["crash", "hang", "grow", "odd", "good-1", "good-2"]
    engine, outcomes = LocalEngine(job, work), []
    engine.run([Unit(stage="scan", id=name) for name in names], outcomes.append)
    engine.close()
    results = {name: job.files("scan").read(name) for name in names}
    assert {name: result.get("failed", {}).get("reason") for name, result in results.items()} == {
        "crash": "crashed",
        "hang": "too_slow",
        "grow": "too_much_memory",
        "odd": "unexpected",
        "good-1": None,
        "good-2": None,
    }
    assert {name: len((job.out / f"starts-{name}").read_text()) for name in names} == {
        "crash": 3,
        "hang": 3,
        "grow": 3,
        "odd": 1,
        "good-1": 1,
        "good-2": 1,
    }
    assert not list((job.out / "work" / "deaths").iterdir())
    assert "nobody expects this" in results["odd"]["failed"]["message"]
    assert sorted(outcome.unit for outcome in outcomes) == sorted(names)


def test_a_full_disk_stops_the_run_and_blames_no_unit(job):
    engine = LocalEngine(job, work)
    with pytest.raises(PreparationError, match="the disk is full"):
        engine.run([Unit(stage="scan", id="full")], lambda outcome: None)
    engine.close()
    assert job.files("scan").read("full") is None


def test_a_poisonous_clip_costs_itself_only(job):
    clips = tuple(ChosenClip(id=name, start_s=0, end_s=1, crop=(0, 1, 0, 1)) for name in ("one", "poison", "two"))
    supervisor = Supervisor(job, work)
    supervisor.run(Unit(stage="clip", id="one", clips=clips))
    supervisor.close()
    results = {clip.id: job.files("clip").read(clip.id) for clip in clips}
    assert [next(iter(result)) for result in results.values()] == ["ok", "failed", "ok"]
    assert results["poison"]["failed"]["reason"] == "crashed"


def test_a_defect_that_one_clip_shows_costs_that_clip_only(job):
    clips = tuple(ChosenClip(id=name, start_s=0, end_s=1, crop=(0, 1, 0, 1)) for name in ("one", "defect", "two"))
    supervisor = Supervisor(job, work)
    supervisor.run(Unit(stage="score", id="one", clips=clips))
    supervisor.close()
    results = {clip.id: job.files("score").read(clip.id) for clip in clips}
    assert [next(iter(result)) for result in results.values()] == ["ok", "failed", "ok"]
    assert results["defect"]["failed"]["reason"] == "unexpected"


def test_only_a_local_caption_model_has_no_memory_limit(job):
    def limit(stage: str, **caption: str) -> float:
        config = replace(job.config, caption=CaptionConfig(**caption))
        return Supervisor(replace(job, config=config), work)._memory_limit_gib(Unit(stage=stage, id="a"))

    assert [limit(stage, model="folder") for stage in ("scan", "clip", "caption", "shard")] == [0.5, 0.5, 0.0, 0.5]
    assert limit("caption", model="name", url="http://localhost/v1") == 0.5
    supervisor = Supervisor(job, work)
    pids = []
    for memory_gib in (0.5, 0.5, 0.0):
        supervisor._start(memory_gib)
        pids.append(supervisor._child.pid)
    supervisor.close()
    assert pids[0] == pids[1] != pids[2]


def test_each_stage_has_its_own_time_limit(job):
    limit = Supervisor(job, work)._time_limit_s
    remote = PlannedVideo(id="a", name="a", url="https://host/a.mp4", size=10**9)
    clip = ChosenClip(id="one", start_s=0, end_s=1, crop=(0, 1, 0, 1))
    assert limit(Unit(stage="probe", id="a")) == 4
    assert limit(Unit(stage="probe", id="a", video=remote)) == 2004
    assert limit(Unit(stage="shard", id="a", bytes=10**9)) == 2004
    assert limit(Unit(stage="caption", id="a", clips=(clip, clip))) == 604


@pytest.mark.skipif(not Path("/proc").exists(), reason="this system does not list processes there")
def test_a_child_ends_with_its_parent(job):
    """A middle process starts a child that hangs, and is killed."""
    context = multiprocessing.get_context("spawn")
    middle = context.Process(target=_hang_in_child, args=(job,))
    middle.start()
    started = job.out / "starts-hang"
    while not started.exists():
        time.sleep(0.05)
    child = int((job.out / "child").read_text())
    middle.kill()
    middle.join()
    deadline = time.monotonic() + 20
    while Path(f"/proc/{child}").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not Path(f"/proc/{child}").exists()


def _hang_in_child(job):
    supervisor = Supervisor(job, work)
    supervisor._start(job.config.limits.memory_gib)
    (job.out / "child").write_text(str(supervisor._child.pid))
    supervisor.run(Unit(stage="scan", id="hang", length_s=1000))


def test_a_failure_never_replaces_a_result(job):
    files = job.files("scan")
    files.commit("one", {"number": 1})
    files.commit_failure("one", UnitError("crashed", "it crashed"))
    assert "ok" in files.read("one")


def test_one_run_at_a_time_in_an_output(tmp_path):
    with locked(tmp_path), pytest.raises(PreparationError, match="another process"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass

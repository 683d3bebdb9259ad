"""A unit that crashes, hangs or grows costs itself only, and is recorded after three attempts."""

import os
import signal
import time

import pytest

from videocrafter.media.errors import OutputError
from videocrafter.preparation.config import PrepareConfig, ProcessLimits
from videocrafter.preparation.engines.local import LocalEngine
from videocrafter.preparation.failures import PreparationError
from videocrafter.preparation.units import Job, Unit


def work(unit: Unit, job: Job) -> None:
    """Behave as the name of the unit says."""
    with (job.out / f"starts-{unit.id}").open("a") as file:
        file.write("x")
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
    assert "nobody expects this" in results["odd"]["failed"]["message"]
    assert sorted(outcome.unit for outcome in outcomes) == sorted(names)


def test_a_full_disk_stops_the_run_and_blames_no_unit(job):
    engine = LocalEngine(job, work)
    with pytest.raises(PreparationError, match="the disk is full"):
        engine.run([Unit(stage="scan", id="full")], lambda outcome: None)
    engine.close()
    assert job.files("scan").read("full") is None

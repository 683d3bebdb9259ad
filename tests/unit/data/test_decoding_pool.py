"""If a worker hangs or dies, only its sample is lost. All results arrive under their numbers."""

from __future__ import annotations

import multiprocessing.context
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from tests.unit.data.stub_clips import StubClip
from videocrafter.data.clip_sampling import ClipSampling
from videocrafter.data.cutting import CutClip, CuttingConfig
from videocrafter.data.decoding import DecodingStoppedError, DecodingTask, InProcessDecoder, cut_task
from videocrafter.data.decoding_pool import DecodingPool
from videocrafter.data.errors import BadSampleError

ROOT = Path(__file__).parents[3]
DECODE = partial(cut_task, config=CuttingConfig(sampling=ClipSampling(lengths=(4,)), height=200, width=300))


def pool(**changes) -> DecodingPool:
    return DecodingPool(DECODE, **{"num_workers": 2, "start_method": "fork", "time_limit_s": 60.0, **changes})


@pytest.fixture
def forked() -> Iterator[DecodingPool]:
    workers = pool()
    yield workers
    workers.close()


def task(number: int, does: str = "good") -> DecodingTask:
    return DecodingTask(clip=StubClip(number=number, does=does), kind="video", seed=number)


def reds(outcomes: list[object]) -> list[int | str]:
    """Return the number encoded in each clip, or the reason why it failed."""
    return [
        outcome.reason if isinstance(outcome, BadSampleError) else int(outcome.pixels[0, 0, 0, 0])  # type: ignore[attr-defined]
        for outcome in outcomes
    ]


def test_results_equal_those_of_the_in_process_decoder_in_any_order(forked: DecodingPool) -> None:
    here = InProcessDecoder(DECODE)
    for number in range(12):
        for decoder in (forked, here):
            decoder.submit(number, task(number, "bad" if number == 5 else "good"))
    for number in (11, 0, 5, 7, 3, 1, 2, 4, 6, 8, 9, 10):
        found, expected = forked.take(number), here.take(number)
        assert found.seconds > 0
        if isinstance(expected.outcome, CutClip):
            assert isinstance(found.outcome, CutClip)
            np.testing.assert_array_equal(found.outcome.pixels, expected.outcome.pixels)
            assert (found.outcome.caption, found.outcome.fps) == (expected.outcome.caption, expected.outcome.fps)
        else:
            assert isinstance(found.outcome, BadSampleError)
            assert (found.outcome.reason, str(found.outcome)) == ("unreadable", "clip 5 is bad")


def test_spawned_workers_do_the_same() -> None:
    workers = pool(start_method="spawn", num_workers=1)
    workers.submit(0, task(7))
    assert reds([workers.take(0).outcome]) == [7]
    workers.close()


def test_a_decoder_that_hangs_costs_its_sample_only() -> None:
    workers = pool(time_limit_s=0.2)
    doings = ["good", "hangs", "good", "good", "hangs", "good", "good"]
    for number, does in enumerate(doings):
        workers.submit(number, task(number, does))
    assert reds([workers.take(number).outcome for number in range(7)]) == [0, "too_slow", 2, 3, "too_slow", 5, 6]
    workers.close()


def test_a_decoder_that_dies_costs_its_sample_only(forked: DecodingPool) -> None:
    doings = ["good", "dies", "good", "dies", "dies", "good", "good", "good"]
    for number, does in enumerate(doings):
        forked.submit(number, task(number, does))
    found = [forked.take(number).outcome for number in range(8)]
    assert reds(found) == [0, "crashed", 2, "crashed", "crashed", 5, 6, 7]
    assert f"exit status -{int(signal.SIGKILL)}" in str(found[1])


def test_a_worker_that_is_killed_while_idle_is_replaced(forked: DecodingPool) -> None:
    forked.submit(0, task(0))
    forked.take(0)
    for worker in list(forked._workers):
        os.kill(worker.process.pid or 0, signal.SIGKILL)
        worker.process.join()
    for number in range(1, 5):
        forked.submit(number, task(number))
    assert reds([forked.take(number).outcome for number in range(1, 5)]) == [1, 2, 3, 4]


def test_a_signal_to_the_whole_group_of_processes_costs_nothing(forked: DecodingPool) -> None:
    for number in range(30):
        forked.submit(number, task(number))
    found = [forked.take(number).outcome for number in range(5)]
    for worker in forked._workers:
        os.kill(worker.process.pid or 0, signal.SIGTERM)
        os.kill(worker.process.pid or 0, signal.SIGINT)
    found += [forked.take(number).outcome for number in range(5, 30)]
    assert reds(found) == list(range(30))
    for worker in list(forked._workers):
        worker.process.join(10)  # they exit when they are idle, and are replaced
    forked.submit(30, task(30))
    assert reds([forked.take(30).outcome]) == [30]


def test_a_program_that_forgets_its_pool_ends_though_a_decoder_hangs() -> None:
    code = (
        "from tests.unit.data.test_decoding_pool import pool, task\n"
        "workers = pool(num_workers=1)\n"
        "workers.submit(0, task(0)); workers.take(0)\n"
        "workers.submit(1, task(1, 'hangs'))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_waiting_can_be_ended_from_outside(forked: DecodingPool) -> None:
    forked.submit(0, task(0, "hangs"))
    forked.stop()
    with pytest.raises(DecodingStoppedError):
        forked.take(0)


def test_nothing_is_left_running(forked: DecodingPool) -> None:
    forked.submit(0, task(0))
    forked.take(0)
    processes = [worker.process for worker in forked._workers]
    forked.close()
    assert [process.exitcode for process in processes] != []
    assert not any(process.is_alive() for process in processes)


def test_workers_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    child = os.fork()
    if child == 0:
        workers = pool()
        workers.submit(0, task(0))
        workers.take(0)
        pids.write_text(" ".join(str(worker.process.pid) for worker in workers._workers))
        os.kill(os.getpid(), signal.SIGKILL)
    os.waitpid(child, 0)
    left = {int(pid) for pid in pids.read_text().split()}
    for _ in range(200):
        left = {pid for pid in left if is_running(pid)}
        if not left:
            break
        time.sleep(0.1)
    assert left == set()


def is_running(pid: int) -> bool:
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class EndsWhenReceived:
    """A decode function that ends a worker while it is unpickled, before the worker is ready."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __call__(self, task: DecodingTask) -> CutClip:
        raise AssertionError

    def __reduce__(self):
        return exec, (self.how,)


@pytest.mark.parametrize(
    ("how", "status", "num_started"),
    [("raise SystemExit(3)", 3, 1), ("import os; os.kill(os.getpid(), 9)", -9, 4)],
    ids=["by-itself", "killed"],
)
def test_workers_that_cannot_start_are_an_error_with_advice(
    how: str, status: int, num_started: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []
    start = multiprocessing.context.SpawnProcess.start
    monkeypatch.setattr(
        multiprocessing.context.SpawnProcess, "start", lambda process: (started.append(process), start(process))
    )
    workers = DecodingPool(EndsWhenReceived(how), num_workers=1, start_method="spawn", time_limit_s=5.0)
    workers.submit(0, task(0))
    with pytest.raises(RuntimeError, match=rf"exited before it was ready \(exit status {status}\)"):
        workers.take(0)
    assert len(started) == num_started
    workers.close()


def test_a_worker_that_is_killed_before_it_is_ready_is_replaced() -> None:
    workers = pool(start_method="spawn")
    for worker in workers._workers:
        os.kill(worker.process.pid or 0, signal.SIGTERM)
    for number in range(3):
        workers.submit(number, task(number))
    assert reds([workers.take(number).outcome for number in range(3)]) == [0, 1, 2]
    workers.close()


def test_a_worker_of_a_fork_server_stays_though_there_is_nothing_to_do() -> None:
    workers = pool(start_method="forkserver", num_workers=1)
    workers.submit(0, task(0))
    workers.take(0)
    worker = workers._workers[0]
    worker.process.join(1.5)  # it checks once per second whether to exit
    assert worker.process.exitcode is None
    workers.close()

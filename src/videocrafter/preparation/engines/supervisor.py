"""A process that does units, and its supervisor: a unit that hangs, crashes or grows costs itself only."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from videocrafter.media.errors import OutputError
from videocrafter.preparation.failures import PreparationError, UnitError, is_disk_full, is_out_of_memory
from videocrafter.preparation.units import Job, Unit, do_unit, fail_unit, load_models

# Imports are slow if many processes start at once from a cold disk.
_SECONDS_TO_START = 300.0
_SECONDS_TO_STOP = 2.0
# A large caption model on a slow disk.
_SECONDS_TO_LOAD = 3600.0
_READY, _LOADED, _DONE = "ready", "loaded", "done"
_FULL_DISK, _NO_MEMORY, _DEFECT = "full disk", "no memory", "defect"

Work = Callable[[Unit, Job], None]


@dataclass(frozen=True)
class Outcome:
    """A unit that is done, or recorded as failed.

    Attributes:
        seconds: time of the last attempt.
        deaths: processes that it ended, in this run and earlier ones.
    """

    unit: str
    stage: str
    seconds: float
    deaths: int = 0


class Supervisor:
    """Does units in a child process, one at a time, and starts another child when one ends.

    Only deaths that the supervisor has seen are counted: a unit is not to blame if the whole run is killed. They are
    forgotten when the unit is done or recorded as failed, and do not count under other settings.

    Args:
        job: passed to every unit.
        work: the child's function; must be picklable.
    """

    def __init__(self, job: Job, work: Work = do_unit) -> None:
        self._job, self._work, self._limits = job, work, job.config.limits
        self._child: BaseProcess | None = None
        self._connection: Connection | None = None
        self._memory_gib = 0.0

    def run(self, unit: Unit) -> Outcome:
        """Do a unit. Whatever it does to its process, its result or its failure is committed afterwards.

        If a unit with several clips ends its process, or fails unexpectedly, its clips are done one by one, so that
        only one is lost.

        Raises:
            PreparationError: the output cannot be written, or processes cannot be started.
        """
        if len(unit.clips) < 2:
            return self._run_alone(unit)
        started = time.monotonic()
        deaths = 0
        if self._attempt(unit) is not None:
            deaths = 1
            for clip in unit.clips:
                # Those that were done before the end of the process are found done.
                deaths += self._run_alone(replace(unit, id=clip.id, clips=(clip,))).deaths
        return Outcome(unit.id, unit.stage, time.monotonic() - started, deaths)

    def _run_alone(self, unit: Unit) -> Outcome:
        file = _deaths_file(self._job, unit)
        deaths = _read_deaths(file)
        seconds = 0.0
        while len(deaths) < self._limits.attempts:
            started = time.monotonic()
            reason = self._attempt(unit)
            seconds = time.monotonic() - started
            if reason is None:
                file.unlink(missing_ok=True)
                return Outcome(unit.id, unit.stage, seconds, len(deaths))
            deaths.append(reason)
            _add_death(file, reason)
        name = unit.video.name if unit.video else unit.id
        message = f"{unit.stage} of {name} ended its process {len(deaths)} times: {self._explained(deaths[-1], unit)}"
        fail_unit(unit, self._job, UnitError(deaths[-1], message))
        file.unlink(missing_ok=True)
        return Outcome(unit.id, unit.stage, seconds, len(deaths))

    def close(self) -> None:
        """End the child."""
        if self._connection is not None:
            self._connection.close()
        if self._child is not None:
            self._child.join(_SECONDS_TO_STOP)
        self._end_child()

    def _attempt(self, unit: Unit) -> str | None:
        """Return the reason for which the unit ended its process, or None if it is done."""
        connection = self._start(self._memory_limit_gib(unit))
        limit_s = self._time_limit_s(unit)
        try:
            connection.send((unit, limit_s))
            # The clock starts when the unit has its model.
            if not connection.poll(_SECONDS_TO_LOAD) or connection.recv() != (_LOADED, ""):
                self._end_child()
                return "too_slow"
            if not connection.poll(limit_s):
                self._end_child()
                return "too_slow"
            answer, message = connection.recv()
        except (EOFError, OSError):
            code = self._end_child()
            # The kernel kills the largest process when memory is short; the alarm of the child is the second clock.
            return {-signal.SIGKILL: "too_much_memory", -signal.SIGALRM: "too_slow"}.get(code or 0, "crashed")
        if answer == _FULL_DISK:
            raise PreparationError(message)
        if answer == _NO_MEMORY:
            self._end_child()
            return "too_much_memory"
        if answer == _DEFECT:
            return "unexpected"
        if answer != _DONE:
            raise RuntimeError(message)
        return None

    def _memory_limit_gib(self, unit: Unit) -> float:
        # A caption model needs as much as it needs, and decodes only clips that were written here.
        caption = self._job.config.caption
        is_unlimited = unit.stage == "caption" and caption.model and not caption.url
        return 0.0 if is_unlimited else self._limits.memory_gib

    def _start(self, memory_gib: float) -> Connection:
        is_alive = self._child is not None and self._child.is_alive()
        if is_alive and self._connection is not None and memory_gib == self._memory_gib:
            return self._connection
        self._end_child()
        # Spawned, because threads and locks of this process do not survive a fork.
        context = multiprocessing.get_context("spawn")
        here, there = context.Pipe()
        self._memory_gib = memory_gib
        memory_bytes = int(memory_gib * 2**30)
        self._child = context.Process(target=_serve, args=(there, self._work, self._job, memory_bytes), daemon=True)
        self._child.start()
        there.close()
        self._connection = here
        try:
            if here.poll(_SECONDS_TO_START) and here.recv() == (_READY, ""):
                return here
        except (EOFError, OSError):
            pass
        code = self._end_child()
        raise PreparationError(
            f"a process for the videos cannot be started (exit code {code}); see its message above"
        )

    def _end_child(self) -> int | None:
        child, self._child = self._child, None
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        if child is None:
            return None
        child.join(0.2)
        code = child.exitcode
        if code is None:
            child.kill()
            child.join()
        child.close()
        return code

    def _time_limit_s(self, unit: Unit) -> float:
        limits = self._limits
        if unit.stage == "caption":
            return limits.base_s + limits.per_caption_s * len(unit.clips)
        return limits.base_s + limits.per_video_s * unit.length_s + unit.transferred_bytes / limits.min_bytes_per_s

    def _explained(self, reason: str, unit: Unit) -> str:
        if reason == "too_slow":
            return f"it takes longer than {self._time_limit_s(unit):.0f} s"
        if reason == "too_much_memory":
            return f"it needs more than {self._limits.memory_gib:g} GiB"
        return "the decoder crashes"


def _deaths_file(job: Job, unit: Unit) -> Path:
    return job.out / "work" / "deaths" / f"{unit.stage}-{job.files(unit.stage).path(unit.id, '.jsonl').name}"


def _serve(connection: Connection, work: Work, job: Job, memory_bytes: int) -> None:
    """Do units until the connection closes."""
    # Ctrl-C reaches the whole group; the parent lets the running units finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _limit_memory(memory_bytes)
    connection.send((_READY, ""))
    with suppress(EOFError, OSError):
        while True:
            unit, limit_s = connection.recv()
            with suppress(Exception):  # the unit then fails for the same reason, and is recorded
                load_models(unit, job)
            connection.send((_LOADED, ""))
            if hasattr(signal, "setitimer"):
                # The second clock, for a child whose parent was killed.
                signal.setitimer(signal.ITIMER_REAL, limit_s + 10)
            answer = _answer(work, unit, job)
            if hasattr(signal, "setitimer"):
                signal.setitimer(signal.ITIMER_REAL, 0)
            connection.send(answer)


def _end_with_parent() -> None:
    """End this process when its parent ends, so that a killed run leaves nobody who writes to its output."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _answer(work: Work, unit: Unit, job: Job) -> tuple[str, str]:
    try:
        work(unit, job)
    except OutputError as error:
        return _FULL_DISK, str(error)
    except Exception as error:  # noqa: BLE001
        if is_out_of_memory(error):
            return _NO_MEMORY, ""
        if is_disk_full(error):
            return _FULL_DISK, f"no space left on the disk of {job.out}; free some space, then run the command again"
        if len(unit.clips) > 1 and not isinstance(error, UnitError):
            return _DEFECT, ""
        # A defect, or a file that no test has shown yet: one row, with enough to find it.
        unexpected = UnitError("unexpected", f"{type(error).__name__}: {error}")
        try:
            fail_unit(unit, job, error if isinstance(error, UnitError) else unexpected)
        except OutputError as output_error:
            return _FULL_DISK, str(output_error)
    return _DONE, ""


def _limit_memory(num_bytes: int) -> None:
    """Limit the data of this process to what it has now plus `num_bytes` (Linux); 0 sets none."""
    if not num_bytes or not sys.platform.startswith("linux"):
        return
    import resource

    status = Path("/proc/self/status").read_text(encoding="ascii")
    used = next((int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmData:")), 0)
    # Address space would count what libraries reserve and never touch.
    resource.setrlimit(resource.RLIMIT_DATA, (used + num_bytes, resource.RLIM_INFINITY))


def _read_deaths(path: Path) -> list[str]:
    if not path.is_file():
        return []
    reasons: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError, KeyError, TypeError):  # a line that was cut off by a power failure
            reasons.append(json.loads(line)["reason"])
    return reasons


def _add_death(path: Path, reason: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    entry: dict[str, Any] = {"reason": reason, "at": round(time.time()), "supervisor": os.getpid()}
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(entry) + "\n")

"""The local engine: one supervised process per core."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from videocrafter.preparation.engines.supervisor import Outcome, Supervisor, Work
from videocrafter.preparation.units import Job, Unit, do_unit

OnDone = Callable[[Outcome], None]


class LocalEngine:
    """Does units in processes of this machine, which stay from one stage to the next."""

    def __init__(self, job: Job, work: Work = do_unit) -> None:
        self._has_local_model = bool(job.config.caption.model and not job.config.caption.url)
        self._supervisors = [Supervisor(job, work) for _ in range(job.config.workers or os.cpu_count() or 1)]

    def run(self, units: Sequence[Unit], on_done: OnDone) -> None:
        """Do units, longest first, so that no process is left alone with a long one at the end.

        Ctrl-C, or an exception of `on_done`, ends the run after the units that are being done.

        Raises:
            PreparationError: the output cannot be written.
        """
        waiting = deque(sorted(units, key=lambda unit: (-unit.length_s, unit.id)))
        stopped, lock = threading.Event(), threading.Lock()

        def serve(supervisor: Supervisor) -> None:
            try:
                while not stopped.is_set():
                    with lock:
                        if not waiting:
                            return
                        unit = waiting.popleft()
                    outcome = supervisor.run(unit)
                    with lock:
                        on_done(outcome)
            except BaseException:
                stopped.set()
                raise

        if not waiting:
            return
        # A local model fills the memory once, and uses all cores by itself.
        is_model = waiting[0].stage == "caption" and self._has_local_model
        busy = self._supervisors[: 1 if is_model else len(waiting)]
        with ThreadPoolExecutor(len(busy)) as pool:
            tasks = [pool.submit(serve, supervisor) for supervisor in busy]
            try:
                for task in tasks:
                    task.result()
            except BaseException:
                stopped.set()
                raise

    def close(self) -> None:
        """End the processes."""
        for supervisor in self._supervisors:
            supervisor.close()

"""Keep libraries from giving threads real-time priority."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_THREADS = Path("/proc/self/task")


@contextmanager
def without_real_time_priority() -> Iterator[None]:
    """Take real-time priority back from threads that got it meanwhile, new ones included.

    When root runs it, as in most containers, SVT-AV1 gives its own threads and the one that calls it the highest
    real-time priority, and never takes it back. From then on the process and all that it starts run ahead of
    everything else on the machine, and wait forever for threads that get no processor. Only Linux allows this.
    """
    if sys.platform != "linux":
        yield
        return
    before = _policies()
    try:
        yield
    finally:
        usual = before.get(threading.get_native_id(), (os.SCHED_OTHER, os.sched_param(0)))
        for thread, (policy, _) in _policies().items():
            if policy in (os.SCHED_FIFO, os.SCHED_RR) and before.get(thread, (None,))[0] != policy:
                with suppress(OSError):  # it has ended
                    os.sched_setscheduler(thread, *before.get(thread, usual))


def _policies() -> dict[int, tuple[int, os.sched_param]]:
    found = {}
    for entry in _THREADS.iterdir():
        with suppress(OSError):
            thread = int(entry.name)
            found[thread] = (os.sched_getscheduler(thread), os.sched_getparam(thread))
    return found

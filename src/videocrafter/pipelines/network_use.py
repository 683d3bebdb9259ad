"""Calls in several threads that use the same network, through one pipeline or several.

Most calls can run at the same time. A call that changes the network while it runs (it scales LoRAs, or moves
offloaded weights) waits until it is alone, and the others wait for it.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from weakref import WeakKeyDictionary

from torch import nn


def using_network(network: nn.Module, *, alone: bool = False) -> AbstractContextManager[None]:
    """Wait until a call that uses this network may run, and run it inside the context.

    `alone` waits for the calls of all other threads. A call may start others in its own thread.
    """
    with _LOCK:
        calls = _CALLS.setdefault(network, _Calls())
    return calls.running(alone)


class _Calls:
    """Counts the running calls of each thread, and lets one thread be alone."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._in_thread: Counter[int] = Counter()
        self._alone: int | None = None

    @contextmanager
    def running(self, alone: bool) -> Iterator[None]:
        me = threading.get_ident()
        with self._changed:
            self._changed.wait_for(lambda: self._may_run(me, alone))
            self._in_thread[me] += 1
            before = self._alone
            self._alone = me if alone else before
        try:
            yield
        finally:
            with self._changed:
                self._alone = before
                self._in_thread[me] -= 1
                self._in_thread += Counter()  # drops threads without calls
                self._changed.notify_all()

    def _may_run(self, me: int, alone: bool) -> bool:
        others = any(thread != me for thread in self._in_thread)
        return self._alone in (None, me) and not (alone and others)


_LOCK = threading.Lock()
_CALLS: WeakKeyDictionary[nn.Module, _Calls] = WeakKeyDictionary()

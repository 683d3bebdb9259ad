"""Keep Python's garbage collector from walking through everything that imports create, again and again."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def importing_without_collection() -> Iterator[None]:
    """Pause the garbage collector for a block of heavy imports, then leave their objects out of later collections.

    Libraries such as torch create about a million objects that live until the process ends. The collector walks
    through them dozens of times, which takes a quarter of the time of the imports. Use this for imports only: an
    unreachable reference cycle that exists at the end of the block is never freed. A block that imports nothing new
    changes nothing.
    """
    was_enabled = gc.isenabled()
    num_modules = len(sys.modules)
    gc.disable()
    try:
        yield
    finally:
        if len(sys.modules) > num_modules:
            gc.freeze()
        if was_enabled:
            gc.enable()

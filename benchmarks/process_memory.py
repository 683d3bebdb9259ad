"""Sizes of this process in memory, as Linux reports them."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path


def forget_peak() -> int:
    """Reset the peak of this process's resident set and return its present size in bytes (Linux)."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return status("VmRSS")


def status(name: str) -> int:
    """Return one of the sizes in /proc/self/status, in bytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024
    raise ValueError(f"/proc/self/status has no {name}; this benchmark needs Linux")

"""Give main memory back while a network is not in use: its weights are still in their file (Linux, CPU).

safetensors maps weight files into memory, so a weight that is read stays resident until the system needs its page. A
text encoder of 0.6 GiB would stay for the whole sampling, which never reads it.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import nn

SMALLEST = 2**26
"""Bytes of the smallest network that is worth reading again."""
_MAPS = Path("/proc/self/maps")
_MADV_PAGEOUT = 21
"""From linux/mman.h, since Linux 5.4. Pages that were changed in memory are kept, unlike with MADV_DONTNEED."""


def page_out_unused(components: Mapping[str, Any], used: str) -> None:
    """Remove the mapped weights of a pipeline's networks from main memory, except those of the network `used`."""
    page_out(one for name, one in components.items() if name != used and isinstance(one, nn.Module))


def page_out(networks: Iterable[nn.Module]) -> None:
    """Remove the mapped weights of networks from main memory; they are read again from their file when needed.

    Networks on other devices or smaller than `SMALLEST`, and weights that are not mapped, are left alone. Does
    nothing where the system cannot do it.
    """
    if sys.platform != "linux" or not _MAPS.is_file():
        return
    large = [network for network in networks if _bytes_on_cpu(network) >= SMALLEST]
    if not large:
        return
    madvise = ctypes.CDLL(None, use_errno=True).madvise
    madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    weights = sorted(range_ for network in large for range_ in _ranges(network))
    for begin, end in _mapped_files():
        for first, last in weights:
            # Whole pages only: the others hold weights of a neighbour.
            low, high = -(-max(begin, first) // mmap.PAGESIZE), min(end, last) // mmap.PAGESIZE
            if low < high:
                madvise(low * mmap.PAGESIZE, (high - low) * mmap.PAGESIZE, _MADV_PAGEOUT)


def _bytes_on_cpu(network: nn.Module) -> int:
    return sum(one.nbytes for one in network.parameters() if one.device.type == "cpu")


def _ranges(network: nn.Module) -> Iterator[tuple[int, int]]:
    for parameter in network.parameters():
        if parameter.device.type == "cpu":
            begin = parameter.data_ptr()
            yield begin, begin + parameter.nbytes


def _mapped_files() -> Iterator[tuple[int, int]]:
    """The address ranges of private mappings of files."""
    for line in _MAPS.read_text(encoding="utf-8", errors="replace").splitlines():
        addresses, permissions, _, _, inode, *_ = line.split(maxsplit=5)
        if permissions.endswith("p") and inode != "0":
            begin, _, end = addresses.partition("-")
            yield int(begin, 16), int(end, 16)

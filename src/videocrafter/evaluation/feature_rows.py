"""Vectors of videos in a file, one row each, so that memory does not grow with the number of videos."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class FeatureRows:
    """Rows that are appended to a file and read back in parts.

    The file is mapped only while a row is written or read: a lasting mapping would count as memory of the process.

    Args:
        path: the file (`.npy`); replaced by the first row.
        capacity: largest number of rows.
        dtype: type of the numbers.

    Attributes:
        groups: for each row, the number of its prompt.
    """

    def __init__(self, path: Path, capacity: int, dtype: type[np.floating[Any]] = np.float32) -> None:
        self._path, self._capacity, self._dtype = path, capacity, dtype
        self._size = 0
        self.groups: list[int] = []

    def add(self, row: NDArray[np.floating[Any]], group: int) -> None:
        """Append the vector [D] of a video."""
        if not self.groups:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._size = len(row)
            shape = (self._capacity, self._size)
            np.lib.format.open_memmap(self._path, mode="w+", dtype=self._dtype, shape=shape)
        np.load(self._path, mmap_mode="r+")[len(self.groups)] = row
        self.groups.append(group)

    @property
    def shape(self) -> tuple[int, int]:
        """Number of rows and length of a row."""
        return len(self.groups), self._size

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, chosen: slice | NDArray[np.intp]) -> NDArray[Any]:
        """Return a copy of the chosen rows [n, D]."""
        if not self.groups:
            return np.empty((0, 0), self._dtype)
        return np.array(np.load(self._path, mmap_mode="r")[: len(self.groups)][chosen])

"""Store entries by name in a folder of files that several processes read and write at the same time.

Each process writes its own files. It finds its unwritten entries in memory, and rescans the folder for the files of
other processes whenever it misses an entry.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np

from videocrafter.media.atomic_write import remove_leftovers
from videocrafter.training.video.clip_cache.cache_file import (
    SUFFIX,
    CacheFile,
    DamagedFileError,
    Entry,
    write_cache_file,
)
from videocrafter.training.video.clip_cache.config import CacheError

_log = logging.getLogger(__name__)

_MAX_OPEN_FILES = 64
# A killed process loses at most this much work.
_SECONDS_UNWRITTEN = 600.0
# Unfinished files of other processes are older than this only if the process was killed.
_SECONDS_TO_WRITE = 3600.0


class EntryStore:
    """The entries of a cache. Thread-safe.

    Args:
        folder: the cache's existing folder.
        digest: identifies the cache's description.
        file_bytes: write a file as soon as this many bytes of entries are pending.
    """

    def __init__(self, folder: Path, digest: str, *, file_bytes: int = 256_000_000) -> None:
        self._folder, self._digest, self._file_bytes = folder, digest, file_bytes
        # Unique across processes and machines.
        self._writer, self._num_written = secrets.token_hex(8), 0
        self._index = _Index()
        self._paths: list[Path] = []
        self._seen: set[str] = set()
        self._looked_at: int | None = None
        self._open: OrderedDict[int, CacheFile] = OrderedDict()
        self._unwritten: dict[str, Entry] = {}
        self._unwritten_bytes, self._unwritten_since = 0, 0.0
        self._lock = threading.RLock()
        self.damaged: list[str] = []
        remove_leftovers(folder, min_age_s=_SECONDS_TO_WRITE)
        self._look()

    def __contains__(self, name: str) -> bool:
        """Whether an entry exists; it may still turn out to be damaged when it is read."""
        with self._lock:
            return name in self._unwritten or bool(self._files_of(name))

    def read(self, name: str) -> list[Entry]:
        """Return all intact entries of a name (several processes may have written it); damaged ones are logged."""
        with self._lock:
            found = [self._unwritten[name]] if name in self._unwritten else []
            for number in () if found else self._files_of(name):
                try:
                    entry = self._opened(number).read(name)
                except DamagedFileError as error:
                    self._report(str(error))
                    self._index.forget(name, number)
                    continue
                if entry is not None:
                    found.append(entry)
            return found

    def put(self, name: str, entry: Entry) -> None:
        """Add an entry. Files are written in batches; see `flush`.

        Raises:
            CacheError: a file cannot be written.
        """
        with self._lock:
            if not self._unwritten:
                self._unwritten_since = time.monotonic()
            self._unwritten[name] = entry
            self._unwritten_bytes += entry.num_bytes
            is_old = time.monotonic() - self._unwritten_since > _SECONDS_UNWRITTEN
            if self._unwritten_bytes >= self._file_bytes or is_old:
                self.flush()

    def flush(self) -> None:
        """Write pending entries to a file.

        Raises:
            CacheError: it cannot be written.
        """
        with self._lock:
            if not self._unwritten:
                return
            path = self._folder / f"{self._writer}-{self._num_written:06d}{SUFFIX}"
            write_cache_file(path, self._unwritten, self._digest)
            self._num_written += 1
            self._add(path, list(self._unwritten))
            self._unwritten, self._unwritten_bytes = {}, 0

    def _files_of(self, name: str) -> list[int]:
        found = self._index.files_of(name)
        return found if found or not self._look() else self._index.files_of(name)

    def _look(self) -> bool:
        """Index files that other processes have written since the last scan; return whether there were any."""
        try:
            changed_at = self._folder.stat().st_mtime_ns
            if changed_at == self._looked_at:
                return False
            paths = sorted(path for path in self._folder.iterdir() if path.suffix == SUFFIX)
        except OSError as error:
            raise CacheError(f"the cache in {self._folder} cannot be read ({error.strerror})") from error
        self._looked_at = changed_at
        new = [path for path in paths if path.name not in self._seen and path.name[0] != "."]
        for path in new:
            try:
                self._add(path, list(CacheFile(path, self._digest).names()))
            except DamagedFileError as error:  # noqa: PERF203  few files are damaged, and the others remain usable
                self._seen.add(path.name)
                self._report(f"{error}; its entries are unknown, so delete it")
        return bool(new)

    def _add(self, path: Path, names: list[str]) -> None:
        self._seen.add(path.name)
        self._paths.append(path)
        self._index.add(names, len(self._paths) - 1)

    def _opened(self, number: int) -> CacheFile:
        if number not in self._open:
            if len(self._open) >= _MAX_OPEN_FILES:
                self._open.popitem(last=False)
            self._open[number] = CacheFile(self._paths[number], self._digest)
        self._open.move_to_end(number)
        return self._open[number]

    def _report(self, damage: str) -> None:
        self.damaged.append(damage)
        _log.warning("cache: %s", damage)


class _Index:
    """Maps names to the files that contain them, in 12 bytes per entry, so that there may be millions.

    Only the first 16 hexadecimal digits of a name are compared; reading the entry shows whether it is really there.
    """

    def __init__(self) -> None:
        self._keys, self._files = np.empty(0, np.uint64), np.empty(0, np.int32)
        self._new: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, names: list[str], file: int) -> None:
        keys = np.array([_key(name) for name in names], np.uint64)
        self._new.append((keys, np.full(len(keys), file, np.int32)))

    def files_of(self, name: str) -> list[int]:
        if self._new:
            self._sort()
        key = np.uint64(_key(name))
        first, behind = (int(np.searchsorted(self._keys, key, side)) for side in ("left", "right"))
        return [int(file) for file in self._files[first:behind] if file >= 0]

    def forget(self, name: str, file: int) -> None:
        """Remove a name from a file's entries."""
        self._files[(self._keys == np.uint64(_key(name))) & (self._files == file)] = -1

    def _sort(self) -> None:
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._new)])
        files = np.concatenate([self._files, *(files for _, files in self._new)])
        order = np.argsort(keys, kind="stable")
        self._keys, self._files, self._new = keys[order], files[order], []


def _key(name: str) -> int:
    return int(name[:16], 16)

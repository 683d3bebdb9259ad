"""Entries by name in a folder of files, which several processes read and fill at the same time.

Each process writes files of its own. What it has not written yet, it finds in memory; what others have written, it
finds as soon as it misses something.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections import OrderedDict
from pathlib import Path

import numpy as np

from videocrafter.training.video.clip_cache.config import CacheError
from videocrafter.training.video.clip_cache.shards import (
    SUFFIX,
    DamagedShardError,
    Entry,
    Shard,
    remove_leftovers,
    write_shard,
)

_log = logging.getLogger(__name__)

_OPEN_SHARDS = 64
# A process that is killed loses at most so much work.
_SECONDS_UNWRITTEN = 600.0


class ShardStore:
    """The entries of a cache. May be used from several threads.

    Args:
        folder: of the cache; exists.
        digest: of its description.
        shard_bytes: a file is written when there is so much for it.
    """

    def __init__(self, folder: Path, digest: str, *, shard_bytes: int = 256_000_000) -> None:
        self._folder, self._digest, self._shard_bytes = folder, digest, shard_bytes
        # No two processes, on whatever machines, ever write the same file.
        self._writer, self._num_written = secrets.token_hex(8), 0
        self._index = _Index()
        self._paths: list[Path] = []
        self._seen: set[str] = set()
        self._looked_at: int | None = None
        self._open: OrderedDict[int, Shard] = OrderedDict()
        self._unwritten: dict[str, Entry] = {}
        self._unwritten_bytes, self._unwritten_since = 0, 0.0
        self._lock = threading.RLock()
        self.damaged: list[str] = []
        remove_leftovers(folder)
        self._look()

    def __contains__(self, name: str) -> bool:
        """Whether an entry is there, as far as can be told without reading it."""
        with self._lock:
            return name in self._unwritten or bool(self._shards_of(name))

    def read(self, name: str) -> list[Entry]:
        """What is kept under a name, as often as it was written; what is damaged is named in the log and left out."""
        with self._lock:
            found = [self._unwritten[name]] if name in self._unwritten else []
            for number in () if found else self._shards_of(name):
                try:
                    entry = self._opened(number).read(name)
                except DamagedShardError as error:
                    self._report(str(error))
                    self._index.forget(name, number)
                    continue
                if entry is not None:
                    found.append(entry)
            return found

    def put(self, name: str, entry: Entry) -> None:
        """Keep an entry; files are written when there is enough for one.

        Raises:
            CacheError: a file cannot be written.
        """
        with self._lock:
            if not self._unwritten:
                self._unwritten_since = time.monotonic()
            self._unwritten[name] = entry
            self._unwritten_bytes += entry.num_bytes
            is_old = time.monotonic() - self._unwritten_since > _SECONDS_UNWRITTEN
            if self._unwritten_bytes >= self._shard_bytes or is_old:
                self.flush()

    def flush(self) -> None:
        """Write what is not written yet.

        Raises:
            CacheError: it cannot be written.
        """
        with self._lock:
            if not self._unwritten:
                return
            path = self._folder / f"{self._writer}-{self._num_written:06d}{SUFFIX}"
            write_shard(path, self._unwritten, self._digest)
            self._num_written += 1
            self._add(path, list(self._unwritten))
            self._unwritten, self._unwritten_bytes = {}, 0

    def _shards_of(self, name: str) -> list[int]:
        found = self._index.shards_of(name)
        return found if found or not self._look() else self._index.shards_of(name)

    def _look(self) -> bool:
        """Take in the files that others have written since the last look; whether there were any."""
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
                self._add(path, list(Shard(path, self._digest).names()))
            except DamagedShardError as error:  # noqa: PERF203  few are, and the others count
                self._seen.add(path.name)
                self._report(f"{error}; what it held is not known, so delete it")
        return bool(new)

    def _add(self, path: Path, names: list[str]) -> None:
        self._seen.add(path.name)
        self._paths.append(path)
        self._index.add(names, len(self._paths) - 1)

    def _opened(self, number: int) -> Shard:
        if number not in self._open:
            if len(self._open) >= _OPEN_SHARDS:
                self._open.popitem(last=False)
            self._open[number] = Shard(self._paths[number], self._digest)
        self._open.move_to_end(number)
        return self._open[number]

    def _report(self, damage: str) -> None:
        self.damaged.append(damage)
        _log.warning("cache: %s", damage)


class _Index:
    """Which files hold a name, in 12 bytes per entry, so that it may be millions.

    Names are told apart by their first 16 hexadecimal digits; whoever asks for the entry itself learns whether it is
    really there.
    """

    def __init__(self) -> None:
        self._keys, self._shards = np.empty(0, np.uint64), np.empty(0, np.int32)
        self._new: list[tuple[np.ndarray, np.ndarray]] = []

    def add(self, names: list[str], shard: int) -> None:
        keys = np.array([_key(name) for name in names], np.uint64)
        self._new.append((keys, np.full(len(keys), shard, np.int32)))

    def shards_of(self, name: str) -> list[int]:
        if self._new:
            self._sort()
        key = np.uint64(_key(name))
        first, behind = (int(np.searchsorted(self._keys, key, side)) for side in ("left", "right"))
        return [int(shard) for shard in self._shards[first:behind] if shard >= 0]

    def forget(self, name: str, shard: int) -> None:
        """A file does not hold a name after all."""
        self._shards[(self._keys == np.uint64(_key(name))) & (self._shards == shard)] = -1

    def _sort(self) -> None:
        keys = np.concatenate([self._keys, *(keys for keys, _ in self._new)])
        shards = np.concatenate([self._shards, *(shards for _, shards in self._new)])
        order = np.argsort(keys, kind="stable")
        self._keys, self._shards, self._new = keys[order], shards[order], []


def _key(name: str) -> int:
    return int(name[:16], 16)

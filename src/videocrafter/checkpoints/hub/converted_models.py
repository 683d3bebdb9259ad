"""Cache of converted checkpoint files: each official checkpoint is converted once to a pipeline folder.

Files are identified by a fingerprint, so a moved or renamed file is not converted again. If two processes need the
same file at once, the second waits for the first.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from videocrafter.checkpoints.hub.download import Notify
from videocrafter.checkpoints.official.conversion import OnProgress
from videocrafter.media.atomic_write import move_folder
from videocrafter.presets import MODEL_INDEX, ModelPreset

_EDGE_BYTES = 2**20
_NUM_SAMPLES, _SAMPLE_BYTES = 512, 2**12
# Part of every fingerprint. Increase it when the conversion of the same file changes.
_CONVERSION = "1"


def cache_home() -> Path:
    """Return the cache folder: `VIDEOCRAFTER_HOME`, or `~/.cache/videocrafter`."""
    given = os.environ.get("VIDEOCRAFTER_HOME")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "videocrafter"


def converted_folder(
    source: Path, *, name: str | None = None, notify: Notify | None = None, on_progress: OnProgress | None = None
) -> Path:
    """Return the pipeline folder of a checkpoint file; convert the file first if it is not in the cache.

    The networks keep the precision of the file. Tensors that no network uses are omitted.

    Args:
        source: `.ckpt` or `.safetensors` in the official format.
        name: name in the cache; defaults to the name of the file.
        notify: called before a conversion begins, and with the detected model when it is done.
        on_progress: progress callback of the conversion.

    Raises:
        ValueError: the file is damaged, unsafe, or not an official checkpoint; one line.
        OSError: a file cannot be read or written, or the disk is full.
    """
    notify = notify or (lambda _: None)
    mark = fingerprint_file(source)
    models = cache_home() / "models"
    folder = models / f"{name or _file_name(source.stem)}-{mark}"
    found = _newest(f"*-{mark}")
    if found is not None:
        return found
    models.mkdir(parents=True, exist_ok=True)
    with _exclusive(
        models / f".{mark}.lock", lambda: notify(f"another process is converting {source}; waiting for it")
    ):
        found = _newest(f"*-{mark}")
        if found is not None:
            return found
        _convert(source, folder, models / f".{mark}.part", notify, on_progress)
    return folder


def find_converted(source: Path) -> Path | None:
    """Return the cached folder of a checkpoint file, or None."""
    return _newest(f"*-{fingerprint_file(source)}")


def find_converted_preset(preset: ModelPreset) -> Path | None:
    """Return the cached folder of a preset, or None. The download itself may be gone."""
    return _newest(f"{hub_name(preset)}-{'[0-9a-f]' * 16}")


def hub_name(preset: ModelPreset) -> str:
    """Return the name of a preset's download in the cache; other names contain no @."""
    return f"hub@{preset.name}"


def fingerprint_file(path: Path) -> str:
    """Return 16 hex digits that identify a large file, from its size and about 4 MB of its content.

    A `.ckpt` is a zip archive; its end, which is read completely, holds a checksum of every tensor, so any change is
    noticed. Other formats have no checksums, so their modification time is included.
    """
    state = path.stat()
    digest = hashlib.sha256(f"{_CONVERSION}\0{state.st_size}\0".encode())
    if not zipfile.is_zipfile(path):
        digest.update(f"{state.st_mtime_ns}".encode())
    with path.open("rb") as file:
        digest.update(file.read(_EDGE_BYTES))
        for index in range(1, _NUM_SAMPLES):
            file.seek(state.st_size * index // _NUM_SAMPLES)
            digest.update(file.read(_SAMPLE_BYTES))
        file.seek(max(0, state.st_size - _EDGE_BYTES))
        digest.update(file.read(_EDGE_BYTES))
    return digest.hexdigest()[:16]


def _convert(source: Path, folder: Path, work: Path, notify: Notify, on_progress: OnProgress | None) -> None:
    """Convert inside `work`, which the lock protects, then rename the result to `folder`."""
    from videocrafter.checkpoints.official.to_folder import convert_to_folder

    notify(f"converting {source} ({source.stat().st_size / 1e9:.1f} GB) to {folder}; this happens only once")
    # A killed process may have left files.
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        done = convert_to_folder(source, work / "model", drop_unused=True, on_progress=on_progress)
        # A folder with this name is incomplete; a complete one would have been found. It is replaced.
        move_folder(work / "model", folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    notify(f"detected {done.description}")


@contextmanager
def _exclusive(path: Path, when_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a file lock, which the system releases even if the process is killed."""
    from filelock import FileLock, Timeout

    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        when_waiting()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _newest(pattern: str) -> Path | None:
    whole = [path for path in (cache_home() / "models").glob(pattern) if (path / MODEL_INDEX).is_file()]
    return max(whole, key=lambda path: path.stat().st_mtime, default=None)


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "_", name).strip(".")[:60] or "model"

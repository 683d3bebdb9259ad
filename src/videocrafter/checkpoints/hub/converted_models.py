"""Official checkpoint files, each converted once into a pipeline folder and kept.

A file is known by its fingerprint, so that moving or renaming it converts nothing again. Two processes that ask for
the same file convert it once: the second waits.
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
from videocrafter.presets import MODEL_INDEX, ModelPreset

_EDGE_BYTES = 2**20
_NUM_SAMPLES, _SAMPLE_BYTES = 512, 2**12
# Part of every fingerprint: raise it when converting the same file would give another folder.
_CONVERSION = "1"


def cache_home() -> Path:
    """The folder of everything that is kept: `VIDEOCRAFTER_HOME`, or `~/.cache/videocrafter`."""
    given = os.environ.get("VIDEOCRAFTER_HOME")
    if given:
        return Path(given).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "videocrafter"


def converted_folder(
    source: Path, *, name: str | None = None, notify: Notify | None = None, on_progress: OnProgress | None = None
) -> Path:
    """Return the pipeline folder of a checkpoint file, converted now if it never was.

    The networks keep the precision of the file. Tensors that no network uses are left out.

    Args:
        source: `.ckpt` or `.safetensors` in the official format.
        name: what to call it in the cache; by default the file's own name.
        notify: told before the conversion begins, and what the file turned out to be.
        on_progress: told how far the conversion is.

    Raises:
        ValueError: the file is damaged, unsafe, or no such checkpoint. One line.
        OSError: a file cannot be read or written, or the disk has no room.
    """
    tell = notify or (lambda _: None)
    mark = fingerprint_file(source)
    models = cache_home() / "models"
    folder = models / f"{name or _file_name(source.stem)}-{mark}"
    found = _newest(f"*-{mark}")
    if found is not None:
        return found
    models.mkdir(parents=True, exist_ok=True)
    with _alone(models / f".{mark}.lock", lambda: tell(f"another process is converting {source}; waiting for it")):
        found = _newest(f"*-{mark}")
        if found is not None:
            return found
        _convert(source, folder, models / f".{mark}.part", tell, on_progress)
    return folder


def find_converted(source: Path) -> Path | None:
    """The folder that a checkpoint file was converted to earlier, or None."""
    return _newest(f"*-{fingerprint_file(source)}")


def find_converted_preset(preset: ModelPreset) -> Path | None:
    """The folder that a preset's download was converted to earlier, or None; the download need not be there."""
    return _newest(f"{hub_name(preset)}-{'[0-9a-f]' * 16}")


def hub_name(preset: ModelPreset) -> str:
    """What a preset's download is called in the cache, where no other name holds an @."""
    return f"hub@{preset.name}"


def fingerprint_file(path: Path) -> str:
    """16 hex digits that tell a large file from others, from its size and about 4 MB of its content.

    A `.ckpt` is a zip archive, whose end, which is read whole, holds a checksum of each tensor: any change shows.
    Other files have none, and there the time of the last change counts too.
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


def _convert(source: Path, folder: Path, work: Path, tell: Notify, on_progress: OnProgress | None) -> None:
    """Convert inside `work`, which the lock makes ours, and move the result: `folder` is whole or not there."""
    from videocrafter.checkpoints.official.to_folder import convert_to_folder

    tell(f"converting {source} ({source.stat().st_size / 1e9:.1f} GB), this once, into {folder}")
    # A run that was killed may have left something.
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    try:
        done = convert_to_folder(source, work / "model", drop_unused=True, on_progress=on_progress)
        # What has this name is damaged, or it would have been found.
        shutil.rmtree(folder, ignore_errors=True)
        (work / "model").rename(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    tell(f"it is {done.description}")


@contextmanager
def _alone(path: Path, when_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a lock that ends with the process, however it ends."""
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

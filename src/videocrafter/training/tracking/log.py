"""The log of a run, `log.jsonl`, and the interface of everything that follows it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

_log = logging.getLogger(__name__)

LOG_FILE = "log.jsonl"


class Follower(Protocol):
    """Receives every log line and every folder of samples, in the main process, between two steps."""

    def line(self, stage: str, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Receive a log line; `kind` is "train", "validation" or "precision"."""

    def samples(self, stage: str, step: int, folder: Path) -> None:
        """Receive a folder into which images and videos were written."""


class TrainingLog:
    """Appends one JSON object per line to `log.jsonl` and notifies the followers.

    An error in a follower is reported once and does not end the run. An error in writing the log does, because the
    line would be lost.

    Args:
        output: the run's folder.
        stage: the stage that is trained.
        followers: not closed with the log.
    """

    def __init__(self, output: Path, stage: str, followers: Sequence[Follower] = ()) -> None:
        self._stage = stage
        self._followers = followers
        self._failed: set[int] = set()
        self._file = (output / LOG_FILE).open("a", encoding="utf-8")

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Write one line: stage, step, kind ("train", "validation", "precision") and values.

        Raises:
            OSError: the disk is full.
        """
        line = {"stage": self._stage, "step": step, "kind": kind, **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        self._notify(lambda follower: follower.line(self._stage, step, kind, values))

    def samples(self, step: int, folder: Path) -> None:
        """Announce a folder of images and videos."""
        self._notify(lambda follower: follower.samples(self._stage, step, folder))

    def close(self) -> None:
        """Close the log."""
        self._file.close()

    def _notify(self, notify: Callable[[Follower], None]) -> None:
        for index, follower in enumerate(self._followers):
            try:
                notify(follower)
            except Exception as error:  # noqa: BLE001, PERF203  no error of a follower may end the run
                if index not in self._failed:
                    self._failed.add(index)
                    _log.warning(
                        "%s failed to show a log line (%s: %s). Training continues; %s is complete.",
                        type(follower).__name__,
                        type(error).__name__,
                        error,
                        LOG_FILE,
                    )


def truncate_log(output: Path, stages: Sequence[str], stage: str, step: int) -> None:
    """Cut `log.jsonl` back to a checkpoint: keep the lines of stages before `stage`, and of `stage` up to `step`.

    Args:
        stages: names in the recipe's order.
        step: the checkpoint's step; -1 keeps no line of `stage`.
    """
    path = output / LOG_FILE
    if not path.exists():
        return
    before = set(stages[: stages.index(stage)])
    end = 0
    with path.open("rb+") as file:
        for text in file:
            line = parse_line(text)  # None for the half-written last line of a killed run
            keep = line is not None and (line["stage"] in before or (line["stage"] == stage and line["step"] <= step))
            if not keep or not text.endswith(b"\n"):
                break
            end += len(text)
        file.truncate(end)


def read_log(output: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log; an empty list if there is none.

    Damaged lines are skipped: the last line of a running or killed run may be incomplete. Only stage, step and kind
    are checked, since the other keys differ between versions.
    """
    path = output / LOG_FILE
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return [line for text in file if (line := parse_line(text)) is not None]


def parse_line(text: bytes) -> dict[str, Any] | None:
    """Return a log line as a dict, or None if it is invalid. Stage and kind are strings, step is an integer >= 0."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    stage, step, kind = line.get("stage"), line.get("step"), line.get("kind")
    is_line = isinstance(stage, str) and isinstance(kind, str) and type(step) is int and step >= 0
    return line if is_line else None


def values_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return the logged values of a line, without stage, step and kind."""
    return {name: value for name, value in line.items() if name not in ("stage", "step", "kind")}


def number(line: Mapping[str, Any], key: str) -> float | None:
    """Return the numeric value of `key`, or None."""
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def sample_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Return the images and the videos in a folder of samples, each sorted by name."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return (
        [path for path in paths if path.suffix.lower() in (".png", ".jpg", ".jpeg")],
        [path for path in paths if path.suffix.lower() in (".mp4", ".gif", ".webm")],
    )

"""The log of a run, and whoever follows it: TensorBoard, trackers, the view in the terminal."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

_log = logging.getLogger(__name__)

# What depends on the machine's mood and not on the run. Without these keys, the log of a run that was killed
# and resumed equals that of one that was not.
TIMING_KEYS = (
    "samples_per_s",
    "data_wait_share",
    "peak_memory_gib",
    "seconds",
    "fp32_seconds",
    "bf16_seconds",
)

LOG_FILE = "log.jsonl"


class Follower(Protocol):
    """Is told of every line of the log and of every folder of samples, in the main process, between two steps."""

    def line(self, stage: str, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """A line was written; `kind` is "train", "validation" or "precision"."""

    def samples(self, stage: str, step: int, folder: Path) -> None:
        """Pictures and videos were written into a folder."""


class Tracker:
    """Writes one JSON object per line to `log.jsonl`, and tells the followers.

    A follower that fails is named once; it ends no run. The log itself does: what cannot be written is lost.

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
        self._tell(lambda follower: follower.line(self._stage, step, kind, values))

    def samples(self, step: int, folder: Path) -> None:
        """Say that there are pictures and videos in a folder."""
        self._tell(lambda follower: follower.samples(self._stage, step, folder))

    def close(self) -> None:
        """Close the log."""
        self._file.close()

    def _tell(self, tell: Callable[[Follower], None]) -> None:
        for index, follower in enumerate(self._followers):
            try:
                tell(follower)
            except Exception as error:  # noqa: BLE001, PERF203  whatever a follower stumbles over, the run goes on
                if index not in self._failed:
                    self._failed.add(index)
                    _log.warning(
                        "%s could not show a line of the log (%s: %s); %s has it, and training goes on.",
                        type(follower).__name__,
                        type(error).__name__,
                        error,
                        LOG_FILE,
                    )


def truncate_log(output: Path, stages: Sequence[str], stage: str, step: int) -> None:
    """Cut `log.jsonl` back to a checkpoint: lines of stages before `stage`, and of `stage` up to `step`.

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
            line = parse_line(text)  # None is the half-written last line of a killed run
            keep = line is not None and (line["stage"] in before or (line["stage"] == stage and line["step"] <= step))
            if not keep or not text.endswith(b"\n"):
                break
            end += len(text)
        file.truncate(end)


def read_log(output: Path) -> list[dict[str, Any]]:
    """The lines of a run's log, empty if there is none.

    Damaged lines are passed over: that of a run that is being written may end in one. What a line holds beside
    stage, step and kind is not checked: older runs have other keys.
    """
    path = output / LOG_FILE
    if not path.is_file():
        return []
    with path.open("rb") as file:
        return [line for text in file if (line := parse_line(text)) is not None]


def parse_line(text: bytes) -> dict[str, Any] | None:
    """A line of the log; None if it is none. Stage and kind are texts, step is a whole number from 0."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(line, dict):
        return None
    stage, step, kind = line.get("stage"), line.get("step"), line.get("kind")
    is_line = isinstance(stage, str) and isinstance(kind, str) and type(step) is int and step >= 0
    return line if is_line else None


def number(line: Mapping[str, Any], key: str) -> float | None:
    """A number of a line; None if it is not there or something else."""
    value = line.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def sample_files(folder: Path) -> tuple[list[Path], list[Path]]:
    """Pictures and videos in a folder of samples, by name."""
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    return (
        [path for path in paths if path.suffix.lower() in (".png", ".jpg", ".jpeg")],
        [path for path in paths if path.suffix.lower() in (".mp4", ".gif", ".webm")],
    )

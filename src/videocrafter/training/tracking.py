"""What a run writes down while it trains: JSON lines always, TensorBoard where it is installed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

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


class Tracker:
    """Writes one JSON object per line to `log.jsonl`, and scalars to TensorBoard under the stage's name.

    Args:
        output: the run's folder.
        stage: the stage that is trained.
        step: steps of it that are already done; what TensorBoard shows after it is hidden.
    """

    def __init__(self, output: Path, stage: str, step: int) -> None:
        self._stage = stage
        self._file = (output / "log.jsonl").open("a", encoding="utf-8")
        self._board = _open_tensorboard(output / "tensorboard" / stage, step)

    def write(self, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Write one line: stage, step, kind ("train", "validation", "precision") and values.

        Raises:
            OSError: the disk is full.
        """
        line = {"stage": self._stage, "step": step, "kind": kind, **values}
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()
        if self._board is not None:
            for name, value in values.items():
                if isinstance(value, int | float):
                    self._board.add_scalar(f"{kind}/{name}", value, step)

    def close(self) -> None:
        """Close the files."""
        self._file.close()
        if self._board is not None:
            self._board.close()


def truncate_log(output: Path, stages: Sequence[str], stage: str, step: int) -> None:
    """Cut `log.jsonl` back to a checkpoint: lines of stages before `stage`, and of `stage` up to `step`.

    Args:
        stages: names in the recipe's order.
        step: the checkpoint's step; -1 keeps no line of `stage`.
    """
    path = output / "log.jsonl"
    if not path.exists():
        return
    before = set(stages[: stages.index(stage)])
    end = 0
    with path.open("rb+") as file:
        for line in file:
            try:
                entry = json.loads(line)
                keep = entry["stage"] in before or (entry["stage"] == stage and entry["step"] <= step)
            except (ValueError, KeyError, TypeError):
                keep = False  # the half-written last line of a killed run
            if not keep or not line.endswith(b"\n"):
                break
            end += len(line)
        file.truncate(end)


def read_log(output: Path) -> list[dict[str, Any]]:
    """The entries of a run's `log.jsonl`."""
    with (output / "log.jsonl").open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def _open_tensorboard(folder: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        _log.info("TensorBoard is not installed; the log is in log.jsonl only.")
        return None
    return SummaryWriter(str(folder), purge_step=step + 1)

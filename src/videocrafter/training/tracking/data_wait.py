"""A warning when training waits for its data."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from videocrafter.training.tracking.log import number

_log = logging.getLogger(__name__)

_SHARE = 0.2
_LINES = 5


class DataWaitWarning:
    """Warns once if a stage that reads files keeps waiting for data.

    The first log line is ignored, since the data workers are still starting.
    """

    def __init__(self) -> None:
        self._shares: deque[float] = deque(maxlen=_LINES)
        self._is_first, self._has_warned = True, False

    def line(self, stage: str, step: int, kind: str, values: Mapping[str, Any]) -> None:
        """Warn if the share was large in each of the last lines."""
        share = number(values, "data_wait_share") if kind == "train" else None
        if share is None or self._has_warned:
            return
        if self._is_first:
            self._is_first = False
            return
        self._shares.append(share)
        if len(self._shares) == _LINES and min(self._shares) > _SHARE:
            self._has_warned = True
            _log.warning(
                "%s, step %d: training spends %.0f %% of its time waiting for data. To speed it up, use more "
                "data workers (--set stages.%s.task.data.num_workers=N; this machine has %d cores), cache encoded "
                "clips (--cache DIR), or store the clips on a local disk at no more than the training resolution.",
                stage,
                step,
                100 * sum(self._shares) / _LINES,
                stage,
                os.cpu_count() or 1,
            )

    def samples(self, stage: str, step: int, folder: Path) -> None:
        """Ignore samples."""

"""Times of earlier runs in the same folder, one line each. They change no result."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class RunHistory:
    """A file with one JSON object per run."""

    path: Path

    def add(self, run: dict[str, Any]) -> None:
        """Append a run."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(run) + "\n")

    def read(self) -> list[dict[str, Any]]:
        """Return all runs, earliest first, except lines that a power failure has cut off."""
        runs = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.is_file() else ():
            with suppress(ValueError):
                runs.append(json.loads(line))
        return runs

"""Results of units: one file each, written whole and renamed. The file is the commit.

A result is a JSON object, either `{"ok": …}` or `{"failed": {"reason": …, "message": …}}`. Its name holds the unit
and a fingerprint of the settings that it depends on, so that other settings make other files.
No result contains times or paths of temporary files: the same unit gives the same bytes, wherever it is done.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videocrafter.media.atomic_write import write_all
from videocrafter.media.errors import OutputExistsError
from videocrafter.media.json_file import read_json_object
from videocrafter.media.output_checks import check_space
from videocrafter.preparation.failures import TRANSIENT, UnitError, is_out_of_memory

_DONE = b'{\n "ok":'
"""Beginning of the results that are not failures, as `canonical` writes them."""


@dataclass(frozen=True)
class WorkFiles:
    """The results of one stage under one set of settings.

    Attributes:
        root: folder of the stage.
        settings: fingerprint of everything that the results depend on besides the unit.
    """

    root: Path
    settings: str

    def path(self, unit: str, suffix: str = ".json") -> Path:
        """Return the file of a unit. Folders hold a 256th of the units each."""
        return self.root / unit[:2] / f"{unit}.{self.settings}{suffix}"

    def commit(self, unit: str, result: dict[str, Any], *, keep_first: bool = False) -> None:
        """Write the result of a unit.

        Args:
            keep_first: leave an existing result alone, for results that differ each time.

        Raises:
            OutputError: the disk is full, or cannot be written.
        """
        self._write(unit, {"ok": result}, keep_first=keep_first)

    def commit_failure(self, unit: str, error: UnitError) -> None:
        """Write that a unit failed, and why, unless it succeeded elsewhere in the meantime.

        A failure for lack of memory is raised: another process may succeed.
        """
        if is_out_of_memory(error):
            raise error
        if "ok" in (self.read(unit) or {}):
            return
        self._write(unit, {"failed": {"reason": error.reason, "message": str(error)}})

    def commit_bytes(self, unit: str, suffix: str, data: bytes) -> None:
        """Write a result that is a file of its own, such as a clip."""
        path = self.path(unit, suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        check_space(path, len(data))
        write_all({path: data}, overwrite=True)

    def read(self, unit: str) -> dict[str, Any] | None:
        """Return the result of a unit, with "ok" or "failed"; None if there is none.

        Raises:
            ValueError: the file is damaged; one line that names it.
        """
        path = self.path(unit)
        return read_json_object(path) if path.is_file() else None

    def is_done(self, unit: str, *, retry: frozenset[str] = frozenset()) -> bool:
        """Return whether a unit needs no further work: done, or failed for a reason that is not tried again."""
        with suppress(FileNotFoundError), self.path(unit).open("rb") as file:
            # Scans have megabytes, and the first bytes tell.
            if file.read(len(_DONE)) == _DONE:
                return True
        reason = (self.read(unit) or {}).get("failed", {}).get("reason")
        return reason is not None and reason not in (TRANSIENT | retry)

    def _write(self, unit: str, content: dict[str, Any], *, keep_first: bool = False) -> None:
        try:
            write_all({self.path(unit): canonical(content)}, overwrite=not keep_first)
        except OutputExistsError:
            if "failed" in (self.read(unit) or {}):
                write_all({self.path(unit): canonical(content)}, overwrite=True)


def canonical(value: Any) -> bytes:
    """Return JSON whose bytes depend only on the value. Floats keep nine significant digits."""
    return json.dumps(_rounded(value), sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1).encode(
        "utf-8", "backslashreplace"
    )


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.9g}")
    if isinstance(value, dict):
        return {key: _rounded(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(item) for item in value]
    return value

"""Check whether a model may be written to a path."""

from __future__ import annotations

from pathlib import Path

from videocrafter.media.output_checks import check_writable
from videocrafter.presets import LORA_FILE, MODEL_INDEX


def check_target(path: Path, *, folder: bool, overwrite: bool) -> None:
    """Check that a model can be written to `path`; creates the parent folder.

    Args:
        path: The file or, with `folder`, the folder to be written.
        folder: Whether the model is a folder.
        overwrite: Whether an existing model may be replaced. Anything else is never replaced.

    Raises:
        ValueError: `path` exists and `overwrite` is false, holds something other than a model, or cannot be written.
            In the last case the error is an OSError as well.
    """
    check_writable(path, folder=folder, overwrite=overwrite, objection=_objection)


def _objection(folder: Path) -> str | None:
    if any((folder / name).is_file() for name in (MODEL_INDEX, LORA_FILE)):
        return None
    return f"holds something other than a model (it has no {MODEL_INDEX})"

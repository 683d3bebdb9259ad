"""Saved folders that diffusers' own `DiffusionPipeline` can open."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from videocrafter.checkpoints.pipeline_code import CODE_FILE, code_of
from videocrafter.media.atomic_write import whole_file


class SavedCodeMixin:
    """Mixin for a `DiffusionPipeline`."""

    def save_pretrained(self, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any) -> None:
        """Save the pipeline as diffusers does, with the file that lets `DiffusionPipeline` open the folder.

        A file of that name that is there already is kept.
        """
        code = Path(save_directory) / CODE_FILE
        # Before the rest, because `push_to_hub=True` uploads the folder at the end.
        if not code.exists() and not Path(save_directory).is_file():
            with whole_file(code, overwrite=False) as hidden:
                hidden.write_text(code_of(type(self).__name__), encoding="utf-8")
        super().save_pretrained(save_directory, *args, **kwargs)  # type: ignore[misc]

"""The preview image of `--preview`, rewritten while a run samples."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from videocrafter.media.contact_sheet import contact_sheet
from videocrafter.media.image_file import write_image
from videocrafter.pipelines.preview import LatentPreview

_COLUMNS = 16


class PreviewWriter:
    """Writes the current estimate of a batch's videos to one image, replacing it every few steps.

    Args:
        path: a PNG file.
        every: steps between two updates.
        preview: the map from latents to colours.
    """

    def __init__(self, path: Path, every: int, preview: LatentPreview) -> None:
        self.path = path
        self.every = every
        self.preview = preview

    def after_step(self, step: int, num_steps: int, state: Mapping[str, Any], prompts: tuple[str, ...]) -> None:
        """Update the image if it is due. `step` counts from 0; the last step always updates it."""
        is_last = step + 1 == num_steps
        denoised: Tensor = state.get("denoised", state["latents"])
        if (step + 1) % self.every and not is_last:
            return
        videos = list(self.preview.frames(denoised))
        captions = [f"step {step + 1} of {num_steps}: {prompt}" for prompt in prompts]
        write_image(self.path, contact_sheet(videos, captions, columns=_COLUMNS), overwrite=True)

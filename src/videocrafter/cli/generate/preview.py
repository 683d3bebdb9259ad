"""A picture of what is in the making, drawn again and again while a run samples."""

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
    """Draws what the model thinks the videos of a batch will be, every few steps, over the picture before.

    Args:
        path: a PNG.
        every: how many steps lie between two pictures.
        preview: the map from latents to colours.
    """

    def __init__(self, path: Path, every: int, preview: LatentPreview) -> None:
        self.path = path
        self.every = every
        self.preview = preview

    def after_step(self, step: int, num_steps: int, state: Mapping[str, Any], prompts: tuple[str, ...]) -> None:
        """Draw, if it is time; `step` counts from 0, and the last step is always drawn."""
        is_last = step + 1 == num_steps
        denoised: Tensor = state.get("denoised", state["latents"])
        if (step + 1) % self.every and not is_last:
            return
        videos = list(self.preview.frames(denoised))
        captions = [f"step {step + 1} of {num_steps}: {prompt}" for prompt in prompts]
        write_image(self.path, contact_sheet(videos, captions, columns=_COLUMNS), overwrite=True)

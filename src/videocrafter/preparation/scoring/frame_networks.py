"""Scores by networks that users supply as TorchScript files, with pinned hashes.

`weights.json` in the folder of the files names and pins each:

    {"aesthetics": {"file": "laion_aesthetic.pt", "sha256": "5f2c…"}}

A module takes frames, float32 `[N, 3, H, W]` from 0 to 1, and returns one score per frame, `[N]`. It resizes and
normalises by itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from videocrafter.checkpoints.pinned_files import MANIFEST, read_pins
from videocrafter.media.file_hash import file_sha256

NETWORKS = ("aesthetics", "nsfw", "watermark")
"""Scores by name: aesthetics, higher is better; probabilities of unsafe content, and of a watermark, from 0 to 1."""


def pins(folder: Path) -> dict[str, tuple[str, str]]:
    """Return file name and SHA-256 of each network in a folder.

    Raises:
        ValueError: the folder pins nothing, or its manifest is not valid.
    """
    found = read_pins(folder / MANIFEST, NETWORKS)
    if not found:
        raise ValueError(
            f'{folder / MANIFEST} names no network; expected {{"NAME": {{"file": FILE, "sha256": HASH}}}} with one '
            f"or more of {', '.join(NETWORKS)}"
        )
    return found


class FrameNetwork:
    """One score of frames.

    Args:
        path: the TorchScript file.
        sha256: its pinned hash.

    Raises:
        ValueError: the file does not exist, has another hash, or is not a TorchScript module.
    """

    def __init__(self, path: Path, sha256: str) -> None:
        # Imported here: processes that score nothing need no torch.
        from videocrafter.checkpoints.torchscript_module import TorchScriptModule

        if not path.is_file():
            raise ValueError(f"{path} does not exist, but {MANIFEST} next to it names it")
        actual = file_sha256(path)
        if actual != sha256:
            raise ValueError(f"{path} has SHA-256 {actual}, expected {sha256}; download or export it again")
        self._module = TorchScriptModule(path)

    def score(self, frames: Sequence[np.ndarray]) -> float:
        """Return the mean score of frames, uint8 `[H, W, 3]`.

        Raises:
            ValueError: the module fails, or returns something else than a finite score per frame.
        """
        from videocrafter.checkpoints.torchscript_module import stacked

        return float(self._module.tensor(self._module.call(stacked(frames)), len(frames)).mean())

"""TorchScript modules that users supply: loaded without running other code of theirs, called, and checked."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class TorchScriptError(ValueError):
    """A user's module cannot be loaded, fails, or returns something else than its interface says."""


class TorchScriptModule:
    """A TorchScript file.

    Args:
        path: the file; its hash has been checked.
        device: where the module runs.

    Raises:
        TorchScriptError: the file is not a TorchScript module.
    """

    def __init__(self, path: Path, device: torch.device | str = "cpu") -> None:
        self._name, self._device = path.name, device
        try:
            with warnings.catch_warnings():
                # torch prefers newer formats, but published networks are TorchScript files.
                warnings.simplefilter("ignore", DeprecationWarning)
                self._module: Callable[..., Any] = torch.jit.load(str(path), map_location=device).eval()
        except (RuntimeError, ValueError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise TorchScriptError(f"{path} is not a TorchScript module ({reason}); export it again") from error

    @torch.no_grad()
    def call(self, *inputs: Tensor, **options: bool) -> Any:
        """Call the module on its device. Raises TorchScriptError if it fails."""
        try:
            return self._module(*(value.to(self._device) for value in inputs), **options)
        except (RuntimeError, TypeError) as error:
            last_line = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
            raise TorchScriptError(f"{self._name} failed ({last_line[:200]}); check its interface") from error

    def tensor(self, result: Any, *shape: int | None) -> NDArray[np.float32]:
        """Return a result as an array, checked against a shape in which None is any size."""
        actual = list(result.shape) if isinstance(result, Tensor) else type(result).__name__
        fits = isinstance(result, Tensor) and len(result.shape) == len(shape)
        if not fits or any(w is not None and w != a for w, a in zip(shape, result.shape, strict=True)):
            expected = [size or "any" for size in shape]
            raise TorchScriptError(f"{self._name} returned {actual}, expected a tensor of shape {expected}")
        array: NDArray[np.float32] = result.detach().float().cpu().numpy()
        if not np.isfinite(array).all():
            raise TorchScriptError(f"{self._name} returned NaN or infinity")
        return array


def stacked(frames: Sequence[NDArray[np.uint8]]) -> Tensor:
    """Return frames [H, W, 3] uint8 of one size as float32 [N, 3, H, W] in [0, 1]."""
    return torch.from_numpy(np.stack(frames)).permute(0, 3, 1, 2).float() / 255.0

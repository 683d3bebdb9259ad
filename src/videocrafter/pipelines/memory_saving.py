"""Apply memory settings to a pipeline."""

from __future__ import annotations

import tempfile
import weakref
from typing import Any

import torch

from videocrafter.pipelines.memory_settings import MemorySettings
from videocrafter.pipelines.offloading import OffloadingMixin


class MemorySavingMixin(OffloadingMixin):
    """Mixin for a `DiffusionPipeline` with the networks `unet` and `vae`; list it first."""

    memory_settings = MemorySettings()
    """Ways in which the pipeline saves memory; see `save_memory`."""
    unet: Any
    vae: Any

    def save_memory(self, settings: MemorySettings, device: torch.device | str | None = None) -> None:
        """Apply settings, once, to a pipeline whose weights are in main memory if any are to be offloaded.

        Load LoRAs before: hooks of offloading do not see layers that are added later.

        Args:
            settings: how to save memory.
            device: where the networks compute; None is the pipeline's device.

        Raises:
            ValueError: the pipeline is offloaded already, or the autoencoder cannot decode in tiles.
        """
        device = torch.device(self.device if device is None else device)  # type: ignore[attr-defined]
        if self.is_offloaded():
            raise ValueError("the pipeline is offloaded already; load it again to change how it saves memory")
        if settings.tiled_decoding:
            if not hasattr(self.vae, "enable_tiling"):
                raise ValueError(f"{type(self.vae).__name__} cannot decode in tiles; use another setting")
            self.vae.enable_tiling()
        if settings.fp8_weights:
            self.unet.enable_layerwise_casting(torch.float8_e4m3fn, self.unet.dtype)
        if settings.offload == "none":
            self.to(device)  # type: ignore[attr-defined]
        else:
            self._offload(device, [] if settings.offload == "all" else ["unet"])
        self.memory_settings = settings

    def _offload(self, device: torch.device, kept: list[str]) -> None:
        where: dict[str, Any] = {"use_stream": True} if device.type == "cuda" else {}
        if device.type == "cpu":
            folder = tempfile.TemporaryDirectory(prefix="videocrafter-offload-")
            weakref.finalize(self, folder.cleanup)
            where["offload_to_disk_path"] = folder.name
        self.enable_group_offload(device, offload_type="leaf_level", exclude_modules=kept, **where)

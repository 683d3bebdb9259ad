"""Offloading: whether weights move, and group offloading to disk with one folder per network."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from diffusers.hooks import apply_group_offloading
from torch import nn

_HOOKS = ("_hf_hook", "_diffusers_hook")
"""Attributes of modules that accelerate and diffusers offload."""


class OffloadingMixin:
    """Mixin for a `DiffusionPipeline`; list it first."""

    components: dict[str, Any]

    def is_offloaded(self) -> bool:
        """Return whether weights move between devices while the networks compute."""
        networks = [part for part in self.components.values() if isinstance(part, nn.Module)]
        return any(hook in vars(module) for part in networks for module in part.modules() for hook in _HOOKS)

    def enable_group_offload(
        self,
        onload_device: torch.device | str,
        *args: Any,
        offload_to_disk_path: str | os.PathLike[str] | None = None,
        exclude_modules: str | list[str] | None = None,
        **kwargs: Any,
    ) -> None:
        """Keep groups of layers in main memory, or on disk, until they compute; arguments as in diffusers.

        diffusers names files by layer and reuses files that exist. So each network has its own folder here (layers of
        the text and the image encoder have the same names), and the folders must be new.

        Raises ValueError if a folder already holds offloaded weights.
        """
        if offload_to_disk_path is None:
            super().enable_group_offload(  # type: ignore[misc]
                onload_device, *args, exclude_modules=exclude_modules, **kwargs
            )
            return
        excluded = [exclude_modules] if isinstance(exclude_modules, str) else list(exclude_modules or [])
        networks = {name: part for name, part in self.components.items() if isinstance(part, nn.Module)}
        folders = {name: Path(offload_to_disk_path) / name for name in networks if name not in excluded}
        for folder in folders.values():
            if any(folder.glob("group_*.safetensors")):
                raise ValueError(
                    f"{folder} already holds offloaded weights, maybe of another model; delete it or pass another"
                    " offload_to_disk_path"
                )
        for name, network in networks.items():
            if name in folders:
                path = str(folders[name])
                apply_group_offloading(network, onload_device, *args, offload_to_disk_path=path, **kwargs)
            else:
                network.to(onload_device)

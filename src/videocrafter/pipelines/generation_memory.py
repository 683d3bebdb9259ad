"""Estimate the memory of a generation from the model's configs, and measure the available memory.

The estimate is a lower bound, so that nothing that fits is refused: the weights plus the larger of two peaks. The
denoiser's peak is in its widest layer, in addition to the skip connections so far: in the residual block, or in a
transformer, whose attention holds six tensors of the layer's width, and whose MLP 16 for as many rows as it takes
at a time. The autoencoder's peak is at full resolution, for the few frames that it decodes together. Both hold all
frames of the video in addition: as latents, or as pixels. For the official models both formulas agree within two
percent with a count of all operations. Workspace of libraries, and the framework itself, come in addition.

Sizes are bytes.
"""

from __future__ import annotations

import inspect
import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL

from videocrafter.models.attention import HIDDEN_AT_ONCE
from videocrafter.models.autoencoder import decoded_at_once
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.component_loading import check_config
from videocrafter.pipelines.memory_settings import MemorySettings
from videocrafter.pipelines.model_folder import (
    component_folder,
    components_of,
    network_weights,
    read_json,
    read_model_index,
    tensor_shapes,
)

_TOKENS = 2
"""The tokens of a transformer, and the normalised ones."""
_TENSORS_IN_ATTENTION = 6
"""Queries, keys, values, their output, its projection and the sum with the tokens."""
_TENSORS_IN_MLP = 16
"""8 + 4 + 4 times the width."""
_FLOAT32 = 4
_NETWORKS: Mapping[str, type] = {"unet": VideoUNet, "vae": AutoencoderKL}
_OFFLOADED_LAYERS = 2
"""Layers of offloaded networks on the device at a time: one that computes, and the next."""
_TILE = 512
"""Side of a decoded tile in pixels, that of the official autoencoder."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """Size of one batch.

    Attributes:
        num_videos: videos per batch.
        branches: conditions per call of the network: 1 without guidance, 2 with it, 3 with a separate guidance scale
            for the image.
        num_frames, height, width: of each video.
        window: frames that the network sees at once, if fewer than the video has.
        element_bytes: bytes per element: 4 in float32, 2 in half precision.
        saving: how memory is saved.
    """

    num_videos: int
    branches: int
    num_frames: int
    height: int
    width: int
    window: int | None = None
    element_bytes: int = 4
    saving: MemorySettings = field(default_factory=MemorySettings)


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """Numbers of parameters of a model.

    Attributes:
        denoiser: of the denoiser.
        others: of all other networks.
        largest: of the largest layer.
    """

    denoiser: int
    others: int
    largest: int

    @property
    def total(self) -> int:
        """Parameters of all networks."""
        return self.denoiser + self.others

    def bytes_on_device(self, element_bytes: int, saving: MemorySettings) -> int:
        """Return the bytes of the weights that are on the device at a time."""
        layers = _OFFLOADED_LAYERS * self.largest * element_bytes
        denoiser = self.denoiser * (1 if saving.fp8_weights else element_bytes)
        if saving.offload == "all":
            return layers
        return denoiser + (layers if saving.offload == "encoders" else self.others * element_bytes)


@dataclass(frozen=True, kw_only=True)
class MemoryNeed:
    """Bytes by purpose. The denoiser and the decoder run one after the other."""

    weights: int
    denoiser: int
    decoder: int

    @property
    def total(self) -> int:
        """Peak memory in bytes."""
        return self.weights + max(self.denoiser, self.decoder)


def memory_need(
    unet: Mapping[str, Any], vae: Mapping[str, Any], parameters: Parameters, workload: Workload
) -> MemoryNeed:
    """Estimate the memory of a workload for networks with these configs; a lower bound, see the module docstring."""
    levels = len(vae["block_out_channels"])
    factor = pixels_per_latent(vae)
    height, width = workload.height // factor, workload.width // factor
    tile = _TILE // factor if workload.saving.tiled_decoding else max(height, width)
    places, decoded = height * width, min(tile, height) * min(tile, width)
    size = workload.element_bytes
    widest = max(vae["block_out_channels"][:2])
    chunk = min(workload.saving.frames_at_once or frames_per_pass(vae, workload), workload.num_frames)
    frames = workload.num_videos * workload.num_frames
    pixels = frames * workload.height * workload.width * 3
    latents = frames * unet["in_channels"] * places * _FLOAT32
    if workload.num_frames > (workload.window or workload.num_frames):
        # A video made in windows has the latents of all its frames, the network's input, and a mean of the windows'
        # predictions for each branch. It is decoded in chunks of bytes, which are then joined.
        whole_latents, whole_pixels = (2 + workload.branches) * latents, latents + 2 * pixels
    else:
        whole_latents, whole_pixels = 0, size * pixels
    return MemoryNeed(
        weights=parameters.bytes_on_device(size, workload.saving),
        denoiser=_denoiser_elements(unet, workload, places) * size + whole_latents,
        decoder=3 * widest * chunk * decoded * 4 ** (levels - 1) * size + whole_pixels,
    )


def frames_per_pass(vae: Mapping[str, Any], workload: Workload) -> int:
    """Return how many frames are decoded together unless `MemorySettings.frames_at_once` says so."""
    latent_pixels = workload.height * workload.width // pixels_per_latent(vae) ** 2
    return decoded_at_once(vae["block_out_channels"], max(1, latent_pixels), workload.element_bytes)


def size_multiple(unet: Mapping[str, Any], vae: Mapping[str, Any]) -> int:
    """Height and width of a video must be multiples of this."""
    return pixels_per_latent(vae) * 2 ** (len(unet["channel_mult"]) - 1)


def pixels_per_latent(vae: Mapping[str, Any]) -> int:
    """Return the pixels per latent along each side."""
    return math.isqrt(vae["in_channels"] // 3) * 2 ** (len(vae["block_out_channels"]) - 1)


def _denoiser_elements(unet: Mapping[str, Any], workload: Workload, places: int) -> int:
    frames = min(workload.window or workload.num_frames, workload.num_frames)
    at_once = 1 if workload.saving.branches_apart else workload.branches
    tokens = workload.num_videos * at_once * frames * places
    inner = unet["initial_temporal_heads"] * unet["head_dim"]
    # Branches of guidance share everything before the first cross-attention, unless the text is in the embedding.
    shared = tokens if unet["frame_text_condition"] else tokens // at_once
    all_rows = workload.saving.fp8_weights or workload.saving.offload == "all"

    def in_transformer(width: int, tokens: int) -> int:
        whole = _TENSORS_IN_MLP * width * tokens
        mlp = whole if all_rows else min(whole, 2 * HIDDEN_AT_ONCE + width * tokens)
        return _TOKENS * width * tokens + max(mlp, _TENSORS_IN_ATTENTION * width * tokens)

    peak = in_transformer(inner, shared) + 2 * unet["model_channels"] * shared if inner else 0
    skips = (shared - tokens) * unet["model_channels"]
    widths = [unet["model_channels"] * multiple for multiple in unet["channel_mult"]]
    for level, (width, below) in enumerate(itertools.zip_longest(widths, widths[1:], fillvalue=widths[-1])):
        level_tokens = tokens // 4**level
        # The first layer of the up path: its input from below, and the same concatenated with a skip connection.
        joined = below + width
        own = (below + 3 * joined) * level_tokens
        if level in unet["attention_levels"]:
            own = max(own, (below + joined + width) * level_tokens + in_transformer(width, level_tokens))
            if unet["relative_position"]:
                # The full matrix of attention scores between frames exists three times.
                own = max(own, (8 * width + 3 * frames * width // unet["head_dim"]) * level_tokens)
        own += unet["num_res_blocks"] * width * level_tokens
        peak = max(peak, skips + own)
        skips += (unet["num_res_blocks"] + 1) * width * level_tokens
    return peak


def network_configs(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the configs of a pipeline folder's denoiser and autoencoder, with defaults for missing entries."""
    found = []
    for name, network in _NETWORKS.items():
        config = read_json(component_folder(folder, name) / "config.json")
        check_config(folder, name, network, config)
        found.append(with_defaults(name, config))
    return found[0], found[1]


def with_defaults(name: str, config: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the defaults of the network `name`, "unet" or "vae", for entries that a config lacks."""
    parameters = inspect.signature(_NETWORKS[name]).parameters.values()
    defaults = {one.name: one.default for one in parameters if one.default is not inspect.Parameter.empty}
    return defaults | dict(config)


def count_parameters(folder: Path) -> Parameters:
    """Count the parameters of a pipeline folder, shared components included, from safetensors headers alone."""
    sizes = {
        name: [
            math.prod(shape)
            for path in network_weights(folder, name, required=False)[0]
            for shape in tensor_shapes(path).values()
        ]
        for name in components_of(read_model_index(folder))
    }
    return parameters_of(sizes)


def parameters_of(sizes: Mapping[str, Sequence[int]]) -> Parameters:
    """Return the numbers of a model whose tensors have these numbers of elements, by network."""
    denoiser = sum(sizes.get("unet", ()))
    every = [size for network in sizes.values() for size in network]
    return Parameters(denoiser=denoiser, others=sum(every) - denoiser, largest=max(every, default=0))


def available_memory(device: torch.device) -> int | None:
    """Return how many bytes this process can still allocate on a device; None if the system does not report it."""
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if device.type == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.driver_allocated_memory()
    if device.type != "cpu":
        return None
    limits = [free_in_system(Path("/proc/meminfo")), free_in_group(Path("/sys/fs/cgroup"))]
    return min((value for value in limits if value is not None), default=None)


def free_in_system(meminfo: Path) -> int | None:
    """Return the bytes available without swapping, as Linux reports them; elsewhere the total memory, or None."""
    try:
        for line in meminfo.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        # Free memory is unknown here. The total is an upper bound, so nothing that fits is refused.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def free_in_group(folder: Path) -> int | None:
    """Return the bytes left under the limit of a container (cgroup version 2); None without a limit."""
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines():
            if line.startswith(("inactive_file ", "active_file ")):
                used -= int(line.split()[1])  # page cache, reclaimed on demand
    except (OSError, ValueError, IndexError):
        return None
    return max(0, limit - used)

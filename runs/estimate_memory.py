"""Compute the memory that the official models need, without weights and without a GPU.

    python runs/estimate_memory.py            the table of docs/official_weights.md
    python runs/estimate_memory.py t2v-512 --frames 32 --height 320 --width 320

Every network is built at full size from the key list of its checkpoint and run on fake tensors, which have a shape
but no data. Every storage counts from its allocation to its release; the peak of a phase is the largest sum. A model
needs its weights (no part is offloaded) and the larger peak of two phases: one denoiser call for both guidance
branches, or decoding, a few frames at a time. Not counted: the workspace of convolution libraries, fragmentation and
the framework itself, about 1 GiB in all on a GPU.
"""

import argparse
import contextlib
import gzip
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from videocrafter.checkpoints.official.meta_networks import build_networks
from videocrafter.checkpoints.official.official_model import OfficialModel, official_model_from_shapes
from videocrafter.diffusion.schedule import signal_scale
from videocrafter.models.autoencoder import decode_video
from videocrafter.models.unet import VideoUNet
from videocrafter.presets import PRESETS, ModelPreset
from videocrafter.training.planning.meter import Meter, tensors_of

KEYS = Path(__file__).parents[1] / "tests" / "golden" / "data" / "official_keys.json.gz"
VARIANTS = {
    "t2v-512": "t2v_512_v1",
    "t2v-512-early": "t2v_512_v1_early",
    "t2v-1024": "t2v_1024_v1",
    "i2v-512": "i2v_512_v1",
    "vc2-t2v-512": "t2v_512_v2",
    "t2v-256": "t2v_512_v2",  # the same network for smaller videos
}
BRANCHES = 2


def model_of(preset: ModelPreset) -> OfficialModel:
    """Return the configs of a preset's networks, detected from the keys of its checkpoint."""
    keys = json.loads(gzip.decompress(KEYS.read_bytes()))[VARIANTS[preset.name]]
    shapes = {key: tuple(shape) for key, (shape, _) in keys.items()}
    length = shapes.get("scale_arr", (0,))[0]
    scale = signal_scale(preset.signal_scale or 0.7, length).float() if length else None
    return official_model_from_shapes(shapes, scale)


def peak_bytes(network: nn.Module, call: Callable[[], Tensor]) -> int:
    """Return the peak memory of one call of a network: activations and result, without the weights."""
    with torch.inference_mode(), Meter(tensors_of([network])) as count:
        call()
    return count.peak


def estimate(preset: ModelPreset, num_frames: int, height: int, width: int, dtype: torch.dtype) -> dict[str, int]:
    """Return the bytes of the weights, of one denoiser call, of decoding, and in total."""
    model = model_of(preset)
    num_parameters = {name: _size(part) for name, part in build_networks(model).items()}
    with FakeTensorMode(), _quiet():
        unet, vae = _fake(VideoUNet, model.unet, dtype), _fake(AutoencoderKL, model.vae, dtype)
        latents = torch.empty(BRANCHES, 4, num_frames, height // 8, width // 8, dtype=dtype)
        conditions = {"fps_B": torch.full((BRANCHES,), 8.0)}
        if model.image_projector is not None:
            conditions["image_BMD"] = torch.empty(BRANCHES, 16, 1024, dtype=dtype)
        text, timesteps = torch.empty(BRANCHES, 77, 1024, dtype=dtype), torch.full((BRANCHES,), 500)
        denoising = peak_bytes(unet, lambda: unet(latents, timesteps, text, **conditions))
        decoding = peak_bytes(vae, lambda: decode_video(vae, latents[:1]))
    weights = sum(num_parameters.values()) * dtype.itemsize
    return {
        "parameters": sum(num_parameters.values()),
        "weights": weights,
        "denoising": denoising,
        "decoding": decoding,
        "all": weights + max(denoising, decoding),
    }


def _fake(part: type[nn.Module], config: Mapping[str, Any], dtype: torch.dtype) -> Any:
    usual = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        return part(**config).eval()
    finally:
        torch.set_default_dtype(usual)


def _size(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def main() -> None:
    """Print one row of the table per model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("presets", nargs="*", default=list(VARIANTS), help="default: all official models")
    parser.add_argument("--frames", type=int)
    parser.add_argument("--height", type=int)
    parser.add_argument("--width", type=int)
    parser.add_argument("--dtype", default="bfloat16", choices=("bfloat16", "float16", "float32"))
    given = parser.parse_args()
    print("| model | video | parameters | weights | one denoiser call | decoding | total |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for name in given.presets:
        preset = PRESETS[name]
        num_frames = given.frames or preset.defaults["num_frames"]
        height, width = given.height or preset.defaults["height"], given.width or preset.defaults["width"]
        found = estimate(preset, num_frames, height, width, getattr(torch, given.dtype))
        parts = " | ".join(f"{found[key] / 2**30:.2f} GiB" for key in ("weights", "denoising", "decoding", "all"))
        print(
            f"| `{name}` | {width} × {height}, {num_frames} frames | {found['parameters'] / 1e6:,.1f} M | {parts} |"
        )
        print(f"<!-- {name}: num_parameters={found['parameters']:_}, memory_bytes={found['all']:_} -->")


if __name__ == "__main__":
    main()

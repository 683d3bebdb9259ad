"""Count the operations of a generation on the meta device, where networks need no weights."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch.utils.flop_counter import FlopCounterMode

from videocrafter.models.autoencoder import decode_video
from videocrafter.models.unet import VideoUNet
from videocrafter.pipelines.generation_memory import Workload, pixels_per_latent
from videocrafter.pipelines.sampling_settings import SamplingSettings

_TEXT_TOKENS, _IMAGE_TOKENS = 77, 16


@dataclass(frozen=True, kw_only=True)
class Operations:
    """Floating-point operations of one batch; a multiply-add counts as two.

    Attributes:
        guided: one denoising step with all branches of guidance.
        apart: the same with one call per branch.
        unguided: one step without guidance.
        decoding: all frames.
        guided_steps, unguided_steps: numbers of these steps.
        calls: branches of a guided step.
    """

    guided: int
    apart: int
    unguided: int
    decoding: int
    guided_steps: int
    unguided_steps: int
    calls: int

    def total(self, *, branches_apart: bool) -> int:
        """Return the operations of the whole batch."""
        guided = self.apart if branches_apart else self.guided
        return self.guided_steps * guided + self.unguided_steps * self.unguided + self.decoding

    def passes(self, *, branches_apart: bool) -> int:
        """Return how often the denoiser is called."""
        return self.guided_steps * (self.calls if branches_apart else 1) + self.unguided_steps


def count_operations(
    unet: Mapping[str, Any], vae: Mapping[str, Any], workload: Workload, sampling: SamplingSettings
) -> Operations:
    """Count the operations of a workload for networks with these configs.

    Windows of long videos overlap by half. Encoding the prompt and temporal guidance are left out.
    """
    with torch.device("meta"):
        denoiser, decoder = (
            network(**{name: value for name, value in config.items() if not name.startswith("_")}).eval()
            for network, config in ((VideoUNet, unet), (AutoencoderKL, vae))
        )
    factor = pixels_per_latent(vae)
    size = (workload.height // factor, workload.width // factor)
    one = _denoiser_operations(denoiser, workload, size, 1)
    guided = one if workload.branches == 1 else _denoiser_operations(denoiser, workload, size, workload.branches)
    total = sampling.num_inference_steps
    acting = sum(sampling.acts_at(index / total) for index in range(total)) if workload.branches > 1 else 0
    frame = torch.empty(1, unet["in_channels"], 1, *size, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        decode_video(decoder, frame)
    return Operations(
        guided=guided,
        apart=workload.branches * one,
        unguided=one,
        decoding=counter.get_total_flops() * workload.num_videos * workload.num_frames,
        guided_steps=acting,
        unguided_steps=total - acting,
        calls=workload.branches,
    )


def _denoiser_operations(network: VideoUNet, workload: Workload, size: tuple[int, int], branches: int) -> int:
    config, videos = network.config, workload.num_videos
    frames = min(workload.num_frames, workload.window or workload.num_frames)
    windows = 1 + math.ceil((workload.num_frames - frames) / max(1, frames // 2))
    latents = torch.empty(videos, config["in_channels"], frames, *size, device="meta")
    rows, width = videos * branches, config["context_dim"]
    text = torch.empty(rows, _TEXT_TOKENS, width, device="meta")
    image = torch.empty(rows, _IMAGE_TOKENS, width, device="meta") if config["image_cross_attention"] else None
    values = torch.ones(videos, device="meta")
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(latents, values, text, values, image)
    return windows * counter.get_total_flops()

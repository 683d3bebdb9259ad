"""One random generator per video, so that a video does not depend on what else is in its batch.

Generators live on the CPU: the same seed then gives the same noise on every device.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_SEED_LIMIT = 2**63
# From pure noise, an eta of 1 replaces all noise: DDIM takes the root of a difference that is 0 but for
# rounding, and often just below. A hair under 1 the difference is positive, and the video is the same.
_LARGEST_ETA_FROM_PURE_NOISE = 1.0 - 2.0**-20
_NEARLY_PURE_NOISE = 1e-6  # of alpha_bar; at 2^-24 the rounding is the same


def make_generators(
    seeds: int | Sequence[int] | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    num_prompts: int,
    num_videos_per_prompt: int,
) -> tuple[tuple[int | None, ...], tuple[torch.Generator, ...]]:
    """Return one seed and one generator per video (all videos of the first prompt first).

    One integer s gives the i-th video of every prompt the seed s + i: a prompt's videos are the same whatever
    prompts stand beside it. A list gives each video its own. None draws seeds from `generator`, or from
    torch's global one. A list of generators, one per video, is used as it is, and the seeds are None.

    Raises:
        ValueError: both are given, a wrong number of them, or a seed outside 0 ... 2**63 - 1.
    """
    num_videos = num_prompts * num_videos_per_prompt
    if seeds is not None and generator is not None:
        raise ValueError("give seeds or generator, not both")
    if isinstance(generator, Sequence):
        if len(generator) != num_videos:
            raise ValueError(f"give one generator per video: {num_videos}, but there are {len(generator)}")
        return (None,) * num_videos, tuple(generator)
    if seeds is None:
        drawn = torch.randint(2**32, (num_videos,), generator=generator, device=_device_of(generator)).tolist()
        seeds = [int(seed) for seed in drawn]
    elif isinstance(seeds, int):
        seeds = [seeds + index for _ in range(num_prompts) for index in range(num_videos_per_prompt)]
    if len(seeds) != num_videos:
        raise ValueError(f"give one seed, or one per video: {num_videos}, but there are {len(seeds)}")
    for seed in seeds:
        if not 0 <= seed < _SEED_LIMIT:
            raise ValueError(f"a seed must lie in 0 ... 2**63 - 1, but is {seed}")
    return tuple(seeds), tuple(torch.Generator().manual_seed(seed) for seed in seeds)


def _device_of(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def draw_noise(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal noise, [len(generators), *shape], float32: each video from its own generator."""
    return torch.stack([torch.randn(*shape, generator=one, device=one.device).cpu() for one in generators])


def takes_eta(scheduler: Any) -> bool:
    """Whether a scheduler's amount of fresh noise is set by eta (DDIM and its kin)."""
    return "eta" in inspect.signature(scheduler.step).parameters


def step_arguments(scheduler: Any, generators: Sequence[torch.Generator], eta: float) -> dict[str, Any]:
    """Arguments of `scheduler.step` that make its own noise, if it adds any, per video.

    diffusers' schedulers draw through one function that takes a list of generators, one per sample. The
    exception is the Brownian-tree sampler, which wants integer seeds before its first step and gets them
    here. Call it after `set_timesteps`.
    """
    arguments: dict[str, Any] = {}
    if takes_eta(scheduler):
        ends_in_noise = float(scheduler.alphas_cumprod[-1]) < _NEARLY_PURE_NOISE
        arguments["eta"] = min(eta, _LARGEST_ETA_FROM_PURE_NOISE) if ends_in_noise else eta
    if "generator" in inspect.signature(scheduler.step).parameters:
        arguments["generator"] = list(generators)
    if hasattr(scheduler, "noise_sampler_seed"):
        scheduler.noise_sampler = None
        scheduler.noise_sampler_seed = [
            int(torch.randint(_SEED_LIMIT - 1, (), generator=one, device=one.device)) for one in generators
        ]
    return arguments

"""One random generator per video, so that a video does not depend on its batch.

Generators live on the CPU: the same seed then gives the same noise on every device.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from videocrafter.pipelines.plain_numbers import listed, whole_number

_SEED_LIMIT = 2**63
# From pure noise, an eta of 1 replaces all noise: DDIM takes the root of a difference that is 0 except for rounding,
# which often makes it negative. With an eta just below 1 the difference is positive, and the video is the same.
_LARGEST_ETA_FROM_PURE_NOISE = 1.0 - 2.0**-20
_NEARLY_PURE_NOISE = 1e-6  # of alpha_bar; at 2^-24 the rounding is the same


def make_generators(
    seeds: int | Sequence[int] | None,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    num_prompts: int,
    num_videos_per_prompt: int,
) -> tuple[tuple[int | None, ...], tuple[torch.Generator, ...]]:
    """Return one seed and one generator per video (all videos of the first prompt first).

    One integer s gives the i-th video of every prompt the seed s + i, so that a prompt's videos do not depend on the
    other prompts. A list has one seed per video. None draws seeds from `generator`, or from torch's global one. A
    list of generators, one per video, is used as it is, and the seeds are None.

    Raises:
        ValueError: both are given, their number or type is wrong, or a seed is not between 0 and 2**63 - 1.
    """
    num_videos = num_prompts * num_videos_per_prompt
    if seeds is not None and generator is not None:
        raise ValueError("seeds and generator cannot be combined; pass one of them")
    several = list(generator) if isinstance(generator, Sequence) else [] if generator is None else [generator]
    if not all(isinstance(one, torch.Generator) for one in several):
        raise ValueError(f"generator must be a torch.Generator, or a list with one per video, but is {generator!r}")
    if isinstance(generator, Sequence):
        if len(several) != num_videos:
            raise ValueError(f"generator has {len(several)} entries for {num_videos} videos; pass one per video")
        return (None,) * num_videos, tuple(several)
    given = listed(seeds)
    if given is None:
        given = torch.randint(2**32, (num_videos,), generator=generator, device=_device_of(generator)).tolist()
    elif not isinstance(given, list):
        first = whole_number("seeds", given)
        given = [first + index for _ in range(num_prompts) for index in range(num_videos_per_prompt)]
    if len(given) != num_videos:
        raise ValueError(f"seeds has {len(given)} entries for {num_videos} videos; pass one seed, or one per video")
    numbers = tuple(whole_number("seeds", seed) for seed in given)
    for seed in numbers:
        if not 0 <= seed < _SEED_LIMIT:
            raise ValueError(f"seeds must be between 0 and 2**63 - 1, but one is {seed}")
    return numbers, tuple(torch.Generator().manual_seed(seed) for seed in numbers)


def _device_of(generator: torch.Generator | None) -> torch.device:
    return torch.device("cpu") if generator is None else generator.device


def draw_noise(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    """Draw standard normal noise, [len(generators), *shape], float32: each video from its own generator."""
    return torch.stack([torch.randn(*shape, generator=one, device=one.device).cpu() for one in generators])


def takes_eta(scheduler: Any) -> bool:
    """Return whether a scheduler has the setting eta, the share of fresh noise (DDIM and its variants)."""
    return "eta" in inspect.signature(scheduler.step).parameters


def step_arguments(scheduler: Any, generators: Sequence[torch.Generator], eta: float) -> dict[str, Any]:
    """Return the arguments of `scheduler.step` that let it draw its noise, if any, per video.

    diffusers' schedulers draw through a function that takes a list of generators, one per sample. The exception is
    the Brownian-tree sampler, which needs integer seeds before its first step; they are set here. Call this after
    `set_timesteps`.
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

"""Outputs of the official implementation at miniature size, and the generator of its weights and inputs.

A variant has two files: `VARIANT.json` (config, keys with shapes, sizes, seed, sampler runs) and
`VARIANT.safetensors` (outputs of the official code). Weights and most inputs are random draws determined by the seed
and a name, so they are not stored.
"""

import json
import math
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

DATA = Path(__file__).parent / "data"
VARIANTS = ("t2v_512_v1", "t2v_512_v1_early", "t2v_1024_v1", "t2v_512_v2", "i2v_512_v1")
"""`t2v_512_v1_early` was first published as t2v_512_v1; `t2v_512_v2` is VideoCrafter2."""


def variants_in(folder: Path) -> list[str]:
    """Return the names of the variants in a folder."""
    return sorted(path.stem for path in folder.glob("*.json") if path.with_suffix(".safetensors").is_file())


class OfficialNumbers:
    """Config, weights, inputs and expected outputs of one variant."""

    def __init__(self, variant: str, folder: Path = DATA) -> None:
        self.variant = variant
        spec = json.loads((folder / f"{variant}.json").read_text(encoding="utf-8"))
        self.shapes: dict[str, tuple[int, ...]] = {key: tuple(shape) for key, shape in spec["keys"].items()}
        self.ddim_runs: list[dict[str, Any]] = spec["cases"]
        self.dims: dict[str, Any] = spec["dims"]
        self.expected = load_file(folder / f"{variant}.safetensors")
        self._official_config: dict[str, Any] = spec["official_config"]
        self._seed = spec["seed"]

    @property
    def config(self) -> dict[str, Any]:
        """The official config with the widths of attention heads, which it does not contain."""
        clip, config = self.dims["clip"], self._official_config
        arch = {"text_cfg": {"heads": clip["t_heads"]}, "vision_cfg": {"head_width": clip["v_head"]}}
        text = config["cond_stage_config"]
        return {
            **config,
            "cond_stage_config": {**text, "params": {**text["params"], "arch": arch}},
            "image_proj_stage_config": {"params": {"dim_head": self.dims["resampler"]["dim_head"]}},
        }

    @property
    def scale(self) -> float:
        """The signal scale; 0.3 is the official default."""
        return self._official_config.get("scale_b", 0.3) if self._official_config["use_scale"] else 1.0

    def draw(self, name: str, shape: Sequence[int]) -> Tensor:
        state = np.random.RandomState(zlib.crc32(f"{self._seed}:{name}".encode()))
        return torch.from_numpy(np.asarray(state.standard_normal(tuple(shape)), dtype=np.float32))

    def state_dict(self) -> dict[str, Tensor]:
        """Return the official checkpoint with all its keys."""
        buffers = schedule_buffers(self.scale)
        return {
            key: self._weight(key, shape) if "." in key else buffers[key][: shape[0]]
            for key, shape in self.shapes.items()
        }

    def _weight(self, key: str, shape: tuple[int, ...]) -> Tensor:
        if not shape:
            return torch.tensor(math.log(1 / 0.07))
        drawn = self.draw(key, shape)
        if len(shape) >= 2:
            return drawn / float(np.sqrt(np.prod(shape[1:])))
        return 1 + 0.1 * drawn if key.endswith("weight") else 0.1 * drawn


def schedule_buffers(scale: float) -> dict[str, Tensor]:
    """Return the noise schedule's buffers, computed step by step; `scale_arr` has its maximum length."""
    betas = [(math.sqrt(0.00085) + (math.sqrt(0.012) - math.sqrt(0.00085)) * step / 999) ** 2 for step in range(1000)]
    buffers: dict[str, list[float]] = {}
    product = 1.0
    for beta in betas:
        before, product = product, product * (1 - beta)
        variance = beta * (1 - before) / (1 - product)
        values = {
            "betas": beta,
            "alphas_cumprod": product,
            "alphas_cumprod_prev": before,
            "sqrt_alphas_cumprod": math.sqrt(product),
            "sqrt_one_minus_alphas_cumprod": math.sqrt(1 - product),
            "log_one_minus_alphas_cumprod": math.log(1 - product),
            "sqrt_recip_alphas_cumprod": math.sqrt(1 / product),
            "sqrt_recipm1_alphas_cumprod": math.sqrt(1 / product - 1),
            "posterior_variance": variance,
            "posterior_log_variance_clipped": math.log(max(variance, 1e-20)),
            "posterior_mean_coef1": beta * math.sqrt(before) / (1 - product),
            "posterior_mean_coef2": (1 - before) * math.sqrt(1 - beta) / (1 - product),
        }
        for name, value in values.items():
            buffers.setdefault(name, []).append(value)
    buffers["scale_arr"] = [1 + (scale - 1) * min(step, 399) / 399 for step in range(1400)]
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in buffers.items()}

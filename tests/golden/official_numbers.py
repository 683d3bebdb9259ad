"""Numbers of the official implementation at miniature size, and the rule behind their weights."""

import json
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
"""`_early` is what the name t2v_512_v1 meant at first; `t2v_512_v2` is VideoCrafter2."""


class OfficialNumbers:
    """The config, the weights, the inputs and the expected outputs of one variant."""

    def __init__(self, variant: str) -> None:
        self.variant = variant
        spec = json.loads((DATA / f"{variant}.json").read_text(encoding="utf-8"))
        self.config: dict[str, Any] = spec["official_config"]
        self.shapes: dict[str, list[int]] = spec["keys"]
        self.ddim_runs: list[dict[str, Any]] = spec["cases"]
        self.latent_size: list[int] = spec["dims"]["latent"]
        self.expected = load_file(DATA / f"{variant}.safetensors")
        self._seed = spec["seed"]

    @property
    def unet_params(self) -> dict[str, Any]:
        return self.config["unet_config"]["params"]

    @property
    def scale(self) -> float:
        """The signal scale; the official code takes 0.3 when a config names none."""
        return self.config.get("scale_b", 0.3) if self.config["use_scale"] else 1.0

    def draw(self, name: str, shape: Sequence[int]) -> Tensor:
        state = np.random.RandomState(zlib.crc32(f"{self._seed}:{name}".encode()))
        return torch.from_numpy(state.standard_normal(tuple(shape)).astype(np.float32))

    def weights(self, prefix: str) -> dict[str, Tensor]:
        """Every weight under a prefix of the official checkpoint, by its full key."""
        return {key: self._weight(key) for key in self.shapes if key.startswith(prefix)}

    def _weight(self, key: str) -> Tensor:
        shape = self.shapes[key]
        drawn = self.draw(key, shape)
        if len(shape) >= 2:
            return drawn / float(np.sqrt(np.prod(shape[1:])))
        return 1 + 0.1 * drawn if key.endswith("weight") else 0.1 * drawn


def relative_error(got: Tensor, wanted: Tensor) -> float:
    """The largest difference in units of the standard deviation of what is wanted."""
    return ((got - wanted).abs().max() / wanted.std()).item()

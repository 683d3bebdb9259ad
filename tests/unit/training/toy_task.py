"""A task that trains in milliseconds and uses everything that a real task may use.

It has dropout, buffers, a frozen network and explicit randomness, and draws from every global generator.
"""

from __future__ import annotations

import errno
import random
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from videocrafter.training.registry import register


@dataclass(frozen=True, kw_only=True)
class ToyTaskConfig:
    width: int = 8
    seconds_per_step: float = 0.0
    nan_at_step: int | None = None
    nan_until_step: int | None = None
    bytes_in_pipeline: int = 0
    disk_is_full: bool = False

    def validation_metrics(self) -> list[str]:
        return ["mean"]


class ToyNet(nn.Sequential):
    _no_split_modules = ("Linear",)

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(4, width), nn.BatchNorm1d(width), nn.Dropout(0.5), nn.GELU(), nn.Linear(width, 2))


class ToyTask:
    shardable_modules = ("net",)

    def __init__(
        self, config: ToyTaskConfig, start: Path | None, seed: int, stage_index: int, device: torch.device
    ) -> None:
        self.config, self.seed, self.stage_index, self.device = config, seed, stage_index, device
        self.net = ToyNet(config.width).to(device)
        self.frozen = nn.Linear(2, 2).to(device).requires_grad_(False)
        if start is not None:
            self.net.load_state_dict(torch.load(start / "net.pt", weights_only=True))

    def modules(self) -> dict[str, nn.Module]:
        return {"net": self.net, "frozen": self.frozen}

    def trainable_parameters(self) -> list[nn.Parameter]:
        return list(self.net.parameters())

    def batch(self, step: int, micro_step: int = 0) -> tuple[int, Tensor]:
        key = (self.seed * 1000 + self.stage_index) * 1_000_003 + step * 101 + micro_step
        return step, torch.randn(6, 4, generator=torch.Generator().manual_seed(key)).to(self.device)

    def loss(self, batch: tuple[int, Tensor], generator: torch.Generator) -> tuple[Tensor, dict[str, float | Tensor]]:
        step, inputs = batch
        if self.config.seconds_per_step:
            time.sleep(self.config.seconds_per_step)
        noise = torch.randn(inputs.shape, generator=generator, device=self.device)
        jitter = random.random() + float(np.random.rand())
        predicted = self.frozen(self.net(inputs + 0.1 * noise))
        loss = (predicted - inputs[:, :2] * jitter).square().mean()
        first = self.config.nan_at_step
        if first is not None and first <= step <= (self.config.nan_until_step or first):
            loss = loss * float("nan")
        return loss, {"jitter": jitter, "predicted": predicted.mean()}

    def names(self, batch: tuple[int, Tensor]) -> list[str]:
        return [f"row {row} of step {batch[0]}" for row in range(len(batch[1]))]

    def num_samples(self, batch: tuple[int, Tensor]) -> int:
        return len(batch[1])

    def validate(self) -> dict[str, float]:
        inputs = torch.randn(16, 4, device=self.device)
        return {"mean": float(self.net(inputs).mean())}

    def write_samples(self, folder: Path) -> None:
        self.net(torch.zeros(1, 4, device=self.device))
        total = self.net.state_dict()["0.weight"].sum()
        if type(total) is not Tensor:
            total = total.full_tensor()
        (folder / "sheet.txt").write_text(str(total.item()))

    def save_pipeline(self, folder: Path) -> None:
        if self.config.disk_is_full:
            raise OSError(errno.ENOSPC, "No space left on device", str(folder))
        torch.save(self.net.state_dict(), folder / "net.pt")
        if self.config.bytes_in_pipeline:
            (folder / "ballast.bin").write_bytes(b"x" * self.config.bytes_in_pipeline)


register(ToyTaskConfig, ToyTask)

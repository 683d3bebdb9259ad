"""Variants of the training step of a recipe's stage: the real loop and task, with random weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal
from unittest import mock

import torch
from torch import Tensor, nn

from benchmarks.turns import Readings
from videocrafter.models import attention
from videocrafter.training.config import StageConfig
from videocrafter.training.interruption import StopRequest
from videocrafter.training.loop import StageLoop
from videocrafter.training.miniature.autoencoder import AutoencoderTask, AutoencoderTaskConfig
from videocrafter.training.miniature.diffusion import VideoDiffusionTask
from videocrafter.training.miniature.diffusion_config import VideoDiffusionTaskConfig
from videocrafter.training.miniature.towers import ContrastiveTask, ContrastiveTaskConfig
from videocrafter.training.optim.ema import ExponentialMovingAverage
from videocrafter.training.optim.guard import StepGuard
from videocrafter.training.optim.optimizer import StageOptimizer
from videocrafter.training.parallel.precision import ChosenPrecision
from videocrafter.training.parallel.processes import Processes
from videocrafter.training.recipes.by_name import RECIPES
from videocrafter.training.saving.checkpoint import Checkpoints
from videocrafter.training.saving.run_folder import RunFolder
from videocrafter.training.saving.state import MetricWindow, TrainingState, trained_parameters

# Number of batches that variants with cached latents keep.
_KEPT_BATCHES = 2

_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to compute the step.

    Attributes:
        precision: precision of the forward pass.
        channels_last: memory layout of the network's weights and inputs.
        attention: unfused, torch's fused function, or as the package chooses.
        keeps_latents: train on clips encoded beforehand; otherwise render and encode every clip in the step.
        compiles: run the network through torch.compile.
    """

    precision: ChosenPrecision = "fp32"
    channels_last: bool = True
    attention: Literal["as shipped", "explicit", "sdpa"] = "as shipped"
    keeps_latents: bool = True
    compiles: bool = False


BASELINE = "baseline"
PLAIN = "plain"
"""The plain loop of `plain_loop.py`, which is not a variant of this step."""

CHANGES: dict[str, dict[str, object]] = {
    BASELINE: {},
    "again": {},
    "bf16": {"precision": "bf16"},
    "contiguous": {"channels_last": False},
    "explicit": {"attention": "explicit"},
    "sdpa": {"attention": "sdpa"},
    "encode": {"keeps_latents": False},
    "compile": {"compiles": True},
}
"""The changes that each word in a variant's name stands for; "again" has none and shows the noise."""


def variant(name: str) -> Variant:
    """Return the variant named by words of CHANGES, such as "bf16" or "bf16+sdpa".

    Raises:
        ValueError: a word is unknown.
    """
    chosen = Variant()
    for word in name.split("+"):
        if word not in CHANGES:
            raise ValueError(f"unknown variant {word!r}; use {PLAIN}, or words joined by +: {', '.join(CHANGES)}")
        chosen = replace(chosen, **CHANGES[word])  # type: ignore[arg-type]
    return chosen


def measured_stage(parts: str, *, smoke: bool, name: str = "high") -> StageConfig:
    """Return a stage of `tiny-t2v` (or of `smoke`, at toy size), with clips only, so that all samples cost the same.

    Args:
        parts: folder or name of a model with `vae/`, `tokenizer/` and `text_encoder/`.
    """
    stages = RECIPES["smoke" if smoke else "tiny-t2v"]().stages
    stage = next(stage for stage in stages if stage.name == name)
    assert isinstance(stage.task, VideoDiffusionTaskConfig)
    task = replace(stage.task, autoencoder=parts, towers=parts, image_share=0.0)
    return replace(stage, task=task)


def save_random_parts(folder: Path) -> str:
    """Write an untrained autoencoder and untrained CLIP encoders of the recipes' sizes; return the folder."""
    autoencoder, towers = (RECIPES[name]().stages[-1].task for name in ("tiny-vae", "tiny-clip"))
    assert isinstance(autoencoder, AutoencoderTaskConfig)
    assert isinstance(towers, ContrastiveTaskConfig)
    untrained = replace(autoencoder, num_validation=4, perceptual_weight=0.0)
    AutoencoderTask(untrained, None, 0, 0, _CPU).save_pipeline(folder)
    ContrastiveTask(towers, None, 0, 0, _CPU).save_pipeline(folder)
    return str(folder)


class TrainingStep:
    """A variant, ready to train.

    Args:
        folder: folder for the loop's files; nothing is written.
        processes: processes that share each step.
    """

    def __init__(self, stage: StageConfig, chosen: Variant, folder: Path, processes: Processes) -> None:
        self.variant = chosen
        task = self._build_task(stage)
        parameters = trained_parameters(task)
        self._state = TrainingState(
            stage=stage.name,
            device=_CPU,
            modules=task.modules(),
            optimizer=StageOptimizer(stage.optimizer, task.modules(), parameters, processes),
            ema=ExponentialMovingAverage(parameters, stage.ema_decay),
            precision=chosen.precision,
            window=MetricWindow(),
            guard=StepGuard(stage.guard, stage.name),
        )
        self._loop = StageLoop(
            stage=stage,
            seed=0,
            task=task,
            state=self._state,
            checkpoints=Checkpoints(folder, stage.name, stage.keep_checkpoints),
            folder=RunFolder(folder),
            log=None,
            progress=None,
            stop=StopRequest(),
            processes=processes,
        )

    def _build_task(self, stage: StageConfig) -> VideoDiffusionTask:
        config = stage.task
        assert isinstance(config, VideoDiffusionTaskConfig)
        if self.variant.keeps_latents:
            config = replace(config, num_clips=_KEPT_BATCHES * config.batch_size)
        torch.manual_seed(0)
        task = VideoDiffusionTask.build(config, None, seed=0, stage_index=0, device=_CPU)
        if self.variant.keeps_latents:
            task.clips.clips(list(range(task.clips.num_blocks)))
        if not self.variant.channels_last:
            task.unet.to(memory_format=torch.contiguous_format)
            # The network converts its input to channels_last; after the first layer, layouts follow the input's.
            task.unet.conv_in.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))
        if self.variant.compiles:
            task.unet.compile()
        task.unet.train()
        return task

    @property
    def data_wait_share(self) -> float:
        """Share of the time of all steps so far that was spent waiting for batches, as in the log of a run."""
        return self._loop._data_wait / self._state.seconds

    def run(self, steps: int) -> Readings:
        """Take optimizer steps and return the samples per second of all processes."""
        state = self._state
        samples, seconds = state.num_samples, state.seconds
        with attention_computed(self.variant.attention):
            for _ in range(steps):
                # The loop's own step; the public `run` also saves.
                self._loop._train_step()
        return {"samples/s": (state.num_samples - samples) / (state.seconds - seconds)}


@contextmanager
def attention_computed(how: Literal["as shipped", "explicit", "sdpa"]) -> Iterator[None]:
    """Within this context, compute attention in this way; attention with relative positions is always unfused."""
    replacements = {"as shipped": attention.attend, "explicit": _explicit, "sdpa": _fused}
    with mock.patch.object(attention, "attend", replacements[how]):
        yield


def _explicit(q: Tensor, k: Tensor, v: Tensor, backend: str | None = None) -> Tensor:
    return attention.attend_unfused(q, k, v)


def _fused(q: Tensor, k: Tensor, v: Tensor, backend: str | None = None) -> Tensor:
    return nn.functional.scaled_dot_product_attention(q, k, v)


def default_variants(*, with_compile: bool) -> Sequence[str]:
    """Return the variants that are measured by default."""
    names = [PLAIN, "again", "bf16", "contiguous", "sdpa", "bf16+sdpa", "encode"]
    return [*names, "compile", "bf16+compile"] if with_compile else names

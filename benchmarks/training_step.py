"""The training step of a recipe's stage in variants: the real loop and the real task, on parts of random weights."""

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
from videocrafter.training.loop import StageLoop
from videocrafter.training.miniature.autoencoder import AutoencoderTaskConfig
from videocrafter.training.miniature.diffusion import VideoDiffusionTask, VideoDiffusionTaskConfig
from videocrafter.training.miniature.towers import ContrastiveTaskConfig
from videocrafter.training.optim.ema import ExponentialMovingAverage
from videocrafter.training.optim.guard import StepGuard
from videocrafter.training.optim.optimizer import StageOptimizer
from videocrafter.training.parallel.precision import ChosenPrecision
from videocrafter.training.parallel.processes import Processes
from videocrafter.training.recipes.miniature import RECIPES
from videocrafter.training.saving.checkpoint import Checkpoints
from videocrafter.training.saving.interruption import StopRequest
from videocrafter.training.saving.state import MetricWindow, TrainingState, trained_parameters

# So many batches of clips are kept by the variants that train from kept latents.
_KEPT_BATCHES = 2

_CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to compute the same step.

    Attributes:
        precision: of the forward pass.
        channels_last: layout of the network's weights and of what it is given.
        attention: written out, by torch's fused function, or as the package chooses.
        keeps_latents: trains on clips that were encoded before; else every clip is drawn and encoded first.
        compiles: runs the network through torch.compile.
    """

    precision: ChosenPrecision = "fp32"
    channels_last: bool = True
    attention: Literal["as shipped", "explicit", "sdpa"] = "as shipped"
    keeps_latents: bool = True
    compiles: bool = False


BASELINE = "baseline"
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
"""What each word in a variant's name changes; "again" changes nothing and so shows the noise of the measurement."""


def variant(name: str) -> Variant:
    """The variant called by words of CHANGES, such as "bf16" or "bf16+sdpa".

    Raises:
        ValueError: an unknown word.
    """
    chosen = Variant()
    for word in name.split("+"):
        if word not in CHANGES:
            raise ValueError(f"unknown variant {word!r}; allowed are {', '.join(CHANGES)}, joined by +")
        chosen = replace(chosen, **CHANGES[word])  # type: ignore[arg-type]
    return chosen


def measured_stage(parts: str, *, smoke: bool, name: str = "high") -> StageConfig:
    """A stage of `tiny-t2v` (of `smoke`: the same at toy size), with clips only, so that samples are alike.

    Args:
        parts: folder or name of a model with `vae/`, `tokenizer/` and `text_encoder/`.
        name: of the stage.
    """
    stages = RECIPES["smoke" if smoke else "tiny-t2v"]().stages
    stage = next(stage for stage in stages if stage.name == name)
    assert isinstance(stage.task, VideoDiffusionTaskConfig)
    task = replace(stage.task, autoencoder=parts, towers=parts, image_share=0.0)
    return replace(stage, task=task)


def save_random_parts(folder: Path) -> str:
    """Write an untrained autoencoder and untrained towers as the recipes build them: as fast as trained ones."""
    AutoencoderTaskConfig(num_validation=4).build(None, 0, 0, _CPU).save_pipeline(folder)
    ContrastiveTaskConfig().build(None, 0, 0, _CPU).save_pipeline(folder)
    return str(folder)


class TrainingStep:
    """A variant, ready to be trained on.

    Args:
        folder: for the loop's files; nothing is written.
        processes: that share each step.
    """

    def __init__(self, stage: StageConfig, chosen: Variant, folder: Path, processes: Processes) -> None:
        self.variant = chosen
        task = self._build_task(stage)
        parameters = trained_parameters(task)
        state = TrainingState(
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
            parameters=parameters,
            state=state,
            checkpoints=Checkpoints(folder, stage.name, stage.keep_checkpoints),
            sample_folder=folder,
            bad_batches=folder / "bad_batches.jsonl",
            tracker=None,
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
        task = config.build(None, seed=0, stage_index=0, device=_CPU)
        if self.variant.keeps_latents:
            task.clips.clips(list(range(task.clips.num_blocks)))
        if not self.variant.channels_last:
            task.unet.to(memory_format=torch.contiguous_format)
            # The network brings its input into channels_last; after its first layer, layouts follow the input's.
            task.unet.conv_in.register_forward_pre_hook(lambda _, given: (given[0].contiguous(),))
        if self.variant.compiles:
            task.unet.compile()
        task.unet.train()
        return task

    @property
    def num_parameters(self) -> int:
        """Of the network."""
        return sum(parameter.numel() for parameter in self._loop.task.modules()["unet"].parameters())

    @property
    def data_wait_share(self) -> float:
        """The share of all steps so far that was spent on getting batches, as in the log of a run."""
        return self._loop._data_wait / self._loop.state.seconds

    def run(self, steps: int) -> Readings:
        """Take so many optimizer steps; samples per second over all processes."""
        state = self._loop.state
        samples, seconds = state.num_samples, state.seconds
        with attention_computed(self.variant.attention):
            for _ in range(steps):
                # The loop's own step, not a copy of it that could come to differ; the public `run` also saves.
                self._loop._train_step()
        return {"samples/s": (state.num_samples - samples) / (state.seconds - seconds)}


@contextmanager
def attention_computed(how: Literal["as shipped", "explicit", "sdpa"]) -> Iterator[None]:
    """Inside, attention is computed in this way; attention with relative positions is always written out."""
    replacements = {"as shipped": attention.attend, "explicit": _explicit, "sdpa": _fused}
    with mock.patch.object(attention, "attend", replacements[how]):
        yield


def _explicit(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax((q * (q.shape[-1] ** -0.5)) @ k.transpose(-1, -2), dim=-1) @ v


def _fused(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return nn.functional.scaled_dot_product_attention(q, k, v)


def default_variants(*, with_compile: bool) -> Sequence[str]:
    """What is measured unless told otherwise."""
    names = ["again", "bf16", "contiguous", "sdpa", "bf16+sdpa", "encode"]
    return [*names, "compile", "bf16+compile"] if with_compile else names

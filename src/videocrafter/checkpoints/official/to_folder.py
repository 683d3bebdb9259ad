"""From an official checkpoint to a diffusers-style pipeline folder.

First everything is planned and checked: what the checkpoint is, that every tensor has its place and shape, that
there is room. Then tensor after tensor goes from the mapped file into the folder, so that memory holds one of
them at a time. The folder appears when it is complete.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import diffusers
import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from videocrafter.checkpoints.official.checkpoint_file import (
    ORDINARY_WRAPPING,
    CheckpointFileError,
    OfficialFile,
    is_averaged,
    open_checkpoint_file,
    with_averaged_weights,
)
from videocrafter.checkpoints.official.config_file import defaults_from_config, read_official_config
from videocrafter.checkpoints.official.conversion import Conversion, OnProgress
from videocrafter.checkpoints.official.layout import rules
from videocrafter.checkpoints.official.model import OfficialModel
from videocrafter.checkpoints.official.networks import build_networks, check_fits, weights_stem, write_config
from videocrafter.checkpoints.official.recognise import Recognised, recognise
from videocrafter.checkpoints.official.rule import Rule
from videocrafter.checkpoints.tensor_file import PlannedTensor, write_part, write_tensors
from videocrafter.checkpoints.whole_output import check_space, check_target, whole_folder
from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.models.clip_tokenizer import clip_tokenizer
from videocrafter.presets import MODEL_INDEX, PRESETS

EXTRAS_FILE = "official_extras.safetensors"
"""Tensors that no network holds, kept so that the way back gives the same checkpoint."""
EXTRAS_ARE_COMPLETE = "all_unused_tensors"
"""Key in that file's metadata; "no" if some were left out, so that the way back fills them."""

CLIP_VOCABULARY = 49408
_DEFAULT_SCHEDULER = "ddim-official"


@dataclass(frozen=True, kw_only=True)
class FolderPlan:
    """A checkpoint that was looked at and found to fit, and what its folder will hold.

    Attributes:
        source: the opened checkpoint.
        recognised: what it is.
        networks: each part on the meta device, for its config.
        parts: the tensors of each part.
        extras: the tensors kept aside.
        extras_are_complete: whether these are all that no part holds.
        defaults: recommended settings.
        notes: what the user should know.
    """

    source: OfficialFile
    recognised: Recognised
    networks: Mapping[str, nn.Module]
    parts: Mapping[str, tuple[PlannedTensor, ...]]
    extras: tuple[PlannedTensor, ...]
    extras_are_complete: bool
    defaults: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Of all tensors that will be written."""
        return sum(one.num_bytes for one in (*self.extras, *(one for part in self.parts.values() for one in part)))

    @property
    def num_parameters(self) -> dict[str, int]:
        """Of each part."""
        return {part: sum(one.num_elements for one in tensors) for part, tensors in self.parts.items()}


def convert_to_folder(
    source: Path,
    folder: Path,
    *,
    dtype: torch.dtype | None = None,
    config: Path | None = None,
    overwrite: bool = False,
    drop_unused: bool = False,
    averaged: bool = False,
    on_progress: OnProgress | None = None,
) -> Conversion:
    """Convert an official checkpoint; `plan_folder` and `write_folder` in one.

    Raises ValueError and OSError as those two do.
    """
    check_target(folder, folder=True, overwrite=overwrite)
    plan = plan_folder(source, dtype=dtype, config=config, drop_unused=drop_unused, averaged=averaged)
    return write_folder(plan, folder, overwrite=overwrite, on_progress=on_progress)


def plan_folder(
    source: Path,
    *,
    dtype: torch.dtype | None = None,
    config: Path | None = None,
    drop_unused: bool = False,
    averaged: bool = False,
) -> FolderPlan:
    """Open a checkpoint, recognise it, and plan its folder. Writes nothing.

    Args:
        source: `.ckpt`, `.pt`, `.safetensors`, or a DeepSpeed folder.
        dtype: of the networks in the folder; None keeps each tensor's own.
        config: official yaml, for a model of another size than the released ones.
        drop_unused: leave out the tensors that no network holds, except the noise schedule's, which are tiny.
        averaged: take the trainer's averaged weights (`model_ema`) for the denoiser.

    Raises:
        ValueError: the source is damaged, unsafe, something else, or does not fit; one line.
        OSError: it cannot be read.
    """
    opened = open_checkpoint_file(source)
    tree = read_official_config(config) if config is not None else None
    try:
        tensors = with_averaged_weights(opened.tensors) if averaged else dict(opened.tensors)
        recognised = recognise(tensors, tree)
        networks = build_networks(recognised.model)
        parts = {
            part: _plan_part(part, part_rules, tensors, networks[part], dtype)
            for part, part_rules in rules(recognised.model).items()
        }
    except ValueError as error:
        raise CheckpointFileError(f"{source} cannot be converted: {error}") from error
    kept = [key for key in recognised.unused if key in tensors and not (drop_unused and "." in key)]
    extras = tuple(_plan_tensor(key, tensors[key], dtype) for key in kept)
    plan = FolderPlan(
        source=opened,
        recognised=recognised,
        networks=networks,
        parts=parts,
        extras=extras,
        extras_are_complete=len(extras) == len(recognised.unused),
        defaults=_defaults(recognised, tree),
        notes=(),
    )
    return replace(plan, notes=tuple(_notes(plan, averaged, dtype)))


def write_folder(
    plan: FolderPlan, folder: Path, *, overwrite: bool = False, on_progress: OnProgress | None = None
) -> Conversion:
    """Write the folder of a plan: whole, or not at all.

    Raises:
        ValueError: the target is taken, or a value does not fit the wanted precision.
        OSError: the disk has no room, or cannot be written.
    """
    check_target(folder, folder=True, overwrite=overwrite)
    _check_apart(plan.source.path, folder)
    check_space(folder, plan.num_bytes)
    total, written = plan.num_bytes, 0

    def on_bytes(num_bytes: int) -> None:
        nonlocal written
        written += num_bytes
        if on_progress is not None:
            on_progress(written, total)

    tokenizer = clip_tokenizer()
    with whole_folder(folder) as hidden:
        for part, network in plan.networks.items():
            (hidden / part).mkdir()
            write_config(hidden / part, network, plan.parts[part][0].dtype)
            write_part(hidden / part, weights_stem(part), plan.parts[part], on_bytes=on_bytes)
        complete = {EXTRAS_ARE_COMPLETE: "yes" if plan.extras_are_complete else "no"}
        write_tensors(hidden / EXTRAS_FILE, plan.extras, metadata=complete, on_bytes=on_bytes)
        tokenizer.save_pretrained(hidden / "tokenizer")
        scheduler_of(plan.recognised.model).save_pretrained(hidden / "scheduler")
        write_index(hidden, plan.networks, tokenizer, plan.defaults, plan.recognised.model.signal_scale)
    return Conversion(
        path=folder,
        description=plan.recognised.description,
        preset=plan.recognised.preset,
        parts=plan.num_parameters,
        num_kept_aside=len(plan.extras),
        num_bytes=total,
        notes=plan.notes,
    )


def scheduler_of(model: OfficialModel) -> OfficialDDIMScheduler:
    """The official sampler in the variables of the model's signal scale."""
    return OfficialDDIMScheduler(signal_scale=1.0 if model.signal_scale is None else model.signal_scale)


def write_index(
    folder: Path,
    networks: Mapping[str, nn.Module],
    tokenizer: PreTrainedTokenizerBase,
    defaults: Mapping[str, Any],
    signal_scale: float | None,
) -> None:
    """Write the `model_index.json` that makes a folder a pipeline folder."""
    index: dict[str, Any] = {
        "_class_name": "ImageToVideoPipeline" if "image_encoder" in networks else "TextToVideoPipeline",
        "_diffusers_version": diffusers.__version__,
        "defaults": dict(defaults),
        "knowledge": None,
        "scheduler": [OfficialDDIMScheduler.__module__, OfficialDDIMScheduler.__name__],
        "signal_scale": signal_scale,
        "tokenizer": ["transformers", type(tokenizer).__name__],
    }
    for part, network in networks.items():
        module = type(network).__module__
        library = module.split(".")[0]
        index[part] = [module if library == "videocrafter" else library, type(network).__name__]
    text = json.dumps(dict(sorted(index.items())), indent=2) + "\n"
    (folder / MODEL_INDEX).write_text(text, encoding="utf-8")


def _plan_part(
    part: str,
    part_rules: Sequence[Rule],
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    dtype: torch.dtype | None,
) -> tuple[PlannedTensor, ...]:
    """The tensors of a part, checked against what its network expects."""
    planned = tuple(one for rule in part_rules for one in _plan_rule(rule, tensors, dtype))
    check_fits(part, network, {one.name: one.shape for one in planned}, "the checkpoint")
    return planned


def _plan_rule(rule: Rule, tensors: Mapping[str, Tensor], dtype: torch.dtype | None) -> list[PlannedTensor]:
    given = {rule.official: tensors[rule.official]}
    shapes = rule.to_own({rule.official: torch.empty_like(tensors[rule.official], device="meta")})

    def plan(name: str) -> PlannedTensor:
        return PlannedTensor(
            name=name,
            shape=tuple(shapes[name].shape),
            dtype=_target_dtype(shapes[name], dtype),
            load=lambda: rule.to_own(given)[name],
        )

    return [plan(name) for name in rule.own]


def _plan_tensor(key: str, tensor: Tensor, dtype: torch.dtype | None) -> PlannedTensor:
    # The noise schedule is needed in full precision; its keys have no dot.
    wanted = dtype if "." in key else None
    return PlannedTensor(
        name=key, shape=tuple(tensor.shape), dtype=_target_dtype(tensor, wanted), load=lambda: tensor
    )


def _target_dtype(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


def _defaults(recognised: Recognised, tree: Mapping[str, Any] | None) -> dict[str, Any]:
    """Recommended settings: the preset's, or what the config says of sizes, with the official sampling."""
    preset = PRESETS.get(recognised.preset or "")
    settings = dict(preset.defaults) if preset is not None else defaults_from_config(recognised.model, tree)
    return {**settings, "scheduler": _DEFAULT_SCHEDULER}


def _check_apart(source: Path, folder: Path) -> None:
    if folder.exists() and source.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder} holds the checkpoint that is to be converted; choose another name")


def _notes(plan: FolderPlan, averaged: bool, dtype: torch.dtype | None) -> list[str]:
    notes, opened, recognised = [], plan.source, plan.recognised
    if set(opened.wrapping) - {ORDINARY_WRAPPING}:
        notes.append(f"taken off: {', '.join(opened.wrapping)}")
    if opened.num_ignored:
        notes.append(f"{opened.num_ignored} entries that are no tensors were ignored")
    if averaged:
        notes.append("the denoiser is the trainer's average; its plain weights are left out, so the way back differs")
    elif any(is_averaged(key) for key in recognised.unused):
        notes.append("the file also holds averaged weights of the denoiser; take them with --ema")
    if any(_target_dtype(tensor, dtype) != tensor.dtype for key, tensor in opened.tensors.items() if "." in key):
        notes.append(
            f"converted to {str(dtype).removeprefix('torch.')}, so the way back is not identical to the checkpoint"
        )
    if not plan.extras_are_complete:
        notes.append(
            "unused tensors were left out; the way back fills them, so it is not identical to the checkpoint"
        )
    vocabulary = recognised.model.text_encoder["vocab_size"]
    if vocabulary != CLIP_VOCABULARY:
        notes.append(
            f"the text encoder knows {vocabulary} tokens, but tokenizer/ holds CLIP's {CLIP_VOCABULARY}; replace it"
            " by the one that the model was trained with"
        )
    return notes

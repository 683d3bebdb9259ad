"""Convert an official checkpoint to a diffusers-style pipeline folder.

The conversion is planned and checked first: the model, the keys and shapes of all tensors, and the free disk space.
Then tensors are copied one by one from the memory-mapped file, so memory holds one tensor at a time. The folder
appears only when it is complete.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from videocrafter.checkpoints.checkpoint_file import (
    ORDINARY_WRAPPING,
    CheckpointFile,
    open_checkpoint_file,
)
from videocrafter.checkpoints.dtype_names import parse_dtype
from videocrafter.checkpoints.file_content import CheckpointFileError
from videocrafter.checkpoints.model_target import check_target
from videocrafter.checkpoints.official.checkpoint_keys import rules_by_part
from videocrafter.checkpoints.official.config_file import defaults_from_config, read_official_config
from videocrafter.checkpoints.official.conversion import Conversion, OnProgress
from videocrafter.checkpoints.official.detect import DetectedModel, detect_model
from videocrafter.checkpoints.official.ema_weights import is_ema_key, with_ema_weights
from videocrafter.checkpoints.official.key_rules import Rule
from videocrafter.checkpoints.official.meta_networks import build_networks, check_fits, write_config
from videocrafter.checkpoints.official.official_model import OfficialModel
from videocrafter.checkpoints.official.text_keys import VIT_H_14_TEXT
from videocrafter.checkpoints.pipeline_index import write_index
from videocrafter.checkpoints.tensor_file import PlannedTensor, write_part, write_tensors
from videocrafter.checkpoints.weight_files import weights_stem
from videocrafter.diffusion.ddim import OfficialDDIMScheduler
from videocrafter.media.atomic_write import whole_folder
from videocrafter.media.output_checks import check_space
from videocrafter.models.clip_tokenizer import clip_tokenizer
from videocrafter.presets import PRESETS

EXTRAS_FILE = "official_extras.safetensors"
"""File with the tensors that no network uses, kept so that converting back restores the same checkpoint."""
EXTRAS_ARE_COMPLETE = "all_unused_tensors"
"""Key in that file's metadata; "no" if tensors were omitted, so that converting back fills them in."""

_CLIP_VOCABULARY = VIT_H_14_TEXT["vocab_size"]
_DEFAULT_SCHEDULER = "ddim-official"


@dataclass(frozen=True, kw_only=True)
class FolderPlan:
    """A checked checkpoint and the content of the folder to be written.

    Attributes:
        source: the opened checkpoint.
        detected: the model in it.
        networks: each network on the meta device, for its config.
        parts: the tensors of each network.
        extras: the tensors that no network uses and that are kept.
        extras_are_complete: whether `extras` are all tensors that no network uses.
        defaults: recommended settings.
        notes: messages for the user.
    """

    source: CheckpointFile
    detected: DetectedModel
    networks: Mapping[str, nn.Module]
    parts: Mapping[str, tuple[PlannedTensor, ...]]
    extras: tuple[PlannedTensor, ...]
    extras_are_complete: bool
    defaults: Mapping[str, Any]
    notes: tuple[str, ...]

    @property
    def num_bytes(self) -> int:
        """Total size of the tensors to be written."""
        return sum(one.num_bytes for one in (*self.extras, *(one for part in self.parts.values() for one in part)))

    @property
    def num_parameters(self) -> dict[str, int]:
        """Number of parameters of each network."""
        return {part: sum(one.num_elements for one in tensors) for part, tensors in self.parts.items()}


def convert_to_folder(
    source: Path,
    folder: Path,
    *,
    dtype: str | torch.dtype | None = None,
    config: Path | None = None,
    overwrite: bool = False,
    drop_unused: bool = False,
    ema: bool = False,
    on_progress: OnProgress | None = None,
) -> Conversion:
    """Convert an official checkpoint: `plan_pipeline_folder`, then `write_pipeline_folder`, with their errors."""
    check_target(folder, folder=True, overwrite=overwrite)
    plan = plan_pipeline_folder(source, dtype=dtype, config=config, drop_unused=drop_unused, ema=ema)
    return write_pipeline_folder(plan, folder, overwrite=overwrite, on_progress=on_progress)


def plan_pipeline_folder(
    source: Path,
    *,
    dtype: str | torch.dtype | None = None,
    config: Path | None = None,
    drop_unused: bool = False,
    ema: bool = False,
) -> FolderPlan:
    """Open a checkpoint, detect its model and plan its folder. Writes nothing.

    Args:
        source: `.ckpt`, `.pt`, `.safetensors`, or a DeepSpeed folder.
        dtype: dtype of the networks in the folder, or its name; None keeps the dtype of each tensor.
        config: official yaml file, for models whose sizes cannot be read from shapes alone.
        drop_unused: omit the tensors that no network uses, except the small buffers of the noise schedule.
        ema: use the trainer's EMA weights (`model_ema`) for the denoiser.

    Raises:
        ValueError: the source is damaged, unsafe, of another format, or does not match the config; one line.
        OSError: the source cannot be read.
    """
    dtype = None if dtype is None else parse_dtype(dtype)
    opened = open_checkpoint_file(source)
    tree = read_official_config(config) if config is not None else None
    try:
        tensors = with_ema_weights(opened.tensors) if ema else dict(opened.tensors)
        detected = detect_model(tensors, tree)
        networks = build_networks(detected.model)
        parts = {
            part: _plan_part(part, part_rules, tensors, networks[part], dtype)
            for part, part_rules in rules_by_part(detected.model).items()
        }
    except ValueError as error:
        raise CheckpointFileError(f"{source} cannot be converted: {error}") from error
    kept = [key for key in detected.unused if key in tensors and not (drop_unused and "." in key)]
    extras = tuple(_plan_tensor(key, tensors[key], dtype) for key in kept)
    plan = FolderPlan(
        source=opened,
        detected=detected,
        networks=networks,
        parts=parts,
        extras=extras,
        extras_are_complete=len(extras) == len(detected.unused),
        defaults=_defaults(detected, tree),
        notes=(),
    )
    return replace(plan, notes=tuple(_notes(plan, ema, dtype)))


def write_pipeline_folder(
    plan: FolderPlan, folder: Path, *, overwrite: bool = False, on_progress: OnProgress | None = None
) -> Conversion:
    """Write the folder of a plan atomically.

    Raises:
        ValueError: the target exists and may not be replaced, a weight is NaN or infinite, or a value overflows the
            dtype.
        OSError: the disk is full or cannot be written.
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
    with whole_folder(folder, overwrite=overwrite) as hidden:
        for part, network in plan.networks.items():
            (hidden / part).mkdir()
            write_config(hidden / part, network, plan.parts[part][0].dtype)
            write_part(hidden / part, weights_stem(part), plan.parts[part], on_bytes=on_bytes)
        complete = {EXTRAS_ARE_COMPLETE: "yes" if plan.extras_are_complete else "no"}
        write_tensors(hidden / EXTRAS_FILE, plan.extras, metadata=complete, on_bytes=on_bytes)
        tokenizer.save_pretrained(hidden / "tokenizer")
        scheduler = scheduler_of(plan.detected.model)
        scheduler.save_pretrained(hidden / "scheduler")
        write_index(hidden, plan.networks, tokenizer, scheduler, plan.defaults, plan.detected.model.signal_scale)
    return Conversion(
        path=folder,
        description=plan.detected.description,
        preset=plan.detected.preset,
        parts=plan.num_parameters,
        num_extras=len(plan.extras),
        num_bytes=total,
        notes=plan.notes,
    )


def scheduler_of(model: OfficialModel) -> OfficialDDIMScheduler:
    """Return the official DDIM scheduler with the model's signal scale."""
    return OfficialDDIMScheduler(signal_scale=1.0 if model.signal_scale is None else model.signal_scale)


def _plan_part(
    part: str,
    part_rules: Sequence[Rule],
    tensors: Mapping[str, Tensor],
    network: nn.Module,
    dtype: torch.dtype | None,
) -> tuple[PlannedTensor, ...]:
    """Return the tensors of a part after checking them against its network."""
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
            is_weight=True,
        )

    return [plan(name) for name in rule.own]


def _plan_tensor(key: str, tensor: Tensor, dtype: torch.dtype | None) -> PlannedTensor:
    # The noise schedule stays in full precision; its keys have no dot.
    wanted = dtype if "." in key else None
    return PlannedTensor(
        name=key, shape=tuple(tensor.shape), dtype=_target_dtype(tensor, wanted), load=lambda: tensor
    )


def _target_dtype(tensor: Tensor, dtype: torch.dtype | None) -> torch.dtype:
    return dtype if dtype is not None and tensor.is_floating_point() else tensor.dtype


def _defaults(detected: DetectedModel, tree: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the preset's settings, or those of the config, with the official scheduler."""
    preset = PRESETS.get(detected.preset or "")
    settings = dict(preset.defaults) if preset is not None else defaults_from_config(detected.model, tree)
    return {**settings, "scheduler": _DEFAULT_SCHEDULER}


def _check_apart(source: Path, folder: Path) -> None:
    if folder.exists() and source.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"{folder} holds the source checkpoint and cannot be replaced; choose another output folder")


def _notes(plan: FolderPlan, ema: bool, dtype: torch.dtype | None) -> list[str]:
    notes, opened, detected = [], plan.source, plan.detected
    if set(opened.wrapping) - {ORDINARY_WRAPPING}:
        notes.append(f"unwrapped: {', '.join(opened.wrapping)}")
    if opened.num_ignored:
        notes.append(f"ignored {opened.num_ignored} entries that are not tensors")
    if ema:
        notes.append(
            "the denoiser has the EMA weights and its plain weights are omitted, so converting back does not restore"
            " the same checkpoint"
        )
    elif any(is_ema_key(key) for key in detected.unused):
        notes.append("the file also holds EMA weights of the denoiser; use them with --ema")
    if any(_target_dtype(tensor, dtype) != tensor.dtype for key, tensor in opened.tensors.items() if "." in key):
        notes.append(
            f"converted to {str(dtype).removeprefix('torch.')}, so converting back does not restore the same"
            " checkpoint"
        )
    if not plan.extras_are_complete:
        notes.append(
            "unused tensors were omitted; converting back fills them in, so it does not restore the same checkpoint"
        )
    vocabulary = detected.model.text_encoder["vocab_size"]
    if vocabulary != _CLIP_VOCABULARY:
        notes.append(
            f"the text encoder has {vocabulary} tokens, but tokenizer/ holds CLIP's {_CLIP_VOCABULARY}; replace it"
            " with the tokenizer that the model was trained with"
        )
    return notes

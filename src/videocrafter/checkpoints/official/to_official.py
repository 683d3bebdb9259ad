"""Convert a pipeline folder to a checkpoint in the official format.

A folder that was converted from an official checkpoint keeps the tensors that no network uses, so converting back
restores the same checkpoint, tensor by tensor. For a model trained with this package they are filled in: the official
code loads strictly but never uses them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import safe_open
from torch import Tensor, nn

from videocrafter.checkpoints.checkpoint_file import read_safetensors
from videocrafter.checkpoints.file_content import CheckpointFileError
from videocrafter.checkpoints.model_target import check_target
from videocrafter.checkpoints.official.checkpoint_keys import rules_by_part, unused_shapes
from videocrafter.checkpoints.official.conversion import Conversion, OnProgress
from videocrafter.checkpoints.official.detect import describe_model
from videocrafter.checkpoints.official.folder_configs import read_folder_configs
from videocrafter.checkpoints.official.key_rules import Rule
from videocrafter.checkpoints.official.meta_networks import build_networks, check_fits, without_tower
from videocrafter.checkpoints.official.official_model import SIGNAL_SCALE_KEY, OfficialModel
from videocrafter.checkpoints.official.schedule_buffers import schedule_buffers
from videocrafter.checkpoints.official.to_folder import EXTRAS_ARE_COMPLETE, EXTRAS_FILE
from videocrafter.checkpoints.official.variants import matching_preset
from videocrafter.checkpoints.tensor_file import OnBytes, PlannedTensor, write_tensors
from videocrafter.checkpoints.weight_files import choose_weights
from videocrafter.media.atomic_write import whole_file
from videocrafter.media.output_checks import check_space

_PICKLED, _SAFETENSORS = (".ckpt", ".pt", ".pth"), ".safetensors"


@dataclass(frozen=True, kw_only=True)
class OfficialPlan:
    """A checked pipeline folder and the content of the checkpoint to be written.

    Attributes:
        description: one phrase that says what the model is.
        preset: name in `PRESETS`, or None.
        parts: the tensors of each network, under official keys.
        unused: the tensors that no network uses.
        num_extras: how many of those were kept in the folder; the others are filled in.
        notes: messages for the user.
    """

    description: str
    preset: str | None
    parts: Mapping[str, tuple[PlannedTensor, ...]]
    unused: tuple[PlannedTensor, ...]
    num_extras: int
    notes: tuple[str, ...]

    @property
    def tensors(self) -> tuple[PlannedTensor, ...]:
        """All tensors of the checkpoint."""
        return (*(one for part in self.parts.values() for one in part), *self.unused)

    @property
    def num_bytes(self) -> int:
        """Total size of all tensors."""
        return sum(one.num_bytes for one in self.tensors)

    @property
    def num_parameters(self) -> dict[str, int]:
        """Number of parameters of each network."""
        return {part: sum(one.num_elements for one in planned) for part, planned in self.parts.items()}


def convert_to_official(
    folder: Path, target: Path, *, overwrite: bool = False, on_progress: OnProgress | None = None
) -> Conversion:
    """Convert a pipeline folder: `plan_official`, then `write_official`, with their errors."""
    _check_target(target, overwrite)
    return write_official(plan_official(folder), target, overwrite=overwrite, on_progress=on_progress)


def plan_official(folder: Path) -> OfficialPlan:
    """Read the configs of a pipeline folder and plan its checkpoint. Writes nothing.

    Raises ValueError, one line, if the folder is damaged or the official format cannot express the model.
    """
    try:
        extras, complete = _read_extras(folder)
        model, notes = read_folder_configs(folder, _length(extras.get(SIGNAL_SCALE_KEY)))
        parts = {part: _plan_part(folder, part, network, model) for part, network in build_networks(model).items()}
    except ValueError as error:
        raise CheckpointFileError(f"{folder} cannot be converted: {error}") from error
    except (LookupError, TypeError, AttributeError, StrictDataclassError) as error:
        # Errors of the networks' libraries for missing entries and wrong types.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise CheckpointFileError(
            f"{folder} cannot be converted: a config in it is damaged ({reason}); convert or save the model again"
        ) from error
    held = {one.name for part in parts.values() for one in part}
    filled = {} if complete else _fill(model, held | extras.keys(), parts["text_encoder"][0].dtype)
    if filled:
        notes.append(
            f"filled in {len(filled)} missing tensors that the official code loads but never uses: norms with ones,"
            " the noise schedule with its values, all others with zeros"
        )
    preset = matching_preset(model)
    return OfficialPlan(
        description=describe_model(preset, model),
        preset=preset,
        parts=parts,
        unused=tuple(_as_planned(key, value) for key, value in {**extras, **filled}.items()),
        num_extras=len(extras),
        notes=tuple(notes),
    )


def write_official(
    plan: OfficialPlan, target: Path, *, overwrite: bool = False, on_progress: OnProgress | None = None
) -> Conversion:
    """Write the checkpoint of a plan atomically.

    Args:
        plan: returned by `plan_official`.
        target: `.ckpt` (or `.pt`, `.pth`), which the official code reads, or `.safetensors`.
        overwrite: whether an existing file may be replaced.
        on_progress: progress callback.

    Raises:
        ValueError: the target has another suffix, or exists and may not be replaced; or a weight is NaN or infinite.
        OSError: the disk is full or cannot be written.
    """
    _check_target(target, overwrite)
    check_space(target, plan.num_bytes)
    with whole_file(target, overwrite=overwrite) as hidden:
        write = write_tensors if target.suffix == _SAFETENSORS else _write_pickled
        write(hidden, plan.tensors, on_bytes=_counter(plan.num_bytes, on_progress))
    return Conversion(
        path=target,
        description=plan.description,
        preset=plan.preset,
        parts=plan.num_parameters,
        num_extras=plan.num_extras,
        num_bytes=plan.num_bytes,
        notes=plan.notes,
    )


def _check_target(target: Path, overwrite: bool) -> None:
    if target.suffix not in (*_PICKLED, _SAFETENSORS):
        raise ValueError(
            f"a pipeline folder is converted to a checkpoint file, so {target} must end in .ckpt (for the official"
            " code) or .safetensors"
        )
    check_target(target, folder=False, overwrite=overwrite)


def _read_extras(folder: Path) -> tuple[dict[str, Tensor], bool]:
    """Return the tensors that the folder kept, and whether they are all tensors that no network uses."""
    path = folder / EXTRAS_FILE
    if not path.is_file():
        return {}, False
    extras = read_safetensors(path)
    with safe_open(path, framework="pt") as file:
        return extras, (file.metadata() or {}).get(EXTRAS_ARE_COMPLETE) == "yes"


def _plan_part(folder: Path, part: str, network: nn.Module, model: OfficialModel) -> tuple[PlannedTensor, ...]:
    """Return the tensors of a part under official keys, after checking them against its config."""
    own = _read_weights(folder, part)
    check_fits(part, network, {name: tuple(value.shape) for name, value in own.items()}, str(folder / part))
    return tuple(_plan_rule(rule, own) for rule in rules_by_part(model)[part])


def _plan_rule(rule: Rule, own: Mapping[str, Tensor]) -> PlannedTensor:
    given = {name: own[name] for name in rule.own}
    key, on_meta = rule.official, {name: torch.empty_like(value, device="meta") for name, value in given.items()}
    shape = rule.to_official(on_meta)[key]
    return PlannedTensor(
        name=key,
        shape=tuple(shape.shape),
        dtype=shape.dtype,
        load=lambda: rule.to_official(given)[key],
        is_weight=True,
    )


def _as_planned(key: str, tensor: Tensor) -> PlannedTensor:
    return PlannedTensor(name=key, shape=tuple(tensor.shape), dtype=tensor.dtype, load=lambda: tensor)


def _read_weights(folder: Path, part: str) -> dict[str, Tensor]:
    """Return the weights of a part as views into its files, without the tower's prefix."""
    files, _ = choose_weights(folder / part, part)
    return {without_tower(name): value for path in files for name, value in read_safetensors(path).items()}


def _fill(model: OfficialModel, present: Set[str], dtype: torch.dtype) -> dict[str, Tensor]:
    """Return the missing tensors that the official code loads but never uses."""
    filled = {}
    schedule = schedule_buffers(model)
    for key, shape in unused_shapes(model).items():
        if key in present:
            continue
        is_norm = key.endswith(".weight") and ".ln_" in key
        fill = torch.ones if is_norm else torch.zeros
        filled[key] = schedule[key] if key in schedule else fill(shape, dtype=dtype)
    return filled


def _write_pickled(path: Path, tensors: Sequence[PlannedTensor], *, on_bytes: OnBytes) -> None:
    # Most tensors are views into the folder's files, so the model is not copied into memory.
    state = {one.name: one.checked() for one in tensors}
    with path.open("xb") as file:
        torch.save({"state_dict": state}, cast(BinaryIO, _CountingFile(file, on_bytes)))


class _CountingFile:
    """A file that reports the number of bytes written."""

    def __init__(self, file: BinaryIO, on_bytes: OnBytes) -> None:
        self._file = file
        self._on_bytes = on_bytes

    def write(self, data: bytes) -> int:
        num_bytes = self._file.write(data)
        self._on_bytes(num_bytes)
        return num_bytes

    def flush(self) -> None:
        self._file.flush()


def _counter(total: int, on_progress: OnProgress | None) -> OnBytes:
    written = 0

    def on_bytes(num_bytes: int) -> None:
        nonlocal written
        # The archive also holds a directory, which is not part of the total.
        written = min(written + num_bytes, total)
        if on_progress is not None:
            on_progress(written, total)

    return on_bytes


def _length(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.numel()

"""From a pipeline folder back to a checkpoint in the official format.

A folder that was converted from one keeps the tensors that no network holds, and gives back the same checkpoint,
tensor by tensor. A model that was trained here has no such tensors; they are filled, because the official code
loads strictly, and it reads none of them.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from videocrafter.checkpoints.folder_model import read_folder_model, read_json
from videocrafter.checkpoints.official.checkpoint_file import CheckpointFileError
from videocrafter.checkpoints.official.conversion import Conversion, OnProgress
from videocrafter.checkpoints.official.layout import rules, unheld_shapes
from videocrafter.checkpoints.official.model import SIGNAL_SCALE_KEY, OfficialModel
from videocrafter.checkpoints.official.networks import build_networks, check_fits, weights_stem, without_tower
from videocrafter.checkpoints.official.recognise import describe_model, released_preset
from videocrafter.checkpoints.official.rule import Rule
from videocrafter.checkpoints.official.schedule_buffers import schedule_buffers
from videocrafter.checkpoints.official.to_folder import EXTRAS_ARE_COMPLETE, EXTRAS_FILE
from videocrafter.checkpoints.tensor_file import OnBytes, PlannedTensor, write_tensors
from videocrafter.checkpoints.whole_output import check_space, check_target, whole_file

_PICKLED, _SAFETENSORS = (".ckpt", ".pt", ".pth"), ".safetensors"


@dataclass(frozen=True, kw_only=True)
class OfficialPlan:
    """A pipeline folder that was found to have a counterpart in the official format.

    Attributes:
        description: what the model is.
        preset: name in `PRESETS`, or None.
        parts: the tensors of each network under official keys.
        beside: the tensors that no network holds.
        num_kept_aside: how many of those the folder had kept; the others are filled.
        notes: what the user should know.
    """

    description: str
    preset: str | None
    parts: Mapping[str, tuple[PlannedTensor, ...]]
    beside: tuple[PlannedTensor, ...]
    num_kept_aside: int
    notes: tuple[str, ...]

    @property
    def tensors(self) -> tuple[PlannedTensor, ...]:
        """The whole checkpoint."""
        return (*(one for part in self.parts.values() for one in part), *self.beside)

    @property
    def num_bytes(self) -> int:
        """Of all tensors."""
        return sum(one.num_bytes for one in self.tensors)

    @property
    def num_parameters(self) -> dict[str, int]:
        """Of each network."""
        return {part: sum(one.num_elements for one in planned) for part, planned in self.parts.items()}


def convert_to_official(
    folder: Path, target: Path, *, overwrite: bool = False, on_progress: OnProgress | None = None
) -> Conversion:
    """Write a pipeline folder as a checkpoint; `plan_official` and `write_official` in one, with their errors."""
    _check_target(target, overwrite)
    return write_official(plan_official(folder), target, overwrite=overwrite, on_progress=on_progress)


def plan_official(folder: Path) -> OfficialPlan:
    """Read the configs of a pipeline folder and plan its checkpoint. Writes nothing.

    Raises ValueError, one line, if it is damaged or holds a model that the official format cannot express.
    """
    try:
        extras, complete = _read_extras(folder)
        model, notes = read_folder_model(folder, _length(extras.get(SIGNAL_SCALE_KEY)))
        parts = {
            part: _plan_part(folder / part, part, network, model) for part, network in build_networks(model).items()
        }
    except ValueError as error:
        raise CheckpointFileError(f"{folder} cannot be converted: {error}") from error
    except (LookupError, TypeError, AttributeError, StrictDataclassError) as error:
        # What the networks' libraries raise for entries that are missing or of another type.
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:160]
        raise CheckpointFileError(
            f"{folder} cannot be converted: a config in it is damaged ({reason}); convert or save the model again"
        ) from error
    held = {one.name for part in parts.values() for one in part}
    filled = {} if complete else _fill(model, held | extras.keys(), parts["text_encoder"][0].dtype)
    if filled:
        notes.append(
            f"{len(filled)} tensors that the official code loads but never uses were not there: filled with zeros,"
            " norms with ones, the noise schedule with its values"
        )
    preset = released_preset(model)
    return OfficialPlan(
        description=describe_model(preset, model),
        preset=preset,
        parts=parts,
        beside=tuple(_as_planned(key, value) for key, value in {**extras, **filled}.items()),
        num_kept_aside=len(extras),
        notes=tuple(notes),
    )


def write_official(
    plan: OfficialPlan, target: Path, *, overwrite: bool = False, on_progress: OnProgress | None = None
) -> Conversion:
    """Write the checkpoint of a plan: whole, or not at all.

    Args:
        plan: of `plan_official`.
        target: `.ckpt` (or `.pt`, `.pth`), which the official code reads, or `.safetensors`.
        overwrite: whether a file there may be replaced.
        on_progress: for a progress bar.

    Raises:
        ValueError: the target has another ending or is taken.
        OSError: the disk has no room, or cannot be written.
    """
    _check_target(target, overwrite)
    check_space(target, plan.num_bytes)
    with whole_file(target) as hidden:
        write = write_tensors if target.suffix == _SAFETENSORS else _write_pickled
        write(hidden, plan.tensors, on_bytes=_counter(plan.num_bytes, on_progress))
    return Conversion(
        path=target,
        description=plan.description,
        preset=plan.preset,
        parts=plan.num_parameters,
        num_kept_aside=plan.num_kept_aside,
        num_bytes=plan.num_bytes,
        notes=plan.notes,
    )


def _check_target(target: Path, overwrite: bool) -> None:
    if target.suffix not in (*_PICKLED, _SAFETENSORS):
        raise ValueError(
            f"a pipeline folder becomes a checkpoint file, so {target} must end in .ckpt, for the official code, or"
            " .safetensors"
        )
    check_target(target, folder=False, overwrite=overwrite)


def _read_extras(folder: Path) -> tuple[dict[str, Tensor], bool]:
    """The tensors that were kept aside, and whether they are all that no network holds."""
    path = folder / EXTRAS_FILE
    if not path.is_file():
        return {}, False
    extras = _load(path)
    with safe_open(path, framework="pt") as file:
        return extras, (file.metadata() or {}).get(EXTRAS_ARE_COMPLETE) == "yes"


def _plan_part(folder: Path, part: str, network: nn.Module, model: OfficialModel) -> tuple[PlannedTensor, ...]:
    """The tensors of a part under official keys, checked against what its config says."""
    own = _read_weights(folder, weights_stem(part))
    check_fits(part, network, {name: tuple(value.shape) for name, value in own.items()}, str(folder))
    return tuple(_plan_rule(rule, own) for rule in rules(model)[part])


def _plan_rule(rule: Rule, own: Mapping[str, Tensor]) -> PlannedTensor:
    given = {name: own[name] for name in rule.own}
    key, on_meta = rule.official, {name: torch.empty_like(value, device="meta") for name, value in given.items()}
    shape = rule.to_official(on_meta)[key]
    return PlannedTensor(
        name=key, shape=tuple(shape.shape), dtype=shape.dtype, load=lambda: rule.to_official(given)[key]
    )


def _as_planned(key: str, tensor: Tensor) -> PlannedTensor:
    return PlannedTensor(name=key, shape=tuple(tensor.shape), dtype=tensor.dtype, load=lambda: tensor)


def _read_weights(folder: Path, stem: str) -> dict[str, Tensor]:
    """The weights of a part, as views into its files, without the tower's name."""
    single, index = folder / f"{stem}.safetensors", folder / f"{stem}.safetensors.index.json"
    if single.is_file():
        files = [single]
    elif index.is_file():
        names = sorted(set(read_json(index).get("weight_map", {}).values()))
        files = [folder / name for name in names if Path(str(name)).name == name]
    else:
        raise ValueError(f"it is incomplete: {single} is missing (only safetensors are read)")
    return {without_tower(name): value for path in files for name, value in _load(path).items()}


def _load(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        raise ValueError(f"it is incomplete: {path} is missing")
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise ValueError(f"{path} is truncated or damaged ({' '.join(str(error).split())[:160]})") from None


def _fill(model: OfficialModel, present: Set[str], dtype: torch.dtype) -> dict[str, Tensor]:
    """What the official code wants to load beyond the networks, and never uses."""
    filled = {}
    schedule = schedule_buffers(model)
    for key, shape in unheld_shapes(model).items():
        if key in present:
            continue
        is_norm = key.endswith(".weight") and ".ln_" in key
        fill = torch.ones if is_norm else torch.zeros
        filled[key] = schedule[key] if key in schedule else fill(shape, dtype=dtype)
    return filled


def _write_pickled(path: Path, tensors: Sequence[PlannedTensor], *, on_bytes: OnBytes) -> None:
    # Views into the folder's files, except for the few matrices that are put together: no second model in memory.
    state = {one.name: one.load() for one in tensors}
    with path.open("xb") as file:
        torch.save({"state_dict": state}, cast(BinaryIO, _CountingFile(file, on_bytes)))
        file.flush()
        os.fsync(file.fileno())


class _CountingFile:
    """Passes on what is written, and tells how much."""

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
        # An archive has a directory beside the tensors.
        written = min(written + num_bytes, total)
        if on_progress is not None:
            on_progress(written, total)

    return on_bytes


def _length(tensor: Tensor | None) -> int | None:
    return None if tensor is None else tensor.numel()

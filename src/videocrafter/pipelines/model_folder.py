"""The files of a pipeline folder: read its index, detect damage before loading, compute a fingerprint.

This module does not import torch, so that listing models is instant and a damaged file is found in milliseconds.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from videocrafter.checkpoints.file_content import checkpoint_format, describe_content
from videocrafter.checkpoints.weight_files import choose_weights, variants_of
from videocrafter.media.json_file import parse_json_object, read_json_object
from videocrafter.presets import MODEL_INDEX, Task, folder_hint

PIPELINE_TASKS: dict[str, Task] = {"TextToVideoPipeline": "t2v", "ImageToVideoPipeline": "i2v"}
SHARED = "shared.json"
"""File that replaces the files of a component: {"model": "NAME"} means that the sibling folder NAME has them."""
_COMPONENTS = ("unet", "vae", "text_encoder", "tokenizer", "scheduler")
_WEIGHTLESS = ("scheduler", "tokenizer", "feature_extractor", "image_processor")
_LARGEST_HEADER = 100 * 2**20
_HASHED_WHOLE = 64 * 2**20
_HASHED_EDGE = 2**20


class ModelFolderError(ValueError):
    """A pipeline folder cannot be used; the message names the file."""


def _broken(what: str) -> ModelFolderError:
    """Return the error for a folder that was damaged after it was written."""
    return ModelFolderError(f"{what}; copy, convert or train the model again")


def read_model_index(folder: Path) -> dict[str, Any]:
    """Read `model_index.json`. Raises ModelFolderError if it is missing, damaged or for an unknown pipeline."""
    path = folder / MODEL_INDEX
    if not path.is_file():
        hint = folder_hint(folder)
        raise ModelFolderError(
            f"{folder} is not a pipeline folder: {MODEL_INDEX} is missing{f'; {hint}' if hint else ''}"
        )
    index = read_json(path)
    name = index.get("_class_name")
    if not isinstance(name, str) or name not in PIPELINE_TASKS:
        raise ModelFolderError(
            f"{path} is for the pipeline {name!r}; this package loads {' and '.join(PIPELINE_TASKS)}"
        )
    for component, value in index.items():
        is_pair = isinstance(value, list) and len(value) == 2 and not component.startswith("_")
        is_named = is_pair and (value == [None, None] or all(isinstance(one, str) for one in value))
        if (is_pair or component in _COMPONENTS) and not is_named:
            raise _broken(f"{path} is damaged: {component} is {_shown(value)}; expected a library and a class")
        if is_pair and not re.fullmatch(r"\w[\w.-]*", component):
            raise _broken(f"{path} is damaged: {component[:80]!r} is not the name of a component")
    missing = [component for component in _COMPONENTS if component not in index]
    if missing:
        raise _broken(f"{path} is damaged: it does not name the component {missing[0]}")
    for setting in ("defaults", "knowledge"):
        if not isinstance(index.get(setting), dict | None):
            raise _broken(f"{path} is damaged: {setting} is {_shown(index[setting])}; expected an object")
    for kind, words in (index.get("knowledge") or {}).items():
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise _broken(f"{path} is damaged: {kind} is {_shown(words)}; expected a list of words")
    scale = index.get("signal_scale")
    if scale is not None and (isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale <= 1):
        raise _broken(f"{path} is damaged: signal_scale is {_shown(scale)}; expected null or a number up to 1")
    return index


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ModelFolderError, naming the file, if it is anything else."""
    try:
        return read_json_object(path)
    except ValueError as error:
        raise ModelFolderError(str(error)) from error


def components_of(index: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return the components of a pipeline by name, each with its library and class."""
    pairs = {name: value for name, value in index.items() if isinstance(value, list) and not name.startswith("_")}
    return {name: (value[0], value[1]) for name, value in pairs.items() if len(value) == 2 and value[0] is not None}


def check_model_folder(folder: Path, variant: str | None = None) -> dict[str, Any]:
    """Check that every component of a pipeline folder is present and undamaged; return its index.

    Reads all JSON files and the headers of the safetensors files that `network_weights` chooses, whose sizes must
    match. Flipped bits inside a tensor are not detected. Raises ModelFolderError that names the first bad file or
    folder.
    """
    index = read_model_index(folder)
    components = components_of(index)
    for name in components:
        _check_component(folder, name, variant)
    if variant is not None and not any(
        network_weights(folder, name, variant, required=False)[1] == variant for name in components
    ):
        found = sorted({one for name in components for one in variants_of(component_folder(folder, name), name)})
        raise ModelFolderError(
            f"{folder} has no weights of the variant {variant!r}, only {', '.join(['plain ones', *found])}; omit"
            " variant, or pass one of these"
        )
    return index


def network_weights(
    folder: Path, name: str, variant: str | None = None, *, required: bool = True
) -> tuple[list[Path], str | None]:
    """Return the weight files of a component, and their variant; see `checkpoints.weight_files.choose_weights`.

    Args:
        folder: the pipeline folder.
        name: the component, which may be shared.
        variant: the preferred variant.
        required: whether missing weights are an error; if not, the list is empty.

    Raises:
        ModelFolderError: the weights are missing, pickled, or their index is damaged.
    """
    place = component_folder(folder, name)
    if place.name in _WEIGHTLESS:
        return [], None
    try:
        return choose_weights(place, name, variant)
    except ValueError as error:
        if not required:
            return [], None
        raise ModelFolderError(str(error)) from error


def component_folder(folder: Path, name: str) -> Path:
    """Return the folder with the files of one component: its own, or that of the sibling which `SHARED` names.

    Raises ModelFolderError if `SHARED` does not name a sibling folder, or that folder does not have the component.
    """
    link = folder / name / SHARED
    if not link.is_file():
        return folder / name
    owner = read_json(link).get("model")
    if not isinstance(owner, str) or Path(owner).name != owner or owner in ("", ".."):
        raise _broken(f"{link} is damaged: it must name a folder next to {folder}, but names {owner!r}")
    shared = folder.parent / owner / name
    if not shared.is_dir() or (shared / SHARED).exists():
        raise _broken(f"the model is incomplete: {folder / name} refers to {shared}, which is missing")
    return shared


def shared_components(folder: Path) -> dict[str, Path]:
    """Return the components whose files are in another folder, with that folder; see `component_folder`."""
    names = [path.parent.name for path in sorted(folder.glob(f"*/{SHARED}"))]
    return {name: component_folder(folder, name) for name in names}


def _check_component(root: Path, name: str, variant: str | None) -> None:
    folder = component_folder(root, name)
    if not folder.is_dir():
        raise _broken(f"the model is incomplete: the folder {folder} is missing")
    configs = sorted(folder.glob("*.json"))
    if not configs:
        raise _broken(f"the model is incomplete: {folder} has no configuration (*.json)")
    for path in configs:
        if not path.name.endswith("vocab.json"):
            read_json(path)
    for path in network_weights(root, name, variant)[0]:
        if not path.is_file():
            raise _broken(f"the model is incomplete: {path} is missing")
        tensor_names(path)


def tensor_names(path: Path) -> list[str]:
    """Return the names of the tensors in a safetensors file, from its header alone; errors as in `tensor_shapes`."""
    return list(tensor_shapes(path))


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor in a safetensors file, from its header alone.

    Raises ModelFolderError if the header is invalid or the file size differs from the one in the header.
    """
    size = path.stat().st_size
    if checkpoint_format(path) != "safetensors":
        raise _broken(f"{path} is damaged: it {describe_content(path).partition(';')[0]}, not a safetensors file")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(_LARGEST_HEADER, size - 8):
                raise _broken(f"{path} is damaged: it is truncated to {size:,} bytes")
            header = parse_json_object(file.read(length), "its header")
        header.pop("__metadata__", None)
        shapes = {name: tuple(int(length) for length in entry["shape"]) for name, entry in header.items()}
        data_bytes = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OverflowError) as error:
        if isinstance(error, ModelFolderError):
            raise
        raise _broken(f"{path} is damaged: its safetensors header is invalid") from error
    if size != 8 + length + data_bytes:
        raise _broken(f"{path} is damaged: it should have {8 + length + data_bytes} bytes, but has {size}")
    return shapes


def check_weights_fit(folder: Path, files: Sequence[Path], expected: Iterable[str]) -> None:
    """Raise ModelFolderError unless the weights of one component have exactly the tensors of the network.

    Without this check, loaders only warn and leave missing tensors at random values.
    """
    stored = _comparable({name for path in files for name in tensor_names(path)})
    wanted = _comparable(set(expected))
    missing, surplus = sorted(wanted - stored), sorted(stored - wanted)
    for problem, names in (("lack", missing), ("have unknown", surplus)):
        if names:
            raise ModelFolderError(
                f"the weights in {folder} {problem} {len(names)} tensors, such as {names[0]}; they do not match the"
                " network in config.json"
            )


def _comparable(names: set[str]) -> set[str]:
    """Remove prefixes and buffers that differ between versions of transformers."""
    without_tower = {name.removeprefix("text_model.").removeprefix("vision_model.") for name in names}
    return {name for name in without_tower if not name.endswith("embeddings.position_ids")}


def fingerprint(folder: Path) -> str:
    """Return a short hash of the contents of a pipeline folder, which does not depend on its path.

    16 hex digits of SHA-256 over the names, sizes and contents of all files. Of a file above 64 MiB only the first
    and the last MiB are read, so that hashing a model of many gigabytes stays fast.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.suffix not in (".json", ".safetensors", ".txt"):
            continue
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder).as_posix()}\0{size}\0".encode())
        with path.open("rb") as file:
            if size <= _HASHED_WHOLE:
                digest.update(file.read())
            else:
                digest.update(file.read(_HASHED_EDGE))
                file.seek(-_HASHED_EDGE, 2)
                digest.update(file.read())
    return digest.hexdigest()[:16]


def size_in_bytes(folder: Path) -> int:
    """Return the total size of all files in a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())

"""The files of a pipeline folder: read its index, detect damage before loading, compute a fingerprint.

This module does not import torch, so that listing models is instant and a damaged file is found in milliseconds.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from videocrafter.presets import MODEL_INDEX, Task

PIPELINE_TASKS: dict[str, Task] = {"TextToVideoPipeline": "t2v", "ImageToVideoPipeline": "i2v"}
SHARED = "shared.json"
"""File that replaces the files of a component: {"model": "NAME"} means that the sibling folder NAME has them."""
_WEIGHTLESS = ("scheduler", "tokenizer", "feature_extractor")
_LARGEST_HEADER = 100 * 2**20
_HASHED_WHOLE = 64 * 2**20
_HASHED_EDGE = 2**20


class ModelFolderError(ValueError):
    """A pipeline folder cannot be used; the message names the file."""


def _broken(what: str) -> ModelFolderError:
    """Return the error for a folder that was damaged after it was written."""
    return ModelFolderError(f"{what}; copy, convert or train the model again")


def read_model_index(folder: Path) -> dict[str, Any]:
    """Read `model_index.json`. Raises ModelFolderError if it is missing, broken or of an unknown pipeline."""
    path = folder / MODEL_INDEX
    if not path.is_file():
        raise ModelFolderError(f"{folder} is not a pipeline folder: {MODEL_INDEX} is missing")
    index = read_json(path)
    if index.get("_class_name") not in PIPELINE_TASKS:
        raise ModelFolderError(
            f"{path} is for the pipeline {index.get('_class_name')!r}; videocrafter loads only"
            f" {' and '.join(PIPELINE_TASKS)}"
        )
    return index


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object. Raises ModelFolderError naming the file if it is not one."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise _broken(f"{path} is damaged: it is not valid JSON ({error})") from error
    if not isinstance(value, dict):
        raise _broken(f"{path} is damaged: expected a JSON object, found {type(value).__name__}")
    return value


def check_model_folder(folder: Path) -> dict[str, Any]:
    """Check that every component of a pipeline folder is present and complete; return its index.

    Reads all JSON files and the headers of all safetensors files, whose sizes must match. Flipped bits inside a
    tensor are not detected. Raises ModelFolderError naming the first missing or damaged file or folder.
    """
    index = read_model_index(folder)
    for name, value in index.items():
        is_component = isinstance(value, list) and len(value) == 2 and not name.startswith("_")
        if is_component and value[0] is not None:
            _check_component(component_folder(folder, name))
    return index


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


def _check_component(folder: Path) -> None:
    if not folder.is_dir():
        raise _broken(f"the model is incomplete: the folder {folder} is missing")
    present = {path.name for path in folder.iterdir()}
    if not any(name.endswith(".json") for name in present):
        raise _broken(f"the model is incomplete: {folder} has no configuration (*.json)")
    shards: set[str] = set()
    for path in sorted(folder.glob("*.json")):
        value = read_json(path) if not path.name.endswith("vocab.json") else {}
        if path.name.endswith(".safetensors.index.json"):
            shards |= set(value.get("weight_map", {}).values())
    for shard in sorted(shards - present):
        raise _broken(f"the model is incomplete: {folder / shard} is missing")
    weights = sorted(folder.glob("*.safetensors"))
    if not weights and folder.name not in _WEIGHTLESS:
        raise _broken(f"the model is incomplete: {folder} has no weights (*.safetensors)")
    for path in weights:
        tensor_names(path)


def tensor_names(path: Path) -> list[str]:
    """Return the names of the tensors in a safetensors file, from its header alone; errors as in `tensor_shapes`."""
    return list(tensor_shapes(path))


def tensor_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every tensor in a safetensors file, from its header alone.

    Raises ModelFolderError if the header is invalid or the file size differs from the one in the header.
    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if size < 8 or length > min(_LARGEST_HEADER, size - 8):
                raise _broken(f"{path} is damaged: truncated, or not a safetensors file ({size} bytes)")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
        data_bytes = max((int(entry["data_offsets"][1]) for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        if isinstance(error, ModelFolderError):
            raise
        raise _broken(f"{path} is damaged: its safetensors header is invalid") from error
    if size != 8 + length + data_bytes:
        raise _broken(f"{path} is damaged: it should have {8 + length + data_bytes} bytes, but has {size}")
    return shapes


def check_weights_fit(folder: Path, expected: list[str]) -> None:
    """Raise ModelFolderError unless the weights of one component have exactly the tensors of the network.

    Without this check, loaders only warn and leave missing tensors at random values.
    """
    stored = _comparable({name for path in sorted(folder.glob("*.safetensors")) for name in tensor_names(path)})
    wanted = _comparable(set(expected))
    missing, surplus = sorted(wanted - stored), sorted(stored - wanted)
    for problem, names in (("lack", missing), ("have unknown", surplus)):
        if names:
            raise ModelFolderError(
                f"the weights in {folder} {problem} {len(names)} tensors, such as {names[0]}; they belong to another"
                " network"
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

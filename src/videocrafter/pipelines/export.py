"""Export a folder of weights for publishing: everything that belongs to the model, and nothing else.

Training state, hidden files and unrelated files are left out. Components shared with a sibling folder (`shared.json`)
are included. Local paths are removed from configs and headers.
"""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from videocrafter.checkpoints.file_content import checkpoint_format
from videocrafter.checkpoints.lora.adapter_settings import PEFT_CONFIG
from videocrafter.checkpoints.lora.lora_file import find_lora_file
from videocrafter.checkpoints.pipeline_code import CODE_FILE, code_of
from videocrafter.checkpoints.publishing.local_paths import config_without_paths, recipe_without_paths
from videocrafter.pipelines.model_folder import (
    PIPELINE_TASKS,
    SHARED,
    ModelFolderError,
    check_model_folder,
    component_folder,
    components_of,
    network_weights,
    read_json,
    tensor_shapes,
)
from videocrafter.presets import LORA_FILE, MODEL_INDEX, Task

_PART_FILES = (".json", ".safetensors", ".txt", ".model", ".jinja")
# Entries of a vocabulary can look like paths, so these files are not searched for paths.
_VOCABULARIES = ("tokenizer.json", "vocab.json", "added_tokens.json", "special_tokens_map.json")
_LICENCE_FILES = ("LICENSE", "LICENCE", "LICENSE.txt", "LICENCE.txt", "LICENSE.md", "LICENCE.md", "NOTICE")
_EXTRAS_FILE = "official_extras.safetensors"


@dataclass(frozen=True, kw_only=True)
class ExportedFile:
    """One file of an export: `head`, then the contents of `source` from `offset` on."""

    head: bytes = b""
    source: Path | None = None
    offset: int = 0

    @property
    def num_bytes(self) -> int:
        """Size in bytes."""
        return len(self.head) + (self.source.stat().st_size - self.offset if self.source is not None else 0)

    @property
    def is_unchanged(self) -> bool:
        """Whether the export is identical to the source file."""
        return self.source is not None and not self.head and not self.offset

    def text(self) -> str:
        """Return the contents as text. Reads the whole file, so use it for small files only.

        Raises ModelFolderError if it is not UTF-8, which the hub expects.
        """
        rest = self.source.read_bytes()[self.offset :] if self.source is not None else b""
        try:
            return (self.head + rest).decode("utf-8")
        except UnicodeDecodeError as error:
            raise ModelFolderError(f"{self.source} is not UTF-8 ({error.reason}); save it as UTF-8") from error

    def write(self, target: Path) -> None:
        """Write the file to a new path."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as file:
            file.write(self.head)
            if self.source is not None:
                with self.source.open("rb") as source:
                    source.seek(self.offset)
                    shutil.copyfileobj(source, file, 1 << 22)


@dataclass(frozen=True, kw_only=True)
class Export:
    """The files to export from a folder of weights.

    Attributes:
        folder: the folder with the weights.
        lora_file: name of the file if it holds a LoRA rather than a pipeline.
        task: task of the pipeline; None for a LoRA.
        index: the pipeline's `model_index.json`; empty for a LoRA.
        files: files by their path in the export, with "/" between folders.
    """

    folder: Path
    lora_file: str | None
    task: Task | None
    index: Mapping[str, Any]
    files: Mapping[str, ExportedFile]

    @property
    def is_lora(self) -> bool:
        """Whether the folder holds a LoRA rather than a pipeline."""
        return self.lora_file is not None

    @property
    def num_bytes(self) -> int:
        """Total size in bytes."""
        return sum(file.num_bytes for file in self.files.values())


def plan_export(folder: Path) -> Export:
    """List the files that belong to the weights in a folder and check that they are complete. Writes nothing.

    Raises:
        ModelFolderError: the folder is damaged, or contains neither a pipeline nor a LoRA.
    """
    files: dict[str, ExportedFile] = {}
    index: dict[str, Any] = {}
    lora: Path | None = None
    if (folder / MODEL_INDEX).is_file():
        index = check_model_folder(folder)
        files[MODEL_INDEX] = _config(folder / MODEL_INDEX)
        files[CODE_FILE] = ExportedFile(head=code_of(index["_class_name"]).encode())
        for name in components_of(index):
            for path in _files_below(component_folder(folder, name)):
                relative = path.relative_to(component_folder(folder, name)).as_posix()
                files[f"{name}/{relative}"] = _part(path)
        if (folder / _EXTRAS_FILE).is_file():
            files[_EXTRAS_FILE] = _weights(folder / _EXTRAS_FILE)
    else:
        lora = _lora_in(folder)
        files[lora.name] = _weights(lora)
        if (folder / PEFT_CONFIG).is_file():
            files[PEFT_CONFIG] = _config(folder / PEFT_CONFIG)
    for name in _LICENCE_FILES:
        if (folder / name).is_file():
            files[name] = ExportedFile(source=folder / name)
    return Export(
        folder=folder,
        lora_file=None if lora is None else lora.name,
        task=PIPELINE_TASKS[index["_class_name"]] if index else None,
        index=index,
        files=files,
    )


def write_export(files: Mapping[str, ExportedFile], target: Path, *, link: bool = False) -> None:
    """Write files into an empty folder.

    Args:
        link: link to unchanged files instead of copying them; for temporary folders.
    """
    for name, file in files.items():
        path = target / name
        if not (link and file.source is not None and file.is_unchanged and _link(path, file.source)):
            file.write(path)


def parameter_counts(export: Export) -> dict[str, int]:
    """Count the parameters of each network of a pipeline once, from the headers of its files."""
    counts: dict[str, int] = {}
    for part in components_of(export.index):
        files, _ = network_weights(export.folder, part, required=False)
        if files:
            counts[part] = sum(math.prod(shape) for path in files for shape in tensor_shapes(path).values())
    return counts


def lora_layers(export: Export) -> dict[str, int]:
    """Return the rank of each layer that a LoRA changes, from the header of its file."""
    if export.lora_file is None:
        return {}
    shapes = tensor_shapes(export.folder / export.lora_file)
    downs = (".lora_A.weight", ".lora_down.weight", ".lora.down.weight", "_lora.down.weight")
    return {key: shape[0] for key, shape in shapes.items() if key.endswith(downs) and shape}


def left_out(folder: Path, names: Collection[str]) -> list[str]:
    """List what an export leaves out of a folder; a subfolder that is left out as a whole is one entry."""
    tops = {name.partition("/")[0] for name in names}
    found = []
    for path in sorted(folder.iterdir()):
        if path.name not in tops:
            found.append(f"{path.name}/" if path.is_dir() else path.name)
        elif path.is_dir():
            inner = (one for one in sorted(path.rglob("*")) if one.is_file() and one.name != SHARED)
            relative = (one.relative_to(folder).as_posix() for one in inner)
            found += [name for name in relative if name not in names]
    return found


def naming(path: str, files: Mapping[str, ExportedFile]) -> list[str]:
    """Return the names of human-readable files that contain a local path."""
    wanted = re.compile(re.escape(path.rstrip("/\\")) + r"(?![\w.-])")
    read = [name for name in files if name.endswith((".md", ".json")) and Path(name).name not in _VOCABULARIES]
    return [name for name in read if wanted.search(files[name].text())]


def _lora_in(folder: Path) -> Path:
    """Return the LoRA file of a folder: diffusers', peft's, or the only file of weights."""
    try:
        path = find_lora_file(folder)
    except ValueError as error:
        found = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) if folder.is_dir() else ""
        raise ModelFolderError(
            f"{folder} contains neither a pipeline ({MODEL_INDEX}) nor a LoRA ({LORA_FILE}), but"
            f" {found or 'nothing'}; give the folder of a pipeline, a LoRA or a training run"
        ) from error
    if checkpoint_format(path) != "safetensors":
        raise ModelFolderError(f"{path} is not a safetensors file; load it, and save it with save_lora_weights")
    if not any("lora" in key for key in tensor_shapes(path)):
        raise ModelFolderError(f"{path} does not contain a LoRA; save it again with save_lora_weights")
    return path


def _files_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if path.is_file() and not hidden and path.suffix in _PART_FILES and path.name != SHARED:
            yield path


def _part(path: Path) -> ExportedFile:
    if path.suffix == ".safetensors":
        return _weights(path)
    is_config = path.suffix == ".json" and path.name not in _VOCABULARIES and not path.name.endswith(".index.json")
    return _config(path) if is_config else ExportedFile(source=path)


def _config(path: Path) -> ExportedFile:
    before = read_json(path)
    after = config_without_paths(before)
    if after == before:
        return ExportedFile(source=path)
    return ExportedFile(head=(json.dumps(after, indent=2) + "\n").encode())


def _weights(path: Path) -> ExportedFile:
    """Return a file of tensors, with local paths removed from the metadata in its header."""
    tensor_shapes(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    notes = header.get("__metadata__")
    public = recipe_without_paths(notes)
    if public == notes:
        return ExportedFile(source=path)
    text = json.dumps({**header, "__metadata__": public}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return ExportedFile(head=len(text).to_bytes(8, "little") + text, source=path, offset=8 + length)


def _link(path: Path, source: Path) -> bool:
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        path.symlink_to(source.resolve())
    except OSError:
        return False
    return True

"""Find the file of a LoRA: a path, a folder, or a repository on the Hugging Face hub."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from videocrafter.checkpoints.lora.lora_file import find_lora_file
from videocrafter.media.home_folder import expand_home
from videocrafter.presets import LORA_FILE

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")


def locate_lora(
    source: str | os.PathLike[str], weight_name: str | None = None, subfolder: str | None = None, **hub: Any
) -> Path:
    """Return the local path of a LoRA file, downloaded if `source` names a repository on the hub.

    Args:
        source: a file, a folder, or a repository `owner/name`; an existing path comes first.
        weight_name: file in the folder or repository. None means the only LoRA file of a folder, and
            `pytorch_lora_weights.safetensors` in a repository.
        subfolder: folder in the folder or repository.
        hub: arguments of `hf_hub_download`, such as `revision`, `cache_dir` and `local_files_only`.

    Raises:
        ValueError: the file does not exist or cannot be downloaded; one line.
    """
    path = expand_home(source)
    if path.exists() or not _names_repository(source):
        if path.is_dir():
            path = path / (subfolder or "") / (weight_name or "")
        return find_lora_file(path)
    # The hub client is slow to import.
    from huggingface_hub import errors, hf_hub_download

    name = weight_name or LORA_FILE
    try:
        return Path(hf_hub_download(str(source), name, subfolder=subfolder, **hub))
    except errors.LocalEntryNotFoundError as error:
        raise ValueError(
            f"{source}/{name} is not in the cache of the hub and cannot be downloaded; check the network, or pass the"
            " path of a file"
        ) from error
    except errors.EntryNotFoundError as error:
        raise ValueError(f"{source} on the hub has no file {name}; pass its name as weight_name") from error
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise ValueError(
            f"{source} is neither a path nor a repository on the hub that you can read; pass a file, a folder or"
            " OWNER/NAME"
        ) from error


def _names_repository(source: str | os.PathLike[str]) -> bool:
    return isinstance(source, str) and bool(_REPOSITORY.fullmatch(source)) and not source.endswith(_WEIGHTS)

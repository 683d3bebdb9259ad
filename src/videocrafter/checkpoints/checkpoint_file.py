"""Open an untrusted checkpoint file and unwrap its state dict.

Nothing in the file is executed: pickles are loaded with `weights_only=True`, and a pickle that needs more is refused.
Sizes that an archive claims are checked against the size of the file. Tensors are views into the memory-mapped file
where the format allows it, so opening a checkpoint takes no memory.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

# Entries under which trainers store the state dict; the first one present is used.
_STATE_DICT_KEYS = ("state_dict", "module", "model_state_dict", "model")
# Prefixes that parallel wrappers add to every key.
_WRAPPER_PREFIXES = ("_forward_module.", "module.", "_orig_mod.")
ORDINARY_WRAPPING = "the entry 'state_dict'"
"""The wrapping of every released checkpoint."""

_DEEPSPEED_FILE = "mp_rank_00_model_states.pt"
_PICKLE_MAGIC = b"\x80"
_ZIP_MAGIC = b"PK\x03\x04"
_LONGEST_REASON = 160
# Errors that torch and its unpickler raise for damaged files.
_DAMAGE = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError, OSError)


class CheckpointFileError(ValueError):
    """A file that cannot be read as a checkpoint; the message is one line and says what to do."""


@dataclass(frozen=True, kw_only=True)
class CheckpointFile:
    """The tensors of a checkpoint file of any model.

    Attributes:
        path: the file that holds the tensors; for a DeepSpeed folder, the file inside it.
        tensors: by key, without wrapper prefixes.
        wrapping: the wrappers that were removed, outermost first, as readable phrases.
        num_ignored: number of state dict entries that are not tensors.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    wrapping: tuple[str, ...] = ()
    num_ignored: int = 0


def open_checkpoint_file(path: Path) -> CheckpointFile:
    """Open a `.ckpt`, `.pt` or `.safetensors` file, or a DeepSpeed folder.

    The format is detected from the content, not from the file name.

    Raises:
        CheckpointFileError: the file is missing, empty, truncated or in another format, contains code, or claims
            sizes that do not fit the file.
    """
    path = _deepspeed_file(path) if path.is_dir() else path
    if not path.exists():
        raise CheckpointFileError(f"{path} does not exist; pass a .ckpt, .pt or .safetensors file")
    with path.open("rb") as file:
        beginning = file.read(512)
    if not beginning:
        raise CheckpointFileError(f"{path} is empty (0 bytes); copy or download it again")
    if beginning.startswith(_ZIP_MAGIC):
        content = _read_archive(path)
    elif beginning.startswith(_PICKLE_MAGIC):
        # The format of torch before 1.6 cannot be memory-mapped.
        content = _read_pickle(path, mapped=False)
    elif beginning[8:9] == b"{":
        content = read_safetensors(path)
    else:
        raise CheckpointFileError(f"{path} is not a checkpoint: {_other_content(beginning)}")
    return _opened(path, content)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file. Raises CheckpointFileError if it is missing or damaged."""
    if not path.is_file():
        raise CheckpointFileError(f"{path} is missing")
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise CheckpointFileError(
            f"{path} is a truncated or damaged safetensors file ({reason}); copy or download it again"
        ) from None


def unwrap(content: Any) -> tuple[dict[str, Tensor], tuple[str, ...], int]:
    """Return the state dict inside a file's content, the removed wrappers, and the number of non-tensor entries.

    Unwraps Lightning (`state_dict`), DeepSpeed (`module`, and keys that begin with `_forward_module.` or `module.`),
    DistributedDataParallel and `torch.compile`, in any nesting. Raises CheckpointFileError if there is no state dict.
    """
    wrapping: list[str] = []
    while isinstance(content, Mapping) and not any(isinstance(value, Tensor) for value in content.values()):
        inner = next((key for key in _STATE_DICT_KEYS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        wrapping.append(_wrapper_name(content, inner))
        content = content[inner]
    if not isinstance(content, Mapping):
        raise CheckpointFileError(f"it holds {_article(type(content).__name__)}, not a state dict of named tensors")
    tensors = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, Tensor)}
    if not tensors:
        names = ", ".join(repr(key) for key in list(content)[:5]) or "nothing"
        raise CheckpointFileError(f"it holds no tensors, only {names}; expected a state dict")
    num_ignored = len(content) - len(tensors)
    tensors, prefixes = _without_prefixes(tensors)
    return tensors, (*wrapping, *prefixes), num_ignored


def _opened(path: Path, content: Any) -> CheckpointFile:
    try:
        tensors, wrapping, num_ignored = unwrap(content)
    except CheckpointFileError as error:
        raise CheckpointFileError(f"{path} is not a checkpoint: {error}") from None
    if all(tensor.numel() == 0 for tensor in tensors.values()):
        raise CheckpointFileError(
            f"{path} holds only empty tensors: DeepSpeed's ZeRO stage 3 stores the weights in other files; merge"
            " them with the zero_to_fp32.py in the same folder and convert its output"
        )
    for key, tensor in tensors.items():
        _check_tensor(path, key, tensor)
    return CheckpointFile(path=path, tensors=tensors, wrapping=wrapping, num_ignored=num_ignored)


def _check_tensor(path: Path, key: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise CheckpointFileError(
            f"{path} holds {key!r} in an unsupported form (quantized, sparse or without data); save the state dict"
            " as plain CPU tensors"
        )
    # A stride of 0 can claim any size without storing it, until the tensor is copied.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointFileError(
            f"{path} is damaged or malicious: {key!r} claims shape {tuple(tensor.shape)}, but the file holds"
            f" {tensor.untyped_storage().nbytes():,} bytes for it; download it again or use another file"
        )


def _deepspeed_file(folder: Path) -> Path:
    """Return the weights file of a folder written by DeepSpeed, or by Lightning with DeepSpeed."""
    places = [folder, folder / "checkpoint"]
    latest = folder / "latest"
    if latest.is_file() and latest.stat().st_size < 256:
        name = latest.read_text(encoding="utf-8", errors="replace").strip()
        if name and Path(name).name == name:
            places.append(folder / name)
    found = next((place / _DEEPSPEED_FILE for place in places if (place / _DEEPSPEED_FILE).is_file()), None)
    if found is None:
        raise CheckpointFileError(
            f"{folder} is neither a pipeline folder (model_index.json) nor a DeepSpeed checkpoint"
            f" ({_DEEPSPEED_FILE}); pass the .ckpt, .pt or .safetensors file itself"
        )
    if (found.parent / "mp_rank_01_model_states.pt").exists():
        raise CheckpointFileError(
            f"{found.parent} is a DeepSpeed checkpoint split over several GPUs (it holds mp_rank_00 and mp_rank_01);"
            " merge it with DeepSpeed first"
        )
    return found


def _read_archive(path: Path) -> Any:
    """Read the format of `torch.save` since torch 1.6: a zip archive of uncompressed files."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OverflowError, UnicodeDecodeError) as error:
        raise _truncated(path) from error
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise CheckpointFileError(f"{path} is a TorchScript program; pass the checkpoint that it was made from")
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointFileError(
            f"{path} is not a torch checkpoint: its archive claims {claimed:,} bytes in a file of {size:,} bytes"
            " (torch never compresses), like a zip bomb; it was not unpacked"
        )
    if not any(entry.filename.endswith("/data.pkl") for entry in entries):
        raise CheckpointFileError(f"{path} is a zip archive without torch data; pass a .ckpt or .safetensors file")
    return _read_pickle(path, mapped=True)


def _read_pickle(path: Path, *, mapped: bool) -> Any:
    try:
        with warnings.catch_warnings():
            # Warnings about the pickle protocol do not concern the user.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointFileError(_refusal(path, str(error))) from None
    except EOFError:
        raise _truncated(path) from None
    except MemoryError:
        raise CheckpointFileError(f"{path} requests more memory than is available; it was not loaded") from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise CheckpointFileError(f"{path} is damaged or not a torch checkpoint: {reason}") from None


def _refusal(path: Path, message: str) -> str:
    wanted = re.search(r"GLOBAL (\S+)|unrecognized function (\S+)", message)
    if wanted is None:
        return f"{path} is damaged or not a torch checkpoint: its pickle is unreadable; copy or download it again"
    name = next(group for group in wanted.groups() if group)
    return (
        f"{path} would run code: its pickle calls {name.rstrip('.,')!r}, so it was not loaded; if you trust its"
        " source, load it with torch in a safe environment and save only its state dict (torch.save or safetensors)"
    )


def _truncated(path: Path) -> CheckpointFileError:
    size = path.stat().st_size
    return CheckpointFileError(
        f"{path} is truncated: its end is missing after {size:,} bytes; copy or download it again"
    )


def _other_content(beginning: bytes) -> str:
    """Describe a file that is not a checkpoint by its first bytes, and say what to do."""
    text = beginning.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "it is a Git LFS pointer, not the file itself; run `git lfs pull`, or download it"
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is a web page, so the download failed; download it again"
    if text.startswith(b"gguf"):
        return "it is a GGUF file; pass the .ckpt or .safetensors file that it was made from"
    return "it is in neither torch.save nor safetensors format; pass a .ckpt, .pt or .safetensors file"


def _wrapper_name(content: Mapping[Any, Any], inner: str) -> str:
    if "pytorch-lightning_version" in content:
        return "Lightning"
    if inner == "module" or "ds_version" in content:
        return "DeepSpeed"
    return ORDINARY_WRAPPING if inner == "state_dict" else f"the entry {inner!r}"


def _without_prefixes(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Remove wrapper prefixes that all keys share, repeatedly."""
    removed: list[str] = []
    while prefix := next((p for p in _WRAPPER_PREFIXES if all(key.startswith(p) for key in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
        removed.append(f"the prefix {prefix!r}")
    return tensors, removed


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"

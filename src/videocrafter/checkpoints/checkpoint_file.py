"""Open an untrusted checkpoint file and unwrap its state dict.

Nothing in the file is executed: pickles are loaded with `weights_only=True`, and a pickle that needs more than plain
data (`pickle_globals.py`) is refused.
Sizes that an archive claims are checked against the size of the file. Tensors are views into the memory-mapped file
where the format allows it, so opening a checkpoint takes no memory.
"""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from videocrafter.checkpoints.file_content import (
    CheckpointFileError,
    check_is_checkpoint,
    checkpoint_format,
    describe_content,
)
from videocrafter.checkpoints.pickle_globals import PickledArray, allowed_globals
from videocrafter.presets import CHECKPOINT_SUFFIXES, folder_hint

# Entries under which trainers store the state dict; the first one present is used.
_STATE_DICT_KEYS = ("state_dict", "module", "model_state_dict", "model")
# Prefixes that parallel wrappers add to every key.
_WRAPPER_PREFIXES = ("_forward_module.", "module.", "_orig_mod.")
ORDINARY_WRAPPING = "the entry 'state_dict'"
"""The wrapping of every released checkpoint."""

_DEEPSPEED_FILE = "mp_rank_00_model_states.pt"
_LONGEST_REASON = 160
_DEEPEST_WRAPPING = 8
# The protocol that torch.save uses, and the only one that torch reads without running code.
_SAFE_PROTOCOL = 2
# Errors that torch and its unpickler raise for damaged files.
_DAMAGE = (
    RuntimeError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    OverflowError,
    OSError,
    struct.error,
)


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
    found = check_is_checkpoint(path)
    if found == "safetensors":
        return _opened(path, read_safetensors(path))
    # The format of torch before 1.6 cannot be memory-mapped. torch takes a path of this suffix for safetensors.
    mapped = found == "torch" and not path.name.endswith(".safetensors")
    return _opened(path, _read_pickle(path, mapped=mapped))


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a safetensors file.

    Raises CheckpointFileError if it is missing or damaged, or holds something else.
    """
    if not path.is_file():
        raise CheckpointFileError(f"{path} is missing")
    found = checkpoint_format(path)
    if found != "safetensors":
        advice = "; pickled weights are refused here, save them as safetensors" if found is not None else ""
        raise CheckpointFileError(f"{path} {describe_content(path)}{advice}")
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
    while isinstance(content, Mapping) and len(wrapping) < _DEEPEST_WRAPPING:
        inner = next((key for key in _STATE_DICT_KEYS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        wrapping.append(_wrapper_name(content, inner))
        content = content[inner]
    if not isinstance(content, Mapping):
        raise CheckpointFileError(f"holds {_described(content)}; expected a state dict of named tensors")
    tensors = _tensors_of(content)
    if not tensors:
        raise CheckpointFileError(_without_tensors(content))
    num_ignored = len(content) - len(tensors)
    tensors, prefixes = _without_prefixes(tensors)
    return tensors, (*wrapping, *prefixes), num_ignored


def _tensors_of(content: Mapping[Any, Any]) -> dict[str, Tensor]:
    """Return the tensors and numpy arrays of numbers among the named entries."""
    values = {
        key: value.as_tensor() if isinstance(value, PickledArray) else value
        for key, value in content.items()
        if isinstance(key, str)
    }
    return {key: value for key, value in values.items() if isinstance(value, Tensor)}


def _without_tensors(content: Mapping[Any, Any]) -> str:
    """Say what a mapping holds instead of named tensors, and what to do."""
    nested = [key for key, value in content.items() if isinstance(value, Mapping) and _tensors_of(value)]
    if nested:
        names = ", ".join(repr(key) for key in nested[:5])
        return (
            f"holds its tensors under {names}, not at its top level or under {', '.join(_STATE_DICT_KEYS)}; save the"
            " wanted entry alone with torch.save"
        )
    names = ", ".join(repr(key)[:80] for key in list(content)[:5])
    return f"holds no named tensors, {f'only {names}' if names else 'it is empty'}; expected a state dict"


def _opened(path: Path, content: Any) -> CheckpointFile:
    try:
        tensors, wrapping, num_ignored = unwrap(content)
    except CheckpointFileError as error:
        raise CheckpointFileError(f"{path} {error}") from None
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
            f"{path} is damaged: {key!r} claims shape {tuple(tensor.shape)}, but the file holds"
            f" {tensor.untyped_storage().nbytes():,} bytes for it; download it again or use another file"
        )


def _deepspeed_file(folder: Path) -> Path:
    """Return the weights file of a folder written by DeepSpeed, or by Lightning with DeepSpeed."""
    places = [folder, folder / "checkpoint"]
    latest = folder / "latest"
    if latest.is_file() and latest.stat().st_size < 256:
        # Bytes that are not text name no folder, and are then missing in the message below.
        with suppress(UnicodeDecodeError):
            name = latest.read_text(encoding="utf-8").strip()
            if name and Path(name).name == name:
                places.append(folder / name)
    found = next((place / _DEEPSPEED_FILE for place in places if (place / _DEEPSPEED_FILE).is_file()), None)
    if found is None:
        raise CheckpointFileError(
            f"{folder} is neither a pipeline folder (model_index.json) nor a DeepSpeed checkpoint"
            f" ({_DEEPSPEED_FILE}); {_folder_advice(folder)}"
        )
    if (found.parent / "mp_rank_01_model_states.pt").exists():
        raise CheckpointFileError(
            f"{found.parent} is a DeepSpeed checkpoint split over several GPUs (it holds mp_rank_00 and mp_rank_01);"
            " merge it with DeepSpeed first"
        )
    return found


def _folder_advice(folder: Path) -> str:
    hint = folder_hint(folder)
    if hint:
        return hint
    if any(folder.glob("*.index.json")):
        return "it holds a model in several files, which cannot be converted; merge them into one .safetensors file"
    files = sorted(one.name for one in folder.iterdir() if one.suffix.lower() in CHECKPOINT_SUFFIXES)
    return f"pass a file in it, such as {folder / files[0]}" if files else "pass a .ckpt, .pt or .safetensors file"


def _read_pickle(path: Path, *, mapped: bool) -> Any:
    try:
        with (
            warnings.catch_warnings(),
            torch.serialization.safe_globals(allowed_globals()),
            path.open("rb") as file,
        ):
            # Warnings about the pickle protocol do not concern the user.
            warnings.simplefilter("ignore")
            source: Any = str(path) if mapped else file
            return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointFileError(f"{path} {_refusal(path, str(error))}") from None
    except EOFError:
        raise CheckpointFileError(_truncated(path)) from None
    except MemoryError:
        raise CheckpointFileError(f"{path} requests more memory than is available; it was not loaded") from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        if "unexpected EOF" in reason:
            raise CheckpointFileError(_truncated(path)) from None
        raise CheckpointFileError(
            f"{path} is damaged, or is a pickle that torch.save did not write ({reason}); copy or download it again"
        ) from None


def _truncated(path: Path) -> str:
    return f"{path} is truncated: its end is missing after {path.stat().st_size:,} bytes; copy or download it again"


def _refusal(path: Path, message: str) -> str:
    """Say why torch refused a pickle: a class that is not plain data, another protocol, or damage."""
    wanted = re.search(
        r"GLOBAL (\S+)|unrecognized function (\S+)|[Cc]an only \S+ (?:new )?\S+ for .* got (.+)", message
    )
    if wanted is not None:
        name = next(group for group in wanted.groups() if group).rstrip(".,")
        return (
            f"was not loaded: its pickle refers to {name[:120]!r}, which is not plain data, and restoring it could"
            " run code; if you trust the source, load the file with torch in an isolated environment and save only"
            " its state dict (torch.save or safetensors)"
        )
    protocol = _pickle_protocol(path)
    if protocol not in (None, _SAFE_PROTOCOL):
        return (
            f"was not loaded: it was written with pickle protocol {protocol}, but only protocol {_SAFE_PROTOCOL}, the"
            " default of torch.save, can be read without running code; save its state dict again with torch.save"
        )
    return "is damaged, or is a pickle that torch.save did not write; copy or download it again"


def _pickle_protocol(path: Path) -> int | None:
    """Return the protocol that a pickle, or the pickle in a torch archive, states at its beginning."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                name = next(name for name in archive.namelist() if name.endswith("/data.pkl"))
                with archive.open(name) as file:
                    beginning = file.read(2)
        else:
            with path.open("rb") as opened:
                beginning = opened.read(2)
    except (OSError, zipfile.BadZipFile, StopIteration, NotImplementedError):
        return None
    return beginning[1] if len(beginning) == 2 and beginning[:1] == b"\x80" else None


def _described(content: Any) -> str:
    if isinstance(content, Tensor):
        return "a single tensor"
    name = "array" if isinstance(content, PickledArray) else type(content).__name__
    return f"an {name}" if name[0].lower() in "aeiou" else f"a {name}"


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

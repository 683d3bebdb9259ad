"""Open a checkpoint file that nobody vouches for, and take off what others wrapped around its tensors.

Nothing in the file is executed: pickles are read with torch's `weights_only`, and one that asks for more is
refused. Nothing is believed either: sizes that an archive only claims are compared with the file's. Tensors
are views into the mapped file wherever its format allows that, so that opening costs no memory.
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

# Where trainers put the state dict; the first that is there counts.
_STATE_DICT_KEYS = ("state_dict", "module", "model_state_dict", "model")
# What parallel wrappers put before every key.
_WRAPPER_PREFIXES = ("_forward_module.", "module.", "_orig_mod.")
ORDINARY_WRAPPING = "the entry 'state_dict'"
"""The one wrapping of a released checkpoint."""

_DEEPSPEED_FILE = "mp_rank_00_model_states.pt"
_PICKLE_MAGIC = b"\x80"
_ZIP_MAGIC = b"PK\x03\x04"
_AVERAGED = "model_ema."
_AVERAGED_COUNTERS = ("model_ema.decay", "model_ema.num_updates")
_LONGEST_REASON = 160
# What torch and its unpickler stumble over in a damaged file.
_DAMAGE = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, AssertionError, OverflowError, OSError)


class CheckpointFileError(ValueError):
    """A file that cannot be read as a checkpoint; the message is one line and says what would work."""


@dataclass(frozen=True, kw_only=True)
class OfficialFile:
    """The tensors of a checkpoint file, whatever it is a checkpoint of.

    Attributes:
        path: the file that holds the tensors; for a DeepSpeed folder, the one inside it.
        tensors: by their key, without any wrapper's prefix.
        wrapping: what was taken off, outermost first, in words for people.
        num_ignored: entries beside the tensors that are none.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    wrapping: tuple[str, ...] = ()
    num_ignored: int = 0


def open_checkpoint_file(path: Path) -> OfficialFile:
    """Open a `.ckpt`, `.pt` or `.safetensors` file, or a DeepSpeed folder.

    The format follows from the content, not from the name.

    Raises:
        CheckpointFileError: missing, empty, truncated, of another format, with code in it, or with sizes that
            do not fit the file.
    """
    path = _deepspeed_file(path) if path.is_dir() else path
    if not path.exists():
        raise CheckpointFileError(f"{path} does not exist; give a .ckpt, .pt or .safetensors file")
    with path.open("rb") as file:
        beginning = file.read(512)
    if not beginning:
        raise CheckpointFileError(f"{path} is empty (0 bytes); copy or download it again")
    if beginning.startswith(_ZIP_MAGIC):
        content = _read_archive(path)
    elif beginning.startswith(_PICKLE_MAGIC):
        # The format of torch before 1.6 cannot be mapped.
        content = _read_pickle(path, mapped=False)
    elif beginning[8:9] == b"{":
        content = _read_safetensors(path)
    else:
        raise CheckpointFileError(f"{path} is no checkpoint: {_what_else(beginning)}")
    return _opened(path, content)


def unwrap(content: Any) -> tuple[dict[str, Tensor], tuple[str, ...], int]:
    """The state dict inside of what a file holds; what was taken off; and how many entries are no tensors.

    Knows Lightning (`state_dict`), DeepSpeed (`module`, and keys that begin with `_forward_module.` or
    `module.`), DistributedDataParallel and `torch.compile`, in any nesting. Raises CheckpointFileError if there
    is no state dict.
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


def averaged_weights(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Which key under `model_ema.` averages which key under `model.`; empty if the file holds no average.

    The official trainer keeps the exponential average of the denoiser under its keys without their dots.
    """
    dotless = {
        _AVERAGED + key.removeprefix("model.").replace(".", ""): key for key in tensors if key.startswith("model.")
    }
    return {key: dotless[key] for key in tensors if key in dotless}


def is_averaged(key: str) -> bool:
    """Whether a key belongs to the trainer's average, its two counters included."""
    return key.startswith(_AVERAGED)


def with_averaged_weights(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The same state dict with the averages in the place of the weights they average.

    Raises CheckpointFileError if the file holds none.
    """
    averaged = averaged_weights(tensors)
    if not averaged:
        raise CheckpointFileError("the checkpoint holds no averaged weights (model_ema.*); leave out --ema")
    strange = [key for key in tensors if is_averaged(key) and key not in averaged and key not in _AVERAGED_COUNTERS]
    if strange:
        raise CheckpointFileError(
            f"{len(strange)} averaged tensors fit no weight, {strange[0]!r} among them; leave out --ema"
        )
    plain = {key: value for key, value in tensors.items() if not is_averaged(key)}
    return plain | {key: tensors[average] for average, key in averaged.items()}


def _opened(path: Path, content: Any) -> OfficialFile:
    try:
        tensors, wrapping, num_ignored = unwrap(content)
    except CheckpointFileError as error:
        raise CheckpointFileError(f"{path} is no checkpoint: {error}") from None
    if all(tensor.numel() == 0 for tensor in tensors.values()):
        raise CheckpointFileError(
            f"{path} holds only empty tensors: DeepSpeed's ZeRO stage 3 keeps the weights in other files; join"
            " them with the zero_to_fp32.py that lies beside them and convert its output"
        )
    for key, tensor in tensors.items():
        _check_tensor(path, key, tensor)
    return OfficialFile(path=path, tensors=tensors, wrapping=wrapping, num_ignored=num_ignored)


def _check_tensor(path: Path, key: str, tensor: Tensor) -> None:
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise CheckpointFileError(
            f"{path} holds {key!r} in a form that is not supported (quantized, sparse or without data);"
            " expected plain tensors"
        )
    # A stride of 0 claims any size at no cost, until somebody copies the tensor.
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        raise CheckpointFileError(
            f"{path} is damaged or malicious: {key!r} claims shape {tuple(tensor.shape)}, but the file holds"
            f" {tensor.untyped_storage().nbytes():,} bytes for it"
        )


def _deepspeed_file(folder: Path) -> Path:
    """The file with the weights in a folder that DeepSpeed, or Lightning through it, has written."""
    places = [folder, folder / "checkpoint"]
    latest = folder / "latest"
    if latest.is_file() and latest.stat().st_size < 256:
        name = latest.read_text(encoding="utf-8", errors="replace").strip()
        if name and Path(name).name == name:
            places.append(folder / name)
    found = next((place / _DEEPSPEED_FILE for place in places if (place / _DEEPSPEED_FILE).is_file()), None)
    if found is None:
        raise CheckpointFileError(
            f"{folder} is a folder, but neither a pipeline folder (model_index.json) nor a DeepSpeed checkpoint"
            f" ({_DEEPSPEED_FILE}); give the .ckpt, .pt or .safetensors file itself"
        )
    if (found.parent / "mp_rank_01_model_states.pt").exists():
        raise CheckpointFileError(
            f"{found.parent} is a DeepSpeed checkpoint split over several GPUs (mp_rank_01 beside mp_rank_00);"
            " join it with DeepSpeed first"
        )
    return found


def _read_archive(path: Path) -> Any:
    """Read what `torch.save` writes since torch 1.6: a zip archive of stored, never compressed, files."""
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OverflowError, UnicodeDecodeError) as error:
        raise _truncated(path) from error
    if any(entry.filename.endswith("/constants.pkl") for entry in entries):
        raise CheckpointFileError(f"{path} is a TorchScript program; give the checkpoint that it was made from")
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointFileError(
            f"{path} is no checkpoint of torch: its archive claims {claimed:,} bytes inside a file of {size:,}"
            " (torch never compresses), as a zip bomb does; it was not unpacked"
        )
    if not any(entry.filename.endswith("/data.pkl") for entry in entries):
        raise CheckpointFileError(f"{path} is a zip archive, but not one of torch; give a .ckpt or .safetensors file")
    return _read_pickle(path, mapped=True)


def _read_pickle(path: Path, *, mapped: bool) -> Any:
    try:
        with warnings.catch_warnings():
            # About the protocol of a pickle, which is no concern of the user's.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise CheckpointFileError(_refusal(path, str(error))) from None
    except EOFError:
        raise _truncated(path) from None
    except MemoryError:
        raise CheckpointFileError(f"{path} asks for more memory than there is; it was not loaded") from None
    except _DAMAGE as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise CheckpointFileError(f"{path} is damaged or no checkpoint of torch: {reason}") from None


def _refusal(path: Path, message: str) -> str:
    wanted = re.search(r"GLOBAL (\S+)|unrecognized function (\S+)", message)
    if wanted is None:
        return f"{path} is damaged or no checkpoint of torch: its pickle cannot be read; copy or download it again"
    name = next(group for group in wanted.groups() if group)
    return (
        f"{path} wants to run code: its pickle asks for {name.rstrip('.,')!r}, so it was not loaded; if you trust"
        " its source, load it with torch where that is safe and save only its state dict (torch.save or safetensors)"
    )


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:_LONGEST_REASON]
        raise CheckpointFileError(
            f"{path} is a truncated or damaged safetensors file ({reason}); copy or download it again"
        ) from None


def _truncated(path: Path) -> CheckpointFileError:
    size = path.stat().st_size
    return CheckpointFileError(
        f"{path} is truncated: it begins like a checkpoint but has no end ({size:,} bytes); copy or download it again"
    )


def _what_else(beginning: bytes) -> str:
    """What a file that begins like this seems to be."""
    text = beginning.lstrip().lower()
    if text.startswith(b"version https://git-lfs"):
        return "it is a pointer of Git LFS, not the file itself; run `git lfs pull`, or download it"
    if text.startswith((b"<!doctype html", b"<html")):
        return "it is a web page, so a download went wrong; download it again"
    if text.startswith(b"gguf"):
        return "it is a GGUF file; give the .ckpt or .safetensors file that it was made from"
    return "neither a file of torch.save nor of safetensors; give a .ckpt, .pt or .safetensors file"


def _wrapper_name(content: Mapping[Any, Any], inner: str) -> str:
    if "pytorch-lightning_version" in content:
        return "Lightning"
    if inner == "module" or "ds_version" in content:
        return "DeepSpeed"
    return ORDINARY_WRAPPING if inner == "state_dict" else f"the entry {inner!r}"


def _without_prefixes(tensors: dict[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Take off, again and again, a wrapper's prefix that every key has."""
    removed: list[str] = []
    while prefix := next((p for p in _WRAPPER_PREFIXES if all(key.startswith(p) for key in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
        removed.append(f"the prefix {prefix!r}")
    return tensors, removed


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0].lower() in "aeiou" else f"a {noun}"

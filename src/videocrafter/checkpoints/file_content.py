"""Recognise a file by its content, whatever its name: the checkpoint formats, and files passed by mistake."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

CheckpointFormat = Literal["torch", "legacy torch", "safetensors"]

TORCH_ARCHIVE = "is a file of torch.save"
"""Description of the zip archive that `torch.save` writes."""

_BEGINNING = 4096
_ZIP = b"PK\x03\x04"
_PICKLE = b"\x80"
_LARGEST_HEADER = 100 * 2**20
_UNPACK = "unpack it and pass the checkpoint in it"
_OTHER = "pass a checkpoint (.ckpt, .pt or .safetensors)"
# Beginnings of other formats: bytes, name with its article, advice.
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (
        b"version https://git-lfs",
        "a Git LFS pointer, not the file itself",
        "run `git lfs pull`, or download the file",
    ),
    (b"GGUF", "a GGUF file", "pass the .ckpt or .safetensors file that it was made from"),
    (b"\x1f\x8b", "compressed with gzip", _UNPACK),
    (b"BZh", "compressed with bzip2", _UNPACK),
    (b"\xfd7zXZ\x00", "compressed with xz", _UNPACK),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd", _UNPACK),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive", _UNPACK),
    (b"Rar!", "a RAR archive", _UNPACK),
    (b"PK\x05\x06", "an empty zip archive", "download it again"),
    (b"\x89HDF", "an HDF5 file (Keras or TensorFlow)", _OTHER),
    (b"\x93NUMPY", "a numpy array", _OTHER),
    (b"\x89PNG", "a PNG image", _OTHER),
    (b"\xff\xd8\xff", "a JPEG image", _OTHER),
    (b"GIF8", "a GIF image", _OTHER),
    (b"%PDF", "a PDF document", _OTHER),
)


class CheckpointFileError(ValueError):
    """A file that cannot be read as a checkpoint; the message is one line and says what to do."""


def checkpoint_format(path: Path) -> CheckpointFormat | None:
    """Return the checkpoint format of a file, from its first bytes; None for any other content.

    "torch" is the zip archive that `torch.save` writes since torch 1.6, "legacy torch" the pickle that it wrote
    before; other zip archives and pickles also match.
    """
    beginning = _read_beginning(path)
    # First, because the length of a header may begin with the bytes of a pickle.
    header_length = int.from_bytes(beginning[:8], "little")
    if beginning[8:9] == b"{" and header_length <= _LARGEST_HEADER:
        return "safetensors"
    if beginning.startswith(_ZIP):
        return "torch"
    return "legacy torch" if beginning.startswith(_PICKLE) else None


def check_is_checkpoint(path: Path) -> CheckpointFormat:
    """Return the format of a checkpoint file from its first bytes and, for an archive, its directory.

    Raises:
        CheckpointFileError: the file is missing or holds something else, or its archive claims impossible sizes.
    """
    if not path.exists():
        raise CheckpointFileError(f"{path} does not exist; pass a .ckpt, .pt or .safetensors file")
    if not path.is_file():
        raise CheckpointFileError(f"{path} is not a regular file; pass a .ckpt, .pt or .safetensors file")
    found = checkpoint_format(path)
    if found is None:
        raise CheckpointFileError(f"{path} {describe_content(path)}")
    if found == "torch":
        _check_archive(path)
    return found


def describe_content(path: Path) -> str:
    """Return what a file is and what to do with it, such as "is a GGUF file; pass ...", to follow its path."""
    if path.is_dir():
        return f"is a folder; {_OTHER}"
    beginning = _read_beginning(path)
    if not beginning:
        return "is empty (0 bytes); copy or download it again"
    found = checkpoint_format(path)
    if found == "torch":
        return _describe_zip(path)
    if found == "legacy torch":
        return "is a pickle file"
    if found == "safetensors":
        return "is a safetensors file"
    for signature, name, advice in _SIGNATURES:
        if beginning.startswith(signature):
            return f"is {name}; {advice}"
    if beginning[4:8] == b"ftyp":
        return f"is an MP4 or MOV video; {_OTHER}"
    if beginning[257:262] == b"ustar":
        return f"is a tar archive; {_UNPACK}"
    if not any(beginning):
        return "begins with zero bytes only, so the download is incomplete; download it again"
    return _describe_text(beginning)


def _describe_text(beginning: bytes) -> str:
    text = beginning.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<!--")):
        return "is a web page, not the file itself, so the download failed; download it again"
    if text.startswith(b"{"):
        if b'"weight_map"' in text:
            return "is the index of a model in several files; pass the folder that holds it, or the model in one file"
        return f"looks like a JSON file; {_OTHER}"
    return f"is in neither torch.save nor safetensors format; {_OTHER}"


def _describe_zip(path: Path) -> str:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OverflowError, UnicodeDecodeError, NotImplementedError, ValueError):
        return (
            f"is truncated or damaged: it begins as a zip archive, but the directory at its end is missing"
            f" (it has {path.stat().st_size:,} bytes); copy or download it again"
        )
    if any(name.endswith("/constants.pkl") for name in names):
        return "is a TorchScript program; pass the checkpoint that it was made from"
    if any(name.endswith("/data.pkl") for name in names):
        return TORCH_ARCHIVE
    if names and all(name.endswith(".npy") for name in names):
        return f"is an archive of numpy arrays (.npz); {_OTHER}"
    shown = ", ".join(names[:3]) or "nothing"
    return f"is a zip archive without torch data (it holds {shown[:120]}); {_UNPACK}"


def _read_beginning(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_BEGINNING)


def _check_archive(path: Path) -> None:
    """Check the directory of a zip archive as `torch.save` writes it since torch 1.6: uncompressed files."""
    description = describe_content(path)
    if description != TORCH_ARCHIVE:
        raise CheckpointFileError(f"{path} {description}")
    size = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    claimed = sum(entry.file_size for entry in entries)
    if claimed > size or any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointFileError(
            f"{path} was not unpacked: its archive is compressed or claims {claimed:,} bytes in a file of {size:,}"
            " bytes, but torch.save never compresses; pass the file as torch.save wrote it"
        )

"""Recognise files by their content."""

import gzip
import io
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from videocrafter.checkpoints.file_content import TORCH_ARCHIVE, checkpoint_format, describe_content


def zipped(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def array_archive() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(2))
    return buffer.getvalue()


@pytest.mark.parametrize("name", ["a.ckpt", "a.safetensors", "a.bin", "a"])
def test_the_name_does_not_matter(tmp_path: Path, name: str):
    path = tmp_path / name
    torch.save({"x": torch.zeros(2)}, path)
    assert (checkpoint_format(path), describe_content(path)) == ("torch", TORCH_ARCHIVE)
    torch.save({"x": torch.zeros(2)}, path, _use_new_zipfile_serialization=False)
    assert checkpoint_format(path) == "legacy torch"
    save_file({"x": torch.zeros(2)}, path)
    assert checkpoint_format(path) == "safetensors"


def test_safetensors_whose_header_length_looks_like_a_pickle(tmp_path: Path):
    """The first byte is the low byte of the header's length, and may be that of a pickle."""
    path = tmp_path / "a.safetensors"
    first_bytes = set()
    for length in range(200):
        save_file({"x" * (length + 1): torch.zeros(1)}, path)
        first_bytes.add(path.read_bytes()[:1])
        assert checkpoint_format(path) == "safetensors"
    assert b"\x80" in first_bytes


@pytest.mark.parametrize(
    ("data", "description"),
    [
        (b"", "is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "is a Git LFS pointer.*git lfs pull"),
        (b"\n <!DOCTYPE html><html>", "is a web page"),
        (b"\xef\xbb\xbf<html>", "is a web page"),
        (b'{"metadata": {}, "weight_map": {}}', "is the index of a model in several files"),
        (b'{"error": "not found"}', "looks like a JSON file"),
        (b"GGUF\x03\x00\x00\x00", "is a GGUF file"),
        (gzip.compress(b"x", mtime=0), "is compressed with gzip; unpack it"),
        (bytes(5000), "begins with zero bytes only, so the download is incomplete"),
        (b"\x89PNG\r\n", "is a PNG image"),
        (b"\0\0\0 ftypisom", "is an MP4 or MOV video"),
        (bytes(257).replace(b"\0", b"a", 1) + b"ustar", "is a tar archive"),
        (zipped(**{"model.ckpt": b"x"}), "is a zip archive without torch data .it holds model.ckpt.; unpack it"),
        (array_archive(), "is an archive of numpy arrays"),
        (zipped(**{"a/data.pkl": b"", "a/constants.pkl": b""}), "is a TorchScript program"),
        (zipped(**{"a/data.pkl": b""})[:-10], "is truncated or damaged"),
        (b"hello world, this is text", "is in neither torch.save nor safetensors format"),
    ],
)
def test_files_passed_by_mistake(tmp_path: Path, data: bytes, description: str):
    (tmp_path / "a.safetensors").write_bytes(data)
    with_name = describe_content(tmp_path / "a.safetensors")
    assert re.match(description, with_name)
    assert describe_content(tmp_path).startswith("is a folder")


@given(data=st.binary(max_size=300))
def test_any_bytes_have_a_description(tmp_path_factory: pytest.TempPathFactory, data: bytes):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(data)
    checkpoint_format(path)
    assert describe_content(path)

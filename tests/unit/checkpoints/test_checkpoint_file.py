"""Open untrusted checkpoint files."""

import argparse
import io
import os
import pickle
import struct
import sys
import types
import zipfile
from collections import defaultdict
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from safetensors.torch import save_file
from torch import Tensor

from videocrafter.checkpoints.checkpoint_file import (
    CheckpointFileError,
    open_checkpoint_file,
    unwrap,
)
from videocrafter.checkpoints.pickle_globals import allowed_globals


def weights() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        "model.diffusion_model.out.2.weight": torch.randn(4, 3, generator=generator),
        "first_stage_model.quant_conv.bias": torch.randn(5, generator=generator).half(),
        "betas": torch.linspace(0, 1, 7, dtype=torch.float64),
    }


def same(got: Any, wanted: dict[str, Tensor]) -> bool:
    return got.keys() == wanted.keys() and all(
        torch.equal(got[key], value) and got[key].dtype == value.dtype for key, value in wanted.items()
    )


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointFileError) as caught:
        open_checkpoint_file(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


# Accepted files


def test_archives_are_mapped_and_not_read(tmp_path: Path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": weights()}, path)
    opened = open_checkpoint_file(path)
    assert same(opened.tensors, weights())
    assert opened.wrapping == ("the entry 'state_dict'",)
    storages = {value.untyped_storage().data_ptr() for value in opened.tensors.values()}
    spread = max(storages) - min(storages)
    assert spread < path.stat().st_size, "all tensors are views into one mapping of the file"


def test_the_format_of_torch_before_1_6_is_read(tmp_path: Path):
    path = tmp_path / "old.pt"
    torch.save(weights(), path, _use_new_zipfile_serialization=False)
    assert same(open_checkpoint_file(path).tensors, weights())


def test_safetensors_are_known_by_their_content(tmp_path: Path):
    path = tmp_path / "named_wrongly.ckpt"
    save_file(weights(), path)
    assert same(open_checkpoint_file(path).tensors, weights())


@pytest.mark.parametrize("place", [".", "checkpoint", "global_step7"])
def test_deepspeed_folders(tmp_path: Path, place: str):
    folder = tmp_path / place
    folder.mkdir(exist_ok=True)
    if place.startswith("global"):
        (tmp_path / "latest").write_text(f"{place}\n")
    content = {"module": {f"_forward_module.{key}": value for key, value in weights().items()}, "ds_version": "0.9"}
    torch.save(content, folder / "mp_rank_00_model_states.pt")
    opened = open_checkpoint_file(tmp_path)
    assert same(opened.tensors, weights())
    assert opened.wrapping == ("DeepSpeed", "the prefix '_forward_module.'")


def test_what_is_no_tensor_is_counted(tmp_path: Path):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": {**weights(), "note": "hello"}, "pytorch-lightning_version": "1.9", "epoch": 3}, path)
    opened = open_checkpoint_file(path)
    assert same(opened.tensors, weights())
    assert opened.wrapping == ("Lightning",)
    assert opened.num_ignored == 1


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("name", ["a.safetensors", "a.ckpt", "a.bin"])
def test_pickles_are_known_by_their_content(tmp_path: Path, name: str, new_format: bool):
    torch.save({"state_dict": weights()}, tmp_path / name, _use_new_zipfile_serialization=new_format)
    assert same(open_checkpoint_file(tmp_path / name).tensors, weights())


def test_numpy_values_and_other_plain_data_are_ignored_or_read(tmp_path: Path):
    content = {
        "state_dict": {**weights(), "scale_arr": np.linspace(1, 0.5, 6).reshape(2, 3), "best": np.float64(0.1)},
        "epoch": np.int64(3),
        "best_model_score": np.float32(0.5),
        "is_best": np.bool_(True),
        "dtypes": [np.dtype("float32"), np.float16],
        "rng": np.random.RandomState(0).get_state(),
        "names": np.array(["a", "b"]),
        "objects": np.array([{"a": 1}], dtype=object),
        "path": PurePosixPath("/a/b"),
        "hyper_parameters": argparse.Namespace(lr=1e-4, layers=[1, 2]),
        "metrics": defaultdict(list, {"loss": [1.0]}),
        "pytorch-lightning_version": "2.0",
    }
    torch.save(content, tmp_path / "model.ckpt")
    opened = open_checkpoint_file(tmp_path / "model.ckpt")
    wanted = {**weights(), "scale_arr": torch.linspace(1, 0.5, 6, dtype=torch.float64).reshape(2, 3)}
    assert same(opened.tensors, wanted)
    assert (opened.wrapping, opened.num_ignored) == (("Lightning",), 1)


@pytest.mark.parametrize("module", ["numpy.core.multiarray", "numpy._core.multiarray"])
def test_numbers_of_numpy_1_and_2(tmp_path: Path, module: str):
    """The modules have the same length but for an underscore, so the pickle is rewritten."""
    torch.save(
        {"state_dict": weights(), "epoch": np.float64(3)}, tmp_path / "a.pt", _use_new_zipfile_serialization=False
    )
    data = (tmp_path / "a.pt").read_bytes()
    written = b"cnumpy._core.multiarray\n" if b"cnumpy._core.multiarray\n" in data else b"cnumpy.core.multiarray\n"
    (tmp_path / "a.pt").write_bytes(data.replace(written, b"c" + module.encode() + b"\n"))
    assert same(open_checkpoint_file(tmp_path / "a.pt").tensors, weights())


@given(
    array=arrays(
        st.sampled_from(["<f4", ">f8", "<i2", ">u1", "?", "<U3", "<c8"]), array_shapes(min_dims=0, max_dims=3)
    )
)
def test_arrays_become_tensors_of_equal_values(array: Any):
    buffer = io.BytesIO()
    torch.save(array, buffer)
    buffer.seek(0)
    with torch.serialization.safe_globals(allowed_globals()):
        read = torch.load(buffer, weights_only=True).as_tensor()
    if array.dtype.kind in "biuf":
        assert np.array_equal(read.numpy(), array, equal_nan=array.dtype.kind == "f")
    else:
        assert read is None


def test_lightning_dictionaries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    module = types.ModuleType("lightning.fabric.utilities.data")
    module.AttributeDict = type("AttributeDict", (dict,), {"__module__": module.__name__})  # type: ignore[attr-defined]
    for name in ("lightning", "lightning.fabric", "lightning.fabric.utilities"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    torch.save({"state_dict": weights(), "hparams": module.AttributeDict(lr=1)}, tmp_path / "model.ckpt")
    assert same(open_checkpoint_file(tmp_path / "model.ckpt").tensors, weights())


PREFIXES = ("module.", "_forward_module.", "_orig_mod.")
ENTRIES = ("state_dict", "module", "model_state_dict", "model")


@given(
    names=st.lists(st.from_regex(r"[a-z]{1,5}(\.[a-z0-9]{1,4}){0,3}", fullmatch=True), min_size=1, unique=True),
    entries=st.lists(st.sampled_from(ENTRIES), max_size=3),
    prefixes=st.lists(st.sampled_from(PREFIXES), max_size=4),
    extra=st.dictionaries(st.sampled_from(["epoch", "optimizer_states", "ds_config"]), st.integers(), max_size=3),
)
def test_every_nesting_of_wrappers_is_taken_off(
    names: list[str], entries: list[str], prefixes: list[str], extra: dict[str, int]
):
    names = [name for name in names if not name.startswith("module.")] or ["betas"]
    inner = {name: torch.tensor(float(index)) for index, name in enumerate(names)}
    content: Any = {"".join(prefixes) + name: value for name, value in inner.items()}
    for entry in reversed(entries):
        content = {**extra, entry: content}
    tensors, wrapping, ignored = unwrap(content)
    assert same(tensors, inner)
    assert len(wrapping) == len(entries) + len(prefixes)
    assert ignored == 0


def test_a_prefix_that_not_every_key_has_is_part_of_the_name():
    mixed = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert unwrap(mixed)[0].keys() == mixed.keys()


# Rejected files, with one line


class RunsCode:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_with_code_is_refused_by_name_and_not_run(tmp_path: Path, new_format: bool):
    path, mark = tmp_path / "evil.ckpt", tmp_path / "it_ran"
    torch.save({"state_dict": weights(), "callback": RunsCode(mark)}, path, _use_new_zipfile_serialization=new_format)
    message = refusal(path)
    assert "could run code" in message
    assert ".mkdir'" in message
    assert not mark.exists()


def test_other_classes_are_named_without_blame(tmp_path: Path):
    torch.save({"state_dict": weights(), "model": torch.nn.Linear(1, 1)}, tmp_path / "model.ckpt")
    message = refusal(tmp_path / "model.ckpt")
    assert "'torch.nn.modules.linear.Linear', which is not plain data" in message
    assert "malicious" not in message


@pytest.mark.parametrize("new_format", [True, False])
def test_other_protocols_are_named(tmp_path: Path, new_format: bool):
    path = tmp_path / "model.ckpt"
    torch.save(weights(), path, pickle_protocol=4, _use_new_zipfile_serialization=new_format)
    assert "written with pickle protocol 4" in refusal(path)


def test_tensors_below_another_name_are_pointed_out(tmp_path: Path):
    torch.save({"net": weights(), "epoch": 3}, tmp_path / "model.ckpt")
    assert "holds its tensors under 'net'" in refusal(tmp_path / "model.ckpt")
    endless: dict[str, Any] = {}
    endless["state_dict"] = endless
    torch.save(endless, tmp_path / "model.ckpt")
    assert "holds no named tensors" in refusal(tmp_path / "model.ckpt")


@settings(max_examples=60, deadline=None)
@given(data=st.data(), new_format=st.booleans())
def test_damaged_bytes_are_an_error_of_one_line(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, new_format: bool
):
    path = tmp_path_factory.getbasetemp() / "damaged.ckpt"
    torch.save({"state_dict": weights(), "epoch": np.float64(3)}, path, _use_new_zipfile_serialization=new_format)
    content = bytearray(path.read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=4)):
        content[place] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    # Any other error is a fault.
    with suppress(CheckpointFileError):
        open_checkpoint_file(path)


def test_a_plain_pickle_with_code_is_refused_too(tmp_path: Path):
    path, mark = tmp_path / "evil.pt", tmp_path / "it_ran"
    path.write_bytes(pickle.dumps(RunsCode(mark)))
    refusal(path)
    assert not mark.exists()


@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 0.999])
def test_truncated_files(tmp_path: Path, share: float, new_format: bool):
    path = tmp_path / "model.ckpt"
    torch.save({"state_dict": weights()}, path, _use_new_zipfile_serialization=new_format)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert str(path) in refusal(path)


def test_a_truncated_archive_is_called_so(tmp_path: Path):
    path = tmp_path / "model.ckpt"
    torch.save(weights(), path)
    path.write_bytes(path.read_bytes()[:-100])
    assert "truncated" in refusal(path)


def test_truncated_safetensors(tmp_path: Path):
    path = tmp_path / "model.safetensors"
    save_file(weights(), path)
    path.write_bytes(path.read_bytes()[:-3])
    assert "truncated or damaged safetensors" in refusal(path)


def test_compressed_archives_are_not_unpacked(tmp_path: Path):
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/data/0", bytes(10**7))
    message = refusal(path)
    assert "10,000,0" in message
    assert "was not unpacked" in message


def test_archives_whose_entries_overlap_are_not_unpacked(tmp_path: Path):
    """All directory entries point to the same bytes, so together they claim more than the file holds."""
    path = tmp_path / "bomb.ckpt"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a/data.pkl", b"x" * 5000)
    data = buffer.getvalue()
    start = data.index(b"PK\x01\x02")
    entry, end = data[start : data.index(b"PK\x05\x06")], data[data.index(b"PK\x05\x06") :]
    end = end[:8] + struct.pack("<HHII", 40, 40, 40 * len(entry), start) + end[20:]
    path.write_bytes(data[:start] + entry * 40 + end)
    assert "was not unpacked" in refusal(path)


def test_a_tensor_that_claims_more_than_the_file_holds(tmp_path: Path):
    path = tmp_path / "model.ckpt"
    torch.save({"huge": torch.ones(1).expand(10**6, 10**6)}, path)
    message = refusal(path)
    assert "'huge' claims shape (1000000, 1000000)" in message


def test_a_pickle_that_asks_for_all_memory(tmp_path: Path):
    class Greedy:
        def __reduce__(self) -> Any:
            return bytearray, (10**15,)

    torch.save({"a": torch.ones(1), "b": Greedy()}, tmp_path / "model.ckpt")
    assert "more memory than is available" in refusal(tmp_path / "model.ckpt")


def test_other_files(tmp_path: Path):
    def written(name: str, data: bytes) -> Path:
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    assert "empty (0 bytes)" in refusal(written("empty.ckpt", b""))
    assert "does not exist" in refusal(tmp_path / "nowhere.ckpt")
    assert "git lfs pull" in refusal(written("p.ckpt", b"version https://git-lfs.github.com/spec/v1\noid sha256:0"))
    assert "web page" in refusal(written("p.ckpt", b"\n<!DOCTYPE html><html>"))
    assert "neither" in refusal(written("notes.ckpt", b"just some text, long enough"))
    assert "pass a file in it, such as" in refusal(tmp_path)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("photo.png", b"")
    assert "without torch data" in refusal(written("photos.zip", buffer.getvalue()))


def test_checkpoints_without_usable_tensors(tmp_path: Path):
    path = tmp_path / "model.ckpt"
    torch.save({"epoch": 3, "optimizer": {}}, path)
    assert "only 'epoch', 'optimizer'" in refusal(path)
    torch.save([1, 2], path)
    assert "a list" in refusal(path)
    torch.save({"module": {"a.b": torch.empty(0)}}, path)
    assert "ZeRO stage 3" in refusal(path)
    torch.save({"a": torch.eye(3).to_sparse()}, path)
    assert "unsupported form" in refusal(path)
    torch.save({"a": torch.empty(3, device="meta")}, path)
    assert "without data" in refusal(path)


def test_a_deepspeed_checkpoint_split_over_gpus(tmp_path: Path):
    for rank in ("00", "01"):
        torch.save({"module": weights()}, tmp_path / f"mp_rank_{rank}_model_states.pt")
    assert "split over several GPUs" in refusal(tmp_path)


def test_torchscript(tmp_path: Path):
    path = tmp_path / "program.pt"
    with zipfile.ZipFile(path, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"program/{name}", bytes(1000))
    assert "TorchScript" in refusal(path)


@given(
    data=st.binary(max_size=200), start=st.sampled_from([b"", b"\x80\x02", b"PK\x03\x04", b"\x10" + bytes(7) + b"{"])
)
def test_any_bytes_are_refused_in_one_line(tmp_path_factory: pytest.TempPathFactory, data: bytes, start: bytes):
    path = tmp_path_factory.getbasetemp() / "any.ckpt"
    path.write_bytes(start + data)
    refusal(path)

"""Streaming safetensors files: read back by the library, sharded, exact."""

import json
import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from videocrafter.checkpoints.tensor_file import PlannedTensor, split_into_shards, write_part, write_tensors

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)


def planned(tensors: dict[str, Tensor], dtype: torch.dtype | None = None) -> list[PlannedTensor]:
    return [
        PlannedTensor(name=name, shape=tuple(value.shape), dtype=dtype or value.dtype, load=lambda value=value: value)
        for name, value in tensors.items()
    ]


def random_tensor(shape: list[int], dtype: torch.dtype) -> Tensor:
    return (torch.randn(shape, dtype=torch.float64) * 50).to(dtype)


@settings(max_examples=50, deadline=None)
@given(
    st.dictionaries(
        st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__" and name.isprintable()),
        st.tuples(st.lists(st.integers(0, 4), max_size=4), st.sampled_from(DTYPES)),
        max_size=6,
    )
)
def test_the_library_reads_back_what_was_written(tmp_path_factory, specs):
    path = tmp_path_factory.mktemp("tensors") / "model.safetensors"
    tensors = {name: random_tensor(shape, dtype) for name, (shape, dtype) in specs.items()}
    written: list[int] = []
    write_tensors(path, planned(tensors), on_bytes=written.append)
    got = load_file(path)
    assert got.keys() == tensors.keys()
    for name, value in tensors.items():
        assert got[name].dtype == value.dtype
        assert torch.equal(got[name], value)
    assert sum(written) == sum(value.nbytes for value in tensors.values())


def test_views_with_gaps_and_conversions(tmp_path: Path):
    wide = torch.arange(24.0).reshape(4, 6)
    write_tensors(tmp_path / "a.safetensors", planned({"transposed": wide.T, "part": wide[:, 1:3]}, torch.bfloat16))
    got = load_file(tmp_path / "a.safetensors")
    assert torch.equal(got["transposed"], wide.T.bfloat16())
    assert torch.equal(got["part"], wide[:, 1:3].bfloat16())


def test_values_too_large_for_the_wanted_precision_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"'big' has 1 values that are too large for float16 \(up to 1e\+05\)"):
        write_tensors(tmp_path / "a.safetensors", planned({"big": torch.tensor([1e5])}, torch.float16))
    infinite = {"mask": torch.tensor([0.0, -math.inf])}
    write_tensors(tmp_path / "b.safetensors", planned(infinite, torch.float16))
    assert load_file(tmp_path / "b.safetensors")["mask"].tolist() == [0.0, -math.inf]


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_weights_that_are_not_finite_are_refused(tmp_path: Path, bad: float):
    tensor = torch.tensor([0.0, bad, bad])
    plan = PlannedTensor(name="a", shape=(3,), dtype=torch.float32, load=lambda: tensor, is_weight=True)
    with pytest.raises(ValueError, match="'a' has 2 of 3 values that are NaN or infinite"):
        write_tensors(tmp_path / "a.safetensors", [plan])


def test_a_tensor_that_breaks_its_plan_and_an_unknown_type(tmp_path: Path):
    plan = PlannedTensor(name="a", shape=(2,), dtype=torch.float32, load=lambda: torch.ones(3))
    with pytest.raises(ValueError, match=r"'a' has shape \(3,\), expected \(2,\)"):
        write_tensors(tmp_path / "a.safetensors", [plan])
    with pytest.raises(ValueError, match="complex64, which safetensors does not support"):
        write_tensors(tmp_path / "b.safetensors", planned({"c": torch.ones(1, dtype=torch.complex64)}))


def test_shards_as_the_hub_knows_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("videocrafter.checkpoints.tensor_file.LARGEST_SHARD", 80)
    tensors = {f"layer{number}": torch.full((10,), float(number)) for number in range(5)}
    write_part(tmp_path, "model", planned(tensors))
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"] == {"total_size": 200}
    files = [f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)]
    assert sorted(path.name for path in tmp_path.glob("*.safetensors")) == files
    for name, value in tensors.items():
        assert torch.equal(load_file(tmp_path / index["weight_map"][name])[name], value)


def test_one_file_needs_no_index(tmp_path: Path):
    write_part(tmp_path, "model", planned({"a": torch.ones(3)}))
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


@given(st.lists(st.integers(0, 9), max_size=12), st.integers(1, 12))
def test_no_shard_is_larger_than_allowed_unless_one_tensor_is(sizes: list[int], largest: int):
    tensors = planned({str(index): torch.empty(size, dtype=torch.uint8) for index, size in enumerate(sizes)})
    shards = split_into_shards(tensors, largest)
    assert [tensor for shard in shards for tensor in shard] == tensors
    for shard in shards:
        assert sum(tensor.num_bytes for tensor in shard) <= largest or len(shard) == 1

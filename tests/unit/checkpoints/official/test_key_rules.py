"""Rules are exact in both directions, for any shapes, and reject tensors that do not fit."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from videocrafter.checkpoints.official.key_rules import Rule, module_rules, tensor_rules, with_prefix

RULES = (*tensor_rules("net.", "", [("scale", "gain")]), *module_rules("net.", "", [("0", "linear")], weight_axes=1))


@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    unit_axes=st.integers(0, 3),
    parts=st.integers(1, 4),
    dtype=st.sampled_from([torch.float32, torch.bfloat16, torch.int64]),
)
def test_there_and_back_is_the_same_bit_by_bit(shape: list[int], unit_axes: int, parts: int, dtype: torch.dtype):
    rule = Rule(official="key", own=tuple(f"own{part}" for part in range(parts)), unit_axes=unit_axes)
    official = (torch.randn(shape[0] * parts, *shape[1:], *[1] * unit_axes) * 100).to(dtype)
    own = rule.to_own({"key": official})
    assert [tuple(tensor.shape) for tensor in own.values()] == [tuple(shape)] * parts
    back = rule.to_official(own)
    assert list(back) == ["key"]
    assert back["key"].dtype == dtype
    assert torch.equal(back["key"], official)
    assert {name: tensor.shape for name, tensor in rule.to_own({"key": official.to("meta")}).items()} == {
        name: tensor.shape for name, tensor in own.items()
    }


def test_parts_come_in_the_order_of_their_names():
    own = Rule(official="in_proj", own=("q", "k", "v")).to_own({"in_proj": torch.arange(6)})
    assert {name: tensor.tolist() for name, tensor in own.items()} == {"q": [0, 1], "k": [2, 3], "v": [4, 5]}


def test_what_comes_out_shares_the_memory_of_what_went_in():
    stacked = torch.zeros(6, 2)
    own = Rule(official="in_proj", own=("q", "k", "v")).to_own({"in_proj": stacked})
    assert {tensor.untyped_storage().data_ptr() for tensor in own.values()} == {stacked.untyped_storage().data_ptr()}


@pytest.mark.parametrize(
    ("rule", "tensor", "message"),
    [
        (
            Rule(official="a", own=("b",), unit_axes=1),
            torch.zeros(2, 3),
            r"a has shape \(2, 3\); expected 1 trailing axes of size 1",
        ),
        (
            Rule(official="a", own=("b",), unit_axes=2),
            torch.zeros(1),
            r"a has shape \(1,\); expected 2 trailing axes of size 1",
        ),
        (Rule(official="a", own=("q", "k", "v")), torch.zeros(4), r"a has shape \(4,\); .* 3 equal parts"),
        (Rule(official="a", own=("q", "k", "v")), torch.zeros(()), r"a has shape \(\); .* 3 equal parts"),
    ],
)
def test_a_shape_that_does_not_fit_is_named(rule: Rule, tensor: Tensor, message: str):
    with pytest.raises(ValueError, match=message):
        rule.to_own({"a": tensor})


def test_parts_of_one_tensor_must_be_equal():
    with pytest.raises(ValueError, match=r"q, k have shapes \(2,\), \(3,\)"):
        Rule(official="a", own=("q", "k")).to_official({"q": torch.zeros(2), "k": torch.zeros(3)})


def test_a_prefix_stands_before_official_keys_only():
    assert [(rule.official, rule.own) for rule in with_prefix("model.", RULES)] == [
        ("model.net.scale", ("gain",)),
        ("model.net.0.weight", ("linear.weight",)),
        ("model.net.0.bias", ("linear.bias",)),
    ]

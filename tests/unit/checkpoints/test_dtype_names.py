import pytest
import torch

from videocrafter.checkpoints.dtype_names import parse_dtype


def test_dtypes_and_their_names():
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        name = str(dtype)
        assert parse_dtype(dtype) == parse_dtype(name) == parse_dtype(name.removeprefix("torch.")) == dtype
    assert parse_dtype(torch.float64) == torch.float64


@pytest.mark.parametrize("value", ["bf17", "", "int8", "torch", torch.int8, None, 16])
def test_other_values_are_refused(value: object):
    with pytest.raises(ValueError, match=r"unknown dtype .*; expected one of float32, bfloat16, float16"):
        parse_dtype(value)  # type: ignore[arg-type]

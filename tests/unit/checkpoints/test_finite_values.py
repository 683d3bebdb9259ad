import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.checkpoints.finite_values import count_nonfinite, describe_nonfinite


@given(
    values=st.lists(st.floats(width=32), max_size=20),
    dtype=st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64]),
)
def test_the_count_is_that_of_isfinite(values: list[float], dtype: torch.dtype):
    tensor = torch.tensor(values, dtype=torch.float64).to(dtype)
    assert count_nonfinite(tensor) == int((~torch.isfinite(tensor)).sum())


def test_integers_and_tensors_without_data_are_finite():
    assert count_nonfinite(torch.ones(3, dtype=torch.int8)) == 0
    assert count_nonfinite(torch.empty(3, device="meta")) == 0
    assert count_nonfinite(torch.tensor([1.0, float("nan")]).to(torch.float8_e4m3fn)) == 1


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_the_first_tensor_is_named_and_all_are_counted(bad: float):
    good, one, two = torch.ones(3), torch.tensor([bad, 1.0]), torch.tensor([bad, bad])
    assert describe_nonfinite([("a", good)]) is None
    assert describe_nonfinite([("a", good), ("b", one)]) == "'b' has 1 values that are NaN or infinite"
    assert describe_nonfinite([("b", one), ("c", two)]) == (
        "'b' has 1 values that are NaN or infinite (3 in 2 tensors)"
    )

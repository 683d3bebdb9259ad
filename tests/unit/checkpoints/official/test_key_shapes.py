import pytest

from videocrafter.checkpoints.official.key_shapes import has_module, num_modules, shape_at

SHAPES = {"net.0.weight": (2, 3), "net.1.weight": (2,), "net.3.weight": (0, 1), "net.10.weight": ()}


def test_a_shape_must_be_there_and_sensible():
    assert shape_at(SHAPES, "net.0.weight", 2) == (2, 3)
    assert shape_at(SHAPES, "net.10.weight", 0) == ()
    for key, num_axes, message in (
        ("net.2.weight", 1, "lacks 'net.2.weight'"),
        ("net.0.weight", 3, r"net.0.weight has shape \(2, 3\); expected 3 axes"),
        ("net.3.weight", 2, r"net.3.weight has shape \(0, 1\); .* none of them empty"),
    ):
        with pytest.raises(ValueError, match=message):
            shape_at(SHAPES, key, num_axes)


def test_modules_are_counted_up_to_the_first_gap():
    assert num_modules(SHAPES, "net.") == 2
    with pytest.raises(ValueError, match=r"lacks 'other\.0\.\*'"):
        num_modules(SHAPES, "other.")


def test_a_module_is_there_if_any_key_begins_with_it():
    assert has_module(SHAPES, "net.10.")
    assert not has_module(SHAPES, "net.2.")

from typing import Any

import pytest

from videocrafter.checkpoints.official.config_values import check_whole, check_whole_list, number_of, section_of


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", None, [1]])
def test_what_is_no_whole_number_is_named(value: Any):
    check_whole({"a": 3, "b": value}, ("a", "missing"), "here")
    with pytest.raises(ValueError, match=r"^here\.b is .*; expected a positive integer$"):
        check_whole({"a": 3, "b": value}, ("a", "b"), "here")


@pytest.mark.parametrize("value", [3, "12", [1, 0], [1, "2"], [True], None])
def test_what_is_no_list_of_whole_numbers_is_named(value: Any):
    with pytest.raises(ValueError, match=r"^here\.b is .*; expected a list of positive integers"):
        check_whole_list({"b": value}, "b", "here", may_be_empty=True)


def test_lists():
    for value in ([1, 2], (4,)):
        check_whole_list({"b": value}, "b", "here")
    check_whole_list({"b": []}, "b", "here", may_be_empty=True)
    check_whole_list({}, "b", "here")
    with pytest.raises(ValueError, match=r"here\.b is \[\]"):
        check_whole_list({"b": []}, "b", "here")


@pytest.mark.parametrize("value", ["0.7", True, None, [1], float("nan"), float("inf")])
def test_what_is_no_number_is_named(value: Any):
    assert number_of({"a": 3}, "a", 1.0) == 3.0
    assert number_of({}, "a", 1.0) == 1.0
    with pytest.raises(ValueError, match=r"^here\.a is .*; expected a finite number$"):
        number_of({"a": value}, "a", 1.0, "here.")


def test_sections():
    assert section_of({"a": {"b": 1}}, "a", "") == {"b": 1}
    assert section_of({"a": None}, "a", "") == section_of({}, "a", "") == {}
    with pytest.raises(ValueError, match=r"^model\.a is \[1\]; expected a mapping$"):
        section_of({"a": [1]}, "a", "model.")

from typing import Any

import pytest

from videocrafter.checkpoints.config_values import check_whole, check_whole_list, section_of


@pytest.mark.parametrize("value", [0, -1, 1.0, True, "3", None, [1]])
def test_what_is_no_whole_number_is_named(value: Any):
    check_whole({"a": 3, "b": value}, ("a", "missing"), "here")
    with pytest.raises(ValueError, match=r"^here\.b is .*; expected a whole number above 0$"):
        check_whole({"a": 3, "b": value}, ("a", "b"), "here")


@pytest.mark.parametrize("value", [3, "12", [1, 0], [1, "2"], [True], None])
def test_what_is_no_list_of_whole_numbers_is_named(value: Any):
    with pytest.raises(ValueError, match=r"^here\.b is .*; expected a list of whole numbers above 0"):
        check_whole_list({"b": value}, "b", "here", may_be_empty=True)


def test_lists():
    for value in ([1, 2], (4,)):
        check_whole_list({"b": value}, "b", "here")
    check_whole_list({"b": []}, "b", "here", may_be_empty=True)
    check_whole_list({}, "b", "here")
    with pytest.raises(ValueError, match=r"here\.b is \[\]"):
        check_whole_list({"b": []}, "b", "here")


def test_sections():
    assert section_of({"a": {"b": 1}}, "a", "") == {"b": 1}
    assert section_of({"a": None}, "a", "") == section_of({}, "a", "") == {}
    with pytest.raises(ValueError, match=r"^model\.a is \[1\]; expected a mapping$"):
        section_of({"a": [1]}, "a", "model.")
